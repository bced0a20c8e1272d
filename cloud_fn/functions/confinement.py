"""What one instance may use and touch, and how it is held to that."""

import os
import resource
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from cloud_fn.functions import landlock, prctl

_MiB = 1 << 20
_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", "/etc"),
    *("/proc", "/sys", "/dev", "/run/systemd/resolve"),
)


class Confinement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of one instance.

    Attributes:
        max_memory_bytes: memory that cannot be given back to the system at will, which files that
            are mapped to be read (weights) can; of all its processes together.
        open_files: files, sockets and pipes of one process at one time.
        cpus: the processors it may run on; None is all.
        environment: variables beside those that every instance has.
        writable_paths: folders it may write in beside its own, such as a cache of the node's.
    """

    max_memory_bytes: Annotated[int, msgspec.Meta(ge=16 * _MiB)] = 2048 * _MiB
    open_files: Annotated[int, msgspec.Meta(ge=64, le=1 << 20)] = 1024
    cpus: tuple[int, ...] | None = None
    environment: dict[str, str] = {}
    writable_paths: tuple[str, ...] = ()


class Cell:
    """What holds a process to its limits, made ready ahead because that takes a millisecond.

    The wall against memory is the size of what is private and writable, beyond what the process
    has at first: an allocation that would pass it fails at once. What it cannot see, such as memory
    shared with children, is looked at from outside; see :class:`cloud_fn.functions.brood.Brood`.
    """

    def __init__(self, home: str, *, readable: tuple[str, ...]) -> None:
        """Prepare it for this process, which gives up what root may do and others may not.

        Args:
            home: the folder that is the process's own.
            readable: what it may read, beside the system's and Python's files.

        Raises:
            OSError: the system refused.
        """
        prctl.gain_no_privileges()
        prctl.keep_file_capabilities()
        self._first_bytes = _data_bytes()
        self._rules = landlock.Ruleset()
        self._rules.allow_reading((*_SYSTEM, *_python(), *readable))
        self._rules.allow_writing([home])
        gpus = (str(path) for path in Path("/dev").iterdir() if path.name.startswith("nvidia"))
        self._rules.allow_devices(("/dev/null", *gpus))

    def lock(
        self, limits: Confinement, *, readable: Iterable[str], writable: Iterable[str]
    ) -> bool:
        """Hold this process to *limits*, and all that it will start; it has one thread yet.

        Args:
            limits: what it may use.
            readable: what else it may read.
            writable: what else it may write in.

        Returns:
            Whether files are out of its reach; False where the kernel cannot do that.

        Raises:
            OSError: the system refused, such as for processors that it does not have.
        """
        if limits.cpus is not None:
            os.sched_setaffinity(0, limits.cpus)
        for kind, value in (
            (resource.RLIMIT_DATA, self._first_bytes + limits.max_memory_bytes),
            (resource.RLIMIT_NOFILE, limits.open_files),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(kind, (value, value))
        self._rules.allow_reading(readable)
        self._rules.allow_writing((*limits.writable_paths, *writable))
        return self._rules.restrict()


def _python() -> Iterator[str]:
    """Where modules are imported from, this project's own among them."""
    yield from {sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(os.path.isabs, sys.path)}


def _data_bytes() -> int:
    """How much the kernel counts against ``RLIMIT_DATA`` now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmData: mount /proc")
