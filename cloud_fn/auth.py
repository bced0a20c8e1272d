"""Bearer keys. Only their hashes stay in memory, and nothing here is ever logged."""

import hashlib
import hmac
import stat
from collections.abc import Sequence
from pathlib import Path

from cloud_fn.errors import ServeError, Unauthenticated

MIN_KEY_CHARS = 16


class Keys:
    """The keys that open the server; with none, everybody may enter."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._digests = tuple(_digest(key) for key in keys)

    @classmethod
    def read(cls, path: Path | None) -> "Keys":
        """Take the keys of a file; see :func:`read_keys`."""
        return cls() if path is None else cls(read_keys(path))

    @property
    def are_needed(self) -> bool:
        """Whether there is any; without one :meth:`check` lets everybody in."""
        return bool(self._digests)

    def check(self, authorization: str | None) -> None:
        """Let a caller in by the value of its ``authorization`` header.

        Every known key is compared, each in constant time, whichever matches.

        Raises:
            Unauthenticated: a key is required and this is none of them.
        """
        if not self._digests:
            return
        scheme, _, key = (authorization or "").partition(" ")
        shown = _digest(key.strip())
        known = [hmac.compare_digest(shown, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(known):
            raise Unauthenticated(
                "the server needs a key: send the metadata `authorization: Bearer KEY`"
            )


def first_key(path: Path | None) -> str | None:
    """What a client shows: the first key of a file; None without one. See :func:`read_keys`."""
    return None if path is None else read_keys(path)[0]


def read_keys(path: Path) -> list[str]:
    """Read a key file: one key a line; empty lines and lines that start with ``#`` are not.

    Raises:
        ServeError: it cannot be read, others may read it, or it holds no key or a short one.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII text"
        raise ServeError(f"key file {path} cannot be read: {reason}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ServeError(f"key file {path} can be read by others: run `chmod 600 {path}`")
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys or min(map(len, keys)) < MIN_KEY_CHARS:
        raise ServeError(
            f"key file {path} must hold one key a line, each of at least {MIN_KEY_CHARS} "
            "characters: make one with `openssl rand -hex 32`"
        )
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
