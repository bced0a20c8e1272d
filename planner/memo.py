"""Digests of large files, remembered for as long as the files do not change.

SHA-256 reads 0.9 GB/s here (2026-11): a second for each start of a model of that size. As ``make``
and git do, a file is taken as unchanged while its inode, size and time of change are the same.
"""

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from protos.documents import DocumentError, read_json, write_json

CHUNK_BYTES = 1 << 20
_SETTLED_NS = 2 * 10**9
"""A file changed more recently may change again without its time moving: FAT counts in 2 s."""


class Stamp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What tells one state of a file from another."""

    path: str
    device: int
    inode: int
    size_bytes: int
    changed_ns: int


def stamp_of(path: Path) -> Stamp:
    """What *path* is now.

    Raises:
        OSError: there is no such file.
    """
    status = path.stat()
    return Stamp(
        path=str(path.absolute()),
        device=status.st_dev,
        inode=status.st_ino,
        size_bytes=status.st_size,
        changed_ns=status.st_mtime_ns,
    )


class Remembered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A digest over the bytes of *files* as they were."""

    schema: Literal["isthmus.digest/1"]
    files: tuple[Stamp, ...]
    digest: str


class Memo:
    """Digests below *folder*. Whatever cannot be read or written is as if never remembered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def recall(self, files: Sequence[Path]) -> str | None:
        """The digest that was remembered for *files*, None where there is none or one changed."""
        try:
            known = read_json(self._path(files), Remembered, what="digest")
            return known.digest if known.files == _stamps(files) else None
        except (DocumentError, OSError):
            return None

    def remember(self, files: Sequence[Path], digest: str, *, settled: bool = False) -> None:
        """Remember *digest*; *settled* says that nobody else writes these files."""
        with suppress(OSError):
            stamps = _stamps(files)
            newest_ns = max(stamp.changed_ns for stamp in stamps)
            if settled or newest_ns < time.time_ns() - _SETTLED_NS:
                self.folder.mkdir(parents=True, exist_ok=True)
                known = Remembered(schema="isthmus.digest/1", files=stamps, digest=digest)
                write_json(self._path(files), known)

    def holds(self, path: Path, digest: str, size_bytes: int) -> bool:
        """Whether the file *path* has this size and, by memory or by being read, this SHA-256."""
        try:
            if path.stat().st_size != size_bytes:
                return False
            found = self.recall([path])
            if found is None:
                found = sha256_of(path).hex()
                self.remember([path], found, settled=True)
        except (OSError, EOFError):
            return False
        return found == digest

    def forget_missing(self) -> None:
        """Remove the digests of files that are gone."""
        with suppress(OSError):
            for path in self.folder.glob("*.json"):
                try:
                    known = read_json(path, Remembered, what="digest")
                    gone = not all(Path(stamp.path).exists() for stamp in known.files)
                except DocumentError:
                    gone = True
                if gone:
                    path.unlink(missing_ok=True)

    def _path(self, files: Sequence[Path]) -> Path:
        names = "\n".join(str(path.absolute()) for path in files)
        return self.folder / f"{hashlib.sha256(names.encode()).hexdigest()[:32]}.json"


def sha256_of(path: Path, offset: int = 0, length: int | None = None) -> bytes:
    """SHA-256 of *length* bytes of a file from *offset*, or of the rest of it.

    Raises:
        EOFError: the file ends before.
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    left = length
    with path.open("rb") as file:
        file.seek(offset)
        while left is None or left > 0:
            chunk = file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
            if not chunk:
                break
            digest.update(chunk)
            left = None if left is None else left - len(chunk)
    if left:
        raise EOFError(f"{path} ends {left} bytes too early")
    return digest.digest()


def _stamps(files: Sequence[Path]) -> tuple[Stamp, ...]:
    return tuple(map(stamp_of, files))
