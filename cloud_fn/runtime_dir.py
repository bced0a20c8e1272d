"""Where a running server keeps its sockets, its token and a record of its processes.

Below one directory that only its owner may enter, each server has a directory named by its process
number. What a killed server left there is cleaned up when the next one starts.
"""

import contextlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from cloud_fn import processes
from cloud_fn.errors import ServeError
from cloud_fn.processes import Mark
from protos.documents import DocumentError, encode_json, read_json

_RECORD = "server.json"
_HOST_RECORD = "host.json"
_NEW = ".new-"
_MOST_CHARS = 31
"""A Unix socket's path holds 107 characters; Ray's need 64 of them and our directory 12."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the next server, or host, must know of this one."""

    server: Mark
    processes: tuple[Mark, ...] = ()


class RuntimeDir:
    """One server's directory; made by :meth:`create`, gone after :meth:`remove`."""

    def __init__(self, path: Path, server: Mark) -> None:
        self.path = path
        self._server = server
        self._started: frozenset[Mark] = frozenset()
        self._lock = threading.Lock()

    @classmethod
    def create(cls, base: Path) -> "RuntimeDir":
        """Make this process's directory below *base*, after clearing what dead servers left.

        Raises:
            ServeError: *base* cannot be made, is not ours alone, or is too long for sockets.
        """
        base = base.absolute()
        if len(str(base)) > _MOST_CHARS:
            raise ServeError(
                f"runtime_dir {base} is too long for sockets: use at most {_MOST_CHARS} "
                "characters, such as /tmp/isthmus"
            )
        server = processes.mark(os.getpid())
        assert server is not None
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_ours(base)
            clear_stale(base)
            fresh = Path(tempfile.mkdtemp(prefix=f"{_NEW}{server.pid}-", dir=base))
            _write(fresh, Record(server=server))
            path = base / str(server.pid)
            shutil.rmtree(path, ignore_errors=True)
            fresh.rename(path)
        except OSError as error:
            raise ServeError(f"runtime_dir {base} cannot be used: {error.strerror}") from error
        return cls(path, server)

    def remember(self, started: Iterable[Mark]) -> None:
        """Record processes of this server, for whoever must clean up after it."""
        with self._lock:
            self._started = frozenset(filter(processes.alive, self._started)) | set(started)
            marks = tuple(sorted(self._started, key=lambda process: process.pid))
            _write(self.path, Record(server=self._server, processes=marks))

    def host(self, kind: str) -> "HostFolder":
        """Where the host of accelerators of that *kind* keeps what is its own."""
        return HostFolder(self.path / "hosts" / kind)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class HostFolder:
    """One host's directory, with its socket and its instances'; it is made by :meth:`take`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = path / "host.sock"
        self._complaint = path.with_name(f"{path.name}.why")

    def take(self) -> None:
        """Make it this process's own, after ending all that an earlier host left there.

        Raises:
            OSError: it cannot be made.
        """
        self.clear()
        self.path.mkdir(mode=0o700, parents=True)
        self.record(())

    def record(self, started: Iterable[Mark]) -> None:
        """Say which processes this one has now, for whoever must clean up after it."""
        host = processes.mark(os.getpid())
        assert host is not None
        _write(self.path, Record(server=host, processes=tuple(started)), _HOST_RECORD)

    def complain(self, why: str) -> None:
        """Say why there is no host, for whoever waits for one."""
        with contextlib.suppress(OSError):
            self._complaint.write_text(why)

    def complaint(self) -> str | None:
        """Take the newest complaint, if there is one."""
        try:
            why = self._complaint.read_text()
            self._complaint.unlink()
        except OSError:
            return None
        return why

    def end(self) -> None:
        """End the host that has it, if there is one, and all that it has started."""
        record = _read(self.path / _HOST_RECORD)
        if record is not None:
            processes.end_all((record.server, *record.processes))

    def clear(self) -> None:
        """As :meth:`end`, and remove it."""
        self.end()
        self.remove()

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def clear_stale(base: Path) -> tuple[Path, ...]:
    """End what servers that are dead have started, and remove their directories.

    A process is ended only if its number and start time are those that its server recorded.
    """
    cleared = []
    for path in sorted(base.iterdir()):
        record = _read(path / _RECORD)
        if record is not None and processes.alive(record.server):
            continue
        if record is None and not _is_abandoned(path):
            continue
        for found in sorted(path.glob(f"hosts/*/{_HOST_RECORD}")):
            HostFolder(found.parent).clear()
        if record is not None:
            processes.end_all(record.processes)
        shutil.rmtree(path, ignore_errors=True)
        cleared.append(path)
    return tuple(cleared)


def _is_abandoned(path: Path) -> bool:
    """Whether *path* is a directory of ours whose server died before it wrote its record."""
    number = path.name.removeprefix(_NEW).partition("-")[0]
    return path.is_dir() and number.isdecimal() and processes.mark(int(number)) is None


def _check_ours(base: Path) -> None:
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ServeError(f"runtime_dir {base} belongs to somebody else: set another runtime_dir")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ServeError(f"others may enter runtime_dir {base}: run `chmod 700 {base}`")


def _read(path: Path) -> Record | None:
    try:
        return read_json(path, Record, what="record")
    except DocumentError:
        return None


def _write(folder: Path, record: Record, name: str = _RECORD) -> None:
    fresh = folder / f"{name}.new"
    fresh.write_bytes(encode_json(record))
    fresh.replace(folder / name)
