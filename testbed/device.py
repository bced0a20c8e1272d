"""A slower machine: a command and its children held to a fraction of one core.

By a cgroup's CPU quota where one can be made, on one core if the fraction is at most 1; elsewhere
by one thread on one core and nothing more, which :attr:`Device.how` then says.

What a quota does and does not do. Time taken relative to the nominal (CPU time / fraction), mean
and standard deviation, of a computation (SHA-256) after an idle moment, pinned to one core, kernel
6.18 at 250 Hz, cgroup v1, 2026-11-24::

    fraction  period/quota     5 ms         10 ms        20 ms        50 ms
    0.1       10 / 1 ms     0.61 +-0.20  0.79 +-0.15  0.95 +-0.06  1.04 +-0.03   <- used
    0.1       20 / 2 ms     0.34 +-0.21  0.68 +-0.11  0.84 +-0.09  0.99 +-0.02
    0.1       50 / 5 ms     0.13 +-0.03  0.33 +-0.16  0.77 +-0.09  0.92 +-0.06
    0.1      100 / 10 ms    0.14 +-0.09  0.22 +-0.27  0.64 +-0.16  0.91 +-0.08
    0.25       4 / 1 ms     0.91 +-0.48  0.98 +-0.06  1.07 +-0.02  1.09 +-0.03   <- used
    0.25      10 / 2.5 ms   0.47 +-0.19  0.75 +-0.14  0.91 +-0.07  1.01 +-0.04
    0.5        2 / 1 ms     1.00 +-0.23  1.10 +-0.16  1.13 +-0.15  1.21 +-0.16
    0.5        4 / 2 ms     0.76 +-0.18  0.94 +-0.10  1.03 +-0.05  1.06 +-0.05   <- used
    0.5       10 / 5 ms     0.57 +-0.11  0.59 +-0.12  0.80 +-0.11  0.93 +-0.05

So: the least quota that Linux takes, 1 ms, in a period that is no shorter than a tick. Without
pinning, 5 and 10 ms at a tenth were 0.46 +-0.24 and 0.77 +-0.10. What is left is the kernel's: it
looks at a running thread only at a tick (4 ms), so up to 4 ms after an idle moment run at full
speed. A profile taken inside such a device is therefore wrong for single ops: measure at full
speed and divide by the fraction. A waking thread in the group, every 1 ms, gave 0.83, 0.95, 1.03
and 1.17 at a tenth, for a tenth of the device's own time: not worth it.
"""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.cgroups import Group, Quota, make_group
from testbed.errors import TestbedError

MIN_QUOTA_US = 1_000
TICK_US = 4_000
MAX_PERIOD_US = 1_000_000
MIN_FRACTION = MIN_QUOTA_US / MAX_PERIOD_US

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

_JOIN = """\
import os, sys
procs, core, *argv = sys.argv[1:]
if core:
    os.sched_setaffinity(0, {int(core)})
if procs:
    open(procs, "w").write(str(os.getpid()))
try:
    os.execvp(argv[0], argv)
except OSError as error:
    print(f"{argv[0]} cannot be started: {error.strerror}", file=sys.stderr)
    sys.exit(127)
"""
"""Runs in the child before the command: it joins first and is then replaced, so that not even the
command's start escapes."""


class Device:
    """A machine of *fraction* of one core; as a context manager it is there inside the block.

    Start things on it with ``processes.start(name, device.command(argv),
    environ=device.environ)``. What still runs at the end of the block goes on at full speed.

    Raises:
        TestbedError: the fraction is below a thousandth, or more than this machine has.
    """

    def __init__(self, fraction: float) -> None:
        cores = os.cpu_count() or 1
        if not MIN_FRACTION <= fraction <= cores:
            raise TestbedError(
                f"a device cannot have {fraction:g} of a core: give {MIN_FRACTION:g} to {cores}"
            )
        self.fraction = fraction
        self.how = ""
        self._group: Group | None = None
        self._core: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def slowed(self) -> bool:
        """Whether the fraction is really held, by a quota."""
        return self._group is not None

    @property
    def environ(self) -> Mapping[str, str]:
        """What to add to a command's environment: one thread, where there is one core."""
        return ONE_THREAD if self._core is not None else {}

    def start(self) -> None:
        """Make the quota, or settle for one core."""
        quota = quota_of(self.fraction)
        made = make_group(quota)
        self._group = made if isinstance(made, Group) else None
        self._core = last_core() if self.fraction <= 1 or self._group is None else None
        where = "" if self._core is None else f" on core {self._core} alone"
        if isinstance(made, Group):
            self.how = (
                f"slowed to {self.fraction:g} of a core{where}, by a CPU quota of "
                f"{quota.quota_us / 1000:g} ms in every {quota.period_us / 1000:g} ms "
                f"(cgroup v{made.version})"
            )
        else:
            self.how = (
                f"not slowed to {self.fraction:g}, only kept to one thread{where}, since no CPU "
                f"quota can be set here ({made})"
            )

    def stop(self) -> None:
        """Remove the quota."""
        if self._group is not None:
            self._group.remove()
            self._group = None

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """*argv* such that it runs on the device from its first instruction on."""
        return [
            *(sys.executable, "-I", "-S", "-c", _JOIN),
            str(self._group.procs) if self._group else "",
            "" if self._core is None else str(self._core),
            *(os.fspath(word) for word in argv),
        ]

    def attach(self, pid: int) -> None:
        """Move a running process, all its threads and what it starts from now on to the device.

        Raises:
            TestbedError: there is no such process, or it is not ours to move.
        """
        try:
            if self._group is not None:
                self._group.procs.write_text(str(pid))
            if self._core is not None:
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), {self._core})
        except OSError as error:
            raise TestbedError(
                f"process {pid} cannot be moved to the device: {error.strerror}"
            ) from error


def quota_of(fraction: float) -> Quota:
    """The smoothest quota for *fraction*; see the measurements above."""
    period_us = min(max(math.ceil(MIN_QUOTA_US / fraction), TICK_US), MAX_PERIOD_US)
    return Quota(quota_us=max(MIN_QUOTA_US, round(fraction * period_us)), period_us=period_us)


def last_core() -> int | None:
    """The core to pin to, since interrupts gather on the first; None where pinning is unknown."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    return max(os.sched_getaffinity(0))
