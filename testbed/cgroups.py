"""A CPU quota for a group of processes: Linux cgroups, version 1 or 2, whichever can be written.

One group per object, named after this process and removed with the object.
"""

import contextlib
import itertools
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "isthmus-device"
REMOVE_TRIES = 50
REMOVE_PAUSE_S = 0.02

_numbers = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """CPU time in microseconds per period, of one core."""

    quota_us: int
    period_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder of the cgroup tree where a group may be made, and where its members go back to."""

    version: int
    parent: Path
    home: Path


class Group:
    """A cgroup with a quota.

    Raises:
        OSError: it cannot be made here; the caller tries another place.
    """

    def __init__(self, place: Place, quota: Quota) -> None:
        self.version = place.version
        self.path = place.parent / f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        self._home = place.home
        self.path.mkdir()
        try:
            self._limit(quota)
        except OSError:
            self.path.rmdir()
            raise

    @property
    def procs(self) -> Path:
        """A process joins by writing its pid here."""
        return self.path / "cgroup.procs"

    def remove(self) -> None:
        """Send what still runs in it back where we are, and remove it."""
        for _ in range(REMOVE_TRIES):
            try:
                for pid in self.procs.read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        (self._home / "cgroup.procs").write_text(pid)
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError as error:  # a process that is just ending is still counted
                reason = error.strerror
            else:
                return
            time.sleep(REMOVE_PAUSE_S)
        log.warning("cgroup left behind: path=%s reason=%s", self.path, reason)

    def _limit(self, quota: Quota) -> None:
        if self.version == 2:
            (self.path / "cpu.max").write_text(f"{quota.quota_us} {quota.period_us}")
        else:
            (self.path / "cpu.cfs_period_us").write_text(str(quota.period_us))
            (self.path / "cpu.cfs_quota_us").write_text(str(quota.quota_us))


def make_group(quota: Quota, *, proc: Path = Path("/proc")) -> Group | str:
    """A group with *quota*, or the reason why there can be none."""
    reasons = ["there is no CPU controller"]
    for place in places(
        (proc / "self/mounts").read_text() if (proc / "self/mounts").is_file() else "",
        (proc / "self/cgroup").read_text() if (proc / "self/cgroup").is_file() else "",
    ):
        sweep(place.parent)
        try:
            return Group(place, quota)
        except OSError as error:
            reasons.append(f"{place.parent}: {error.strerror}")
    return reasons[-1]


def places(mounts: str, own: str) -> Iterator[Place]:
    """Where a group with a CPU quota may go, the likeliest first.

    Version 1: below our own group. Version 2: beside our own group or further up, since a group
    with members cannot limit children of its own.

    Args:
        mounts: the text of ``/proc/self/mounts``.
        own: the text of ``/proc/self/cgroup``.
    """
    groups = {
        controllers: path.lstrip("/")
        for _, controllers, path in (line.split(":", 2) for line in own.splitlines() if line)
    }
    for line in mounts.splitlines():
        _, target, kind, options, *_ = line.split()
        root = Path(target)
        if kind == "cgroup" and "cpu" in options.split(","):
            path = next((at for names, at in groups.items() if "cpu" in names.split(",")), "")
            yield Place(version=1, parent=root / path, home=root / path)
        elif kind == "cgroup2":
            home = root / groups.get("", "")
            for parent in (home, *home.parents):
                if parent == root.parent:
                    break
                if "cpu" in _words(parent / "cgroup.subtree_control"):
                    yield Place(version=2, parent=parent, home=home)


def sweep(parent: Path) -> None:
    """Remove the empty groups of processes that are gone and could not clean up."""
    for path in parent.glob(f"{PREFIX}-*-*"):
        pid = path.name.split("-")[-2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):
                path.rmdir()


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
