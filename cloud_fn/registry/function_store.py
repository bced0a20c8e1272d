"""Functions' settings, one file for each: ``functions/<name>.json`` below the registry's root."""

import fcntl
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from cloud_fn.errors import RegistryError
from cloud_fn.functions.settings import Settings, SettingsError, check
from cloud_fn.registry.blobs import replace_whole
from cloud_fn.registry.manifest import check_name, is_name
from protos.documents import DocumentError, encode_json, read_json

log = logging.getLogger(__name__)

_Stamp: TypeAlias = tuple[int, int, int]


class FunctionDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One function's file. ``changed`` is in UTC, ISO 8601."""

    schema: Literal["isthmus.function/1"] = "isthmus.function/1"
    name: str
    changed: str
    settings: Settings


class FunctionStore:
    """The settings below *root*; safe to use from several threads and several processes at once."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "functions"
        self._read: dict[str, tuple[_Stamp, FunctionDocument]] = {}
        self._refused: dict[str, _Stamp] = {}
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """The functions of which something is said.

        Raises:
            RegistryError: the folder cannot be read.
        """
        try:
            found = [path.stem for path in self._folder.iterdir() if path.suffix == ".json"]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise RegistryError(f"{self._folder} cannot be read: {error.strerror}") from error
        return tuple(sorted(filter(is_name, found)))

    def get(self, name: str) -> FunctionDocument | None:
        """What is said of *name* now, read again when its file has changed; None is nothing.

        Whoever has read a file before goes on with that while it makes no sense.

        Raises:
            RegistryError: the file cannot be read, and never was.
        """
        if not is_name(name):
            return None
        path = self._path(name)
        try:
            status = path.stat()
        except FileNotFoundError:
            if name in self._read or name in self._refused:
                self._forget(name)
            return None
        except OSError as error:
            raise RegistryError(f"{path} cannot be read: {error.strerror}") from error
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        known = self._read.get(name)
        if known is not None and stamp in (known[0], self._refused.get(name)):
            return known[1]
        return self._reread(name, stamp)

    def update(
        self,
        name: str,
        change: Callable[[Settings | None], Settings],
        *,
        afresh: bool = False,
    ) -> FunctionDocument:
        """Have *change* make *name*'s settings of those that it has, and keep them.

        Those that it has are not looked at if it begins *afresh*, so that they may be broken.

        Raises:
            RegistryError: they cannot be read or written, or the name is none.
            SettingsError: whatever *change* raises.
        """
        path = self._path(check_name(name))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with locked(self._folder):
                known = None if afresh else self.get(name)
                document = FunctionDocument(
                    name=name,
                    changed=datetime.now(UTC).isoformat(timespec="seconds"),
                    settings=change(None if known is None else known.settings),
                )
                replace_whole(path, encode_json(document))
        except OSError as error:
            raise RegistryError(f"{path} cannot be written: {error.strerror}") from error
        return document

    def _path(self, name: str) -> Path:
        return _path(self._folder, name)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._read.pop(name, None)
            self._refused.pop(name, None)

    def _reread(self, name: str, stamp: _Stamp) -> FunctionDocument:
        try:
            document = self._load(name)
        except RegistryError as error:
            with self._lock:
                known = self._read.get(name)
                self._refused[name] = stamp
            if known is None:
                raise
            log.error("settings not read, the last ones hold: function=%s error=%s", name, error)
            return known[1]
        with self._lock:
            self._read[name] = stamp, document
            self._refused.pop(name, None)
        return document

    def _load(self, name: str) -> FunctionDocument:
        path = self._path(name)
        try:
            document = read_json(path, FunctionDocument, what="function")
            check(document.settings)
        except (DocumentError, SettingsError) as error:
            said = f"{path}: {error}" if isinstance(error, SettingsError) else str(error)
            raise RegistryError(
                f"{said}; set all of it with `isthmus functions set {name} --file F.toml`"
            ) from error
        if document.name != name:
            raise RegistryError(f"{path} is that of {document.name}: move it back")
        return document


@functools.lru_cache(maxsize=1024)
def _path(folder: Path, name: str) -> Path:
    """The file of *name*, which is looked at with each request: to make a path costs as much."""
    return folder / f"{name}.json"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One change in *folder* at a time; the lock ends with the process that holds it."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
