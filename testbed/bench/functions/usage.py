"""What processes hold and use: proportional memory, CPU time, and who is who in the server."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

OF_RAY = ("raylet", "gcs_server", "ray/_private", "ray/dashboard", "ray/autoscaler", "ray::IDLE")
"""In the command lines of Ray's own processes."""

QUIET_SHARE = 0.15
QUIET_LOOK_S = 0.2
QUIET_LIMIT_S = 8.0


def pss_bytes(pid: int) -> int:
    """Proportional set size: a page that n processes share counts for 1/n; 0 if it has gone.

    Resident size would count what instances share once for each.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = (line.split() for line in text.splitlines())
    return next(int(words[1]) * 1024 for words in lines if words[0] == "Pss:")


def tree(pid: int) -> tuple[psutil.Process, ...]:
    """*pid* and all its descendants, as they are now; none if it has gone."""
    try:
        top = psutil.Process(pid)
        return (top, *top.children(recursive=True))
    except psutil.NoSuchProcess:
        return ()


def pss_of(pids: Iterable[int]) -> int:
    """The same of several together, in bytes."""
    return sum(map(pss_bytes, pids))


def is_rays(process: psutil.Process) -> bool:
    """Whether it is one of Ray's own, such as its scheduler; one that has gone is none."""
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return any(word in line for word in OF_RAY)


def title(process: psutil.Process) -> str:
    """A short name for tables: what it calls itself, without numbers of its own."""
    try:
        words = process.cmdline() or [process.name()]
        name = process.name()
    except psutil.Error:
        return "gone"
    if words[0].startswith(("ray::", "isthmus")):
        return words[0].split("-")[0] if words[0].startswith("ray::") else words[0]
    if name.startswith("isthmus"):
        return name
    scripts = [Path(word).name for word in words[1:] if word.endswith(".py")]
    return scripts[0] if scripts and "python" in name else name


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """CPU time that they have used so far; those that have gone count nothing."""
    total = 0.0
    for each in processes:
        try:
            times = each.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def settle() -> float:
    """Wait until the machine does next to nothing; gives its busy share at the last look.

    What a measurement leaves behind (Ray fills its pool of workers again) must not burden the next.
    """
    deadline_s = time.monotonic() + QUIET_LIMIT_S
    while True:
        busy = psutil.cpu_percent(interval=QUIET_LOOK_S) / 100
        if busy <= QUIET_SHARE or time.monotonic() > deadline_s:
            return busy


def slope(values: Sequence[float]) -> float:
    """How much *values* rise from one to the next, by least squares; 0 for fewer than two."""
    count = len(values)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    spread = sum((at - middle) ** 2 for at in range(count))
    return sum((at - middle) * (value - mean) for at, value in enumerate(values)) / spread
