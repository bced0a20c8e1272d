"""Files named by what they hold: ``blobs/sha256/<digest>``. Written once, never changed."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_fn.errors import RegistryError
from cloud_fn.registry.manifest import StoredFile
from planner.memo import Memo, Stamp, stamp_of

_CHUNK_BYTES = 1 << 20
_ABANDONED_S = 86_400.0


class Blobs:
    """The store below *root*; nothing is created before something is put into it."""

    def __init__(self, root: Path) -> None:
        self._files = root / "blobs" / "sha256"
        self._staging = root / "staging"
        self.memo = Memo(root / "digests")

    def path(self, file: StoredFile) -> Path:
        """Where *file* lies.

        Raises:
            RegistryError: it is gone, or not of its size any more.
        """
        path = self._files / file.digest
        try:
            size = path.stat().st_size
        except OSError as error:
            raise RegistryError(
                f"the registry has lost {file.name} ({file.digest[:12]}): push the model again"
            ) from error
        if size != file.size_bytes:
            raise RegistryError(
                f"the registry's {file.name} ({file.digest[:12]}) has {size} bytes in place of "
                f"{file.size_bytes}: remove the file and push the model again"
            )
        return path

    def is_intact(self, file: StoredFile) -> bool:
        """Whether *file* is there and holds what it held when it was stored.

        It is read only where it has changed since that was last seen.
        """
        return self.memo.holds(self._files / file.digest, file.digest, file.size_bytes)

    def checked(self, file: StoredFile) -> Stamp:
        """What *file*'s own file is, while it holds what it held when it was stored.

        Raises:
            RegistryError: it is damaged, or gone.
        """
        path = self._files / file.digest
        try:
            stamp = stamp_of(path)
        except OSError as error:
            raise RegistryError(f"the registry has lost {file.name} ({path.name[:12]})") from error
        if not self.is_intact(file):
            raise RegistryError(f"the registry's {file.name} ({path.name[:12]}) is damaged")
        return stamp

    @property
    def folder(self) -> Path:
        """Where all files lie."""
        return self._files

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """Lend a directory on the store's own file system, gone afterwards with all it holds."""
        self._staging.mkdir(parents=True, exist_ok=True)
        self._clear_abandoned()
        path = Path(tempfile.mkdtemp(prefix="push-", dir=self._staging))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def put(self, staged: Path, name: str) -> StoredFile:
        """Move *staged*, a file below a :meth:`stage`, into the store.

        What is there already stays as it is, unless it is damaged.
        """
        digest, size = fingerprint(staged)
        self._files.mkdir(parents=True, exist_ok=True)
        target = self._files / digest
        stored = StoredFile(name=name, digest=digest, size_bytes=size)
        if not self.is_intact(stored):
            staged.chmod(0o444)
            _flush(staged)
            staged.replace(target)
            _flush(self._files)
            self.memo.remember([target], digest, settled=True)
        return stored

    def _clear_abandoned(self) -> None:
        """Remove what pushes left that were killed; none takes a day."""
        for path in self._staging.iterdir():
            try:
                old = time.time() - path.stat().st_mtime > _ABANDONED_S
            except FileNotFoundError:
                continue
            if old:
                shutil.rmtree(path, ignore_errors=True)


def fingerprint(path: Path) -> tuple[str, int]:
    """SHA-256 (hex) and size in bytes of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def create_whole(path: Path, data: bytes) -> bool:
    """Create *path* so that it is never seen half written, and never replaces another.

    Returns:
        False when something has that name already.
    """
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # unlike a rename, it fails when the name is taken
        except FileExistsError:
            return False
    finally:
        fresh.unlink()
    _flush(path.parent)
    return True


def replace_whole(path: Path, data: bytes) -> None:
    """Put *data* in the place of *path*, whole, whatever happens to the machine meanwhile."""
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
