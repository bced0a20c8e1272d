"""Ends instances from outside, as a machine does that runs out of memory."""

import contextlib
import time
from dataclasses import dataclass
from random import Random

import psutil

NAME = "isthmus-inst"
"""What an instance's process is called."""

LOOK_S = 0.05
LOOKS = 20
GONE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One process that was killed; *busy* if it was at work then."""

    pid: int
    busy: bool


class Killer:
    """Kills instances of the server with process number *server*, and nothing else."""

    def __init__(self, server: int, random: Random) -> None:
        self._server = server
        self._random = random

    def kill(self) -> Kill | None:
        """Send SIGKILL to an instance that works, or to any if none does within a second.

        None where there is no instance.
        """
        for _ in range(LOOKS):
            found = self.instances()
            before = {each: _cpu_s(each) for each in found}
            time.sleep(LOOK_S)
            if busy := [each for each in found if _cpu_s(each) > before[each]]:
                return self._kill(self._random.choice(busy), busy=True)
        return self._kill(self._random.choice(found), busy=False) if found else None

    def instances(self) -> list[psutil.Process]:
        """The server's instances that live, by process number."""
        found = list[psutil.Process]()
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in psutil.Process(self._server).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if each.name() == NAME and each.status() != psutil.STATUS_ZOMBIE:
                        found.append(each)
        return sorted(found, key=lambda each: each.pid)

    def _kill(self, process: psutil.Process, *, busy: bool) -> Kill | None:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            return None  # it was quicker
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(GONE_S)  # a storm that ends now is not over while one of its victims dies
        return Kill(pid=process.pid, busy=busy)


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
