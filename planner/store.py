"""The folder in which normal forms are kept between reads, by what they were made from.

Several processes may use it at once. An entry appears whole or not at all, is checked against its
own digests before each use, and is rebuilt where it does not match. The folder's size is bounded:
by default the entries unused for longest go first, but none that a process still holds.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from planner.memo import Memo, sha256_of
from protos.documents import DocumentError, read_json, write_json

MOST_BYTES = 4 * 2**30
"""What all entries together may take; the newest stays even where it alone takes more."""

ABANDONED_S = 86_400.0
BUILD_LIMIT_S = 600.0
_POLL_S = 0.05
_INDEX = "index.json"

Make = Callable[[Path], Mapping[str, str]]
"""Writes an entry's files into a folder; returns the SHA-256 (hex) of those it knows already."""


class StoredFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of an entry as it was written."""

    name: str
    size_bytes: int
    sha256: str


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an entry consists of."""

    schema: Literal["isthmus.normal/1"]
    files: tuple[StoredFile, ...]


class Lease:
    """Keeps an entry from being removed for as long as this object lives."""

    def __init__(self, path: Path) -> None:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits only while somebody renames the entry
            with suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    break
            os.close(descriptor)  # the entry went, and its lease with it, while we waited
        weakref.finalize(self, os.close, descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An entry's folder, and what keeps it there."""

    folder: Path
    lease: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry as it lies there: ``used_s`` is when it was last used, in seconds of the epoch."""

    folder: Path
    size_bytes: int
    used_s: float


class Keeping(Protocol):
    """Who goes first when there is no room."""

    def used(self, entry: Entry, made_s: float | None) -> None:
        """*entry* is used once more, or for the first time after *made_s* seconds of making it."""

    def order(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """All of *entries*, the first to go first."""

    def gone(self, entry: Entry) -> None:
        """*entry* went to make room."""


class LeastRecent:
    """What was unused for longest goes first."""

    def used(self, entry: Entry, made_s: float | None) -> None:
        del made_s
        with suppress(OSError):
            os.utime(entry.folder)

    def order(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        return sorted(entries, key=lambda entry: entry.used_s)

    def gone(self, entry: Entry) -> None:
        """Nothing is kept of it."""


def default_folder() -> Path:
    """Where normal forms are kept unless something else is said."""
    return Path.home() / ".cache" / "isthmus" / "normal"


class Store:
    """Entries below *root*; nothing is created before something is put into it."""

    def __init__(
        self, root: Path, *, most_bytes: int = MOST_BYTES, keeping: Keeping | None = None
    ) -> None:
        self._root = root
        self._most_bytes = most_bytes
        self._keeping = LeastRecent() if keeping is None else keeping
        self.memo = Memo(root / "digests")

    def get(self, key: str, make: Make) -> Kept:
        """The entry *key*, made by *make* where it is not there or damaged.

        Raises:
            OSError: the folder cannot be written.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        lease = Lease(self._root / f"{key}.lease")
        folder = self._root / key
        made_s = None
        if not self._is_whole(folder):
            with self._building(key):
                if not self._is_whole(folder):
                    began_s = time.monotonic()
                    self._build(folder, make)
                    made_s = time.monotonic() - began_s
            self._trim(keep=key)
        self._use(folder, made_s)
        return Kept(folder=folder, lease=lease)

    def find(self, key: str) -> Kept | None:
        """The entry *key* if it is there and whole; makes and writes nothing but what marks it.

        Raises:
            OSError: the folder cannot be written.
        """
        folder = self._root / key
        if not (folder / _INDEX).is_file():
            return None
        lease = Lease(self._root / f"{key}.lease")
        if not self._is_whole(folder):
            return None
        self._use(folder, None)
        return Kept(folder=folder, lease=lease)

    def entries(self) -> Sequence[Entry]:
        """All that there is."""
        try:
            folders = list(self._root.iterdir())
        except FileNotFoundError:
            return ()
        return tuple(entry for path in folders if (entry := _entry(path)) is not None)

    def remove(self, entry: Entry) -> bool:
        """Remove *entry* unless a process holds it.

        Raises:
            OSError: the folder cannot be written.
        """
        return self._remove_unless_held(entry.folder)

    def _use(self, folder: Path, made_s: float | None) -> None:
        if (entry := _entry(folder)) is not None:
            self._keeping.used(entry, made_s)

    def _is_whole(self, folder: Path) -> bool:
        try:
            index = read_json(folder / _INDEX, Index, what="entry")
        except DocumentError:
            return False
        return all(
            self.memo.holds(folder / file.name, file.sha256, file.size_bytes)
            for file in index.files
        )

    def _build(self, folder: Path, make: Make) -> None:
        draft = Path(tempfile.mkdtemp(prefix=".building-", dir=self._root))
        try:
            known = make(draft)
            files = []
            for path in sorted(draft.iterdir()):
                path.chmod(0o444)
                _flush(path)
                digest = known.get(path.name) or sha256_of(path).hex()
                size = path.stat().st_size
                files.append(StoredFile(name=path.name, size_bytes=size, sha256=digest))
            write_json(draft / _INDEX, Index(schema="isthmus.normal/1", files=tuple(files)))
            self._remove(folder)
            draft.rename(folder)
            for file in files:
                self.memo.remember([folder / file.name], file.sha256, settled=True)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @contextmanager
    def _building(self, key: str) -> Iterator[None]:
        """Let one process build an entry while the others wait for it.

        A builder that hangs holds nobody up for more than :data:`BUILD_LIMIT_S`: an entry is put
        in its place by one rename, so that two builders do no harm.
        """
        with (self._root / f"{key}.build").open("wb") as file:
            until = time.monotonic() + BUILD_LIMIT_S
            while time.monotonic() < until:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(_POLL_S)
            yield

    def _trim(self, keep: str) -> None:
        """Remove entries until the rest fits, and what builders left behind."""
        for path in self._root.iterdir():
            with suppress(OSError):
                abandoned = time.time() - path.stat().st_mtime > ABANDONED_S
                if path.name.startswith(".") and abandoned:
                    shutil.rmtree(path, ignore_errors=True)
        entries = self.entries()
        total = sum(entry.size_bytes for entry in entries)
        for entry in self._keeping.order(entries):
            if total <= self._most_bytes:
                break
            if entry.folder.name != keep and self._remove_unless_held(entry.folder):
                self._keeping.gone(entry)
                total -= entry.size_bytes
        self.memo.forget_missing()

    def _remove_unless_held(self, folder: Path) -> bool:
        lease = folder.with_name(f"{folder.name}.lease")
        with lease.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._remove(folder)
            lease.unlink(missing_ok=True)
            folder.with_name(f"{folder.name}.build").unlink(missing_ok=True)
        return True

    def _remove(self, folder: Path) -> None:
        """Take an entry out of its place first, so that nobody finds half of it."""
        if folder.exists():
            aside = Path(tempfile.mkdtemp(prefix=".removed-", dir=self._root))
            folder.rename(aside / folder.name)
            shutil.rmtree(aside, ignore_errors=True)


def _entry(folder: Path) -> Entry | None:
    """What lies in *folder*, None where that is no entry, or not any more."""
    try:
        if not (folder / _INDEX).is_file():
            return None
        size_bytes = sum(file.stat().st_size for file in folder.iterdir())
        used_s = folder.stat().st_mtime
    except OSError:
        return None
    return Entry(folder=folder, size_bytes=size_bytes, used_s=used_s)


def key_of(*parts: bytes) -> str:
    """An entry's name: SHA-256 over the digests of *parts*."""
    inner = b"".join(hashlib.sha256(part).digest() for part in parts)
    return hashlib.sha256(inner).hexdigest()[:40]


def temporary_store() -> tuple[Store, object]:
    """A store for this process alone, gone once the object beside it is."""
    folder = Path(tempfile.mkdtemp(prefix="isthmus-normal-"))
    owner = _Owner()
    weakref.finalize(owner, _remove_own, folder, os.getpid())
    return Store(folder), owner


class _Owner:
    """Its end is the folder's end."""


def _remove_own(folder: Path, maker: int) -> None:
    if os.getpid() == maker:  # a forked process lends the folder from its parent
        shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
