"""Processes named so that a stranger who inherits a number is never taken for one of ours."""

from collections.abc import Container, Sequence

import msgspec
import psutil

_SAME_START_S = 1.0  # the clock may be set between two readings; numbers are not reused that fast


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A process by its number and the time it started (seconds since the epoch)."""

    pid: int
    started_s: float


def mark(pid: int) -> Mark | None:
    """The process that has this number now, None if there is none."""
    try:
        return Mark(pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def descendants(pid: int) -> tuple[Mark, ...]:
    """All that *pid* has started, and what those have started."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return ()
    return tuple(found for child in children if (found := mark(child.pid)) is not None)


def children_named(pid: int, names: Container[str]) -> tuple[Mark, ...]:
    """The children of *pid* whose program is called one of *names*."""
    children = [child for child in psutil.Process(pid).children() if child.name() in names]
    return tuple(found for child in children if (found := mark(child.pid)) is not None)


def alive(process: Mark) -> bool:
    """Whether it still runs; one that ended and waits for its parent to notice does not."""
    return _find(process) is not None


def kill(process: Mark) -> bool:
    """End it at once; says whether it was still there."""
    found = _find(process)
    if found is None:
        return False
    try:
        found.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def wait_gone(processes: Sequence[Mark], timeout_s: float) -> tuple[Mark, ...]:
    """Wait until they have ended; gives those that are still there after *timeout_s*."""
    found = [each for each in map(_find, processes) if each is not None]
    psutil.wait_procs(found, timeout=timeout_s)
    return tuple(process for process in processes if alive(process))


def end(processes: Sequence[Mark], grace_s: float) -> None:
    """Give them *grace_s* to end by themselves, then end them."""
    for process in wait_gone(processes, grace_s):
        kill(process)
    wait_gone(processes, 5.0)


def _find(process: Mark) -> psutil.Process | None:
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started_s) < _SAME_START_S
        return found if same and found.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
