"""The device's clock: a process that computes at full speed, and then waits as a slower one would.

A CPU quota (:mod:`testbed.device`) slows a process for real, but not as a slower machine is slow.
Measured at a tenth and a quarter of a core, 1 ms slices, two shared cores, 2026-11-24: up to 4 ms
after an idle moment run unslowed, so that 1.1 ms of work took 1.8 ms in place of 11; and between
slices the caches cool, so that the CPU time of one inference itself rises, by 15 to 60 % and by
another factor for each model. Both are the emulation's, and each shifts plans against one another:
the first favours many short stretches, the second the cloud.

So a stretch of work runs undisturbed, its CPU time over the fraction is what it is due, and the
process sleeps for what is left of that. Being preempted meanwhile changes nothing as long as there
is something left. All threads of the process are charged: framing and copying are the device's work
as well.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LATE_S = 0.004
"""A stretch that begins so soon after the last one's end follows it: a sleep ends late by a wake-up
(a tick at worst), and a stream of stretches must not lose that again and again."""


class Pacer:
    """Makes this process as slow as a machine of *fraction* of its core.

    Args:
        fraction: 0 to 1; 1 changes nothing.
        now: the wall clock, in seconds.
        cpu: CPU seconds of the process so far.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        fraction: float,
        *,
        now: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.process_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._fraction = fraction
        self._now, self._cpu, self._sleep = now, cpu, sleep
        self._charged_s = cpu()
        self._free_s = now()

    def run(self, work: Callable[[], T]) -> T:
        """Do *work*, and return no sooner than the slower machine would.

        CPU time of other threads since the last stretch counts too.
        """
        if self._fraction >= 1:
            return work()
        began_s = self._now()
        if began_s - self._free_s > LATE_S:
            self._free_s = began_s
        result = work()
        used_s = self._cpu()
        self._free_s += (used_s - self._charged_s) / self._fraction
        self._charged_s = used_s
        if (left_s := self._free_s - self._now()) > 0:
            self._sleep(left_s)
        elif -left_s > LATE_S:
            self._free_s -= left_s  # really slower than that: nothing to make up for
        return result
