"""What one instance may use and touch, and how it is held to it from its first request on."""

import os
import resource
import sys
from collections.abc import Iterator
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


def confine(limits: Confinement, *, readable: tuple[str, ...], writable: tuple[str, ...]) -> bool:
    """Hold this process, which must have no other thread yet, and all it will start to *limits*.

    The wall against memory is the size of what is private and writable, beyond what the process
    has now: an allocation that would pass it fails at once. What it cannot see, such as memory
    shared with children, is looked at from outside; see :class:`cloud_fn.functions.host.Host`.

    Args:
        limits: what it may use.
        readable: what it may read, beside the system's and Python's files.
        writable: the folders that it may write in.

    Returns:
        Whether files are out of its reach; False where the kernel cannot do that.

    Raises:
        OSError: the system refused, such as for processors that it does not have.
    """
    if limits.cpus is not None:
        os.sched_setaffinity(0, limits.cpus)
    wall_bytes = _data_bytes() + limits.max_memory_bytes
    for kind, value in (
        (resource.RLIMIT_DATA, wall_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    prctl.gain_no_privileges()
    prctl.keep_file_capabilities()
    return landlock.restrict(
        readable=(*_SYSTEM, *_python(), *readable),
        writable=writable,
        devices=("/dev/null", *map(str, Path("/dev").glob("nvidia*"))),
    )


def _python() -> Iterator[str]:
    """Where modules are imported from, this project's own among them."""
    yield from {sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(os.path.isabs, sys.path)}


def _data_bytes() -> int:
    """How much the kernel counts against ``RLIMIT_DATA`` now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmData: mount /proc")
