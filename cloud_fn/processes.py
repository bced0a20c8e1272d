"""Processes named so that a stranger who inherits a number is never taken for one of ours."""

import contextlib
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import psutil

_PROC = Path("/proc")
_SAME_START_S = 1.0  # the clock may be set between two readings; numbers are not reused that fast
_GONE_S = 5.0


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


def children(pid: int) -> frozenset[int]:
    """The numbers of the processes that *pid* started or adopted, those not collected yet too."""
    found: set[int] = set()
    # The lists go while they are read where the process ends.
    with contextlib.suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                found.update(map(int, (task / "children").read_text().split()))
    return frozenset(found)


def tree(pid: int) -> tuple[int, ...]:
    """The number of a process and those of all its descendants."""
    found = [pid]
    for each in found:  # it grows while it is walked
        found.extend(children(each) - set(found))
    return tuple(found)


def session_of(pid: int) -> int | None:
    """The process that began the session in which *pid* is; None when it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def in_sessions(leaders: Iterable[int]) -> tuple[int, ...]:
    """All processes in the sessions that *leaders* began, be the leaders there or not."""
    wanted = frozenset(leaders)
    return tuple(pid for pid in _all() if session_of(pid) in wanted) if wanted else ()


def private_bytes(pids: Iterable[int], *, above: int = 0) -> int:
    """Memory of processes that the system cannot take back at will: what no file holds.

    What they share with others is divided between them, which is costly to find out: processes
    whose memory is no more than *above* even if all of it counted are given as 0.
    """
    found = tuple(pids)
    resident_bytes = sum(_bytes(pid, "status", ("RssAnon:", "RssShmem:")) for pid in found)
    if resident_bytes <= above:
        return 0
    return sum(_bytes(pid, "smaps_rollup", ("Pss_Anon:", "Pss_Shmem:")) for pid in found)


def end_all(started: Iterable[Mark]) -> None:
    """End processes at once, with all that they have started and all in sessions that they began.

    A number that somebody else has now is left alone.
    """
    marks = [each for each in started if (now := mark(each.pid)) is None or _is_same(each, now)]
    doomed = {pid for each in marks if alive(each) for pid in tree(each.pid)}
    doomed.update(in_sessions(each.pid for each in marks))
    found = [each for pid in sorted(doomed - {os.getpid()}) if (each := mark(pid)) is not None]
    for each in found:
        kill(each)
    wait_gone(found, _GONE_S)


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


def _all() -> Iterator[int]:
    return (int(path.name) for path in _PROC.iterdir() if path.name.isdecimal())


def _bytes(pid: int, file: str, names: tuple[str, ...]) -> int:
    """The sum of some lines of a file about a process that count KiB; 0 when it is gone."""
    try:
        lines = [line.split() for line in (_PROC / str(pid) / file).read_text().splitlines()]
    except OSError:
        return 0
    return 1024 * sum(int(words[1]) for words in lines if words and words[0] in names)


def _find(process: Mark) -> psutil.Process | None:
    try:
        found = psutil.Process(process.pid)
        same = _is_same(process, Mark(process.pid, found.create_time()))
        return found if same and found.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _is_same(one: Mark, other: Mark) -> bool:
    return one.pid == other.pid and abs(one.started_s - other.started_s) < _SAME_START_S
