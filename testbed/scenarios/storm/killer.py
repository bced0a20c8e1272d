"""Ends instances from outside, as a machine does that runs out of memory."""

import contextlib
import time
from dataclasses import dataclass
from random import Random

import psutil

NAMES = ("isthmus-inst", "ray::Host")
"""What an instance's process is called; the second only where the first was never seen."""

LOOK_S = 0.05
LOOKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One process that was killed; *busy* if it was at work then."""

    pid: int
    name: str
    busy: bool


class Killer:
    """Kills instances of the server with process number *server*, and nothing else."""

    def __init__(self, server: int, random: Random) -> None:
        self._server = server
        self._random = random
        self._name = ""

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
        named = {name: list[psutil.Process]() for name in NAMES}
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in psutil.Process(self._server).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    for name in NAMES:
                        if each.name().startswith(name) and each.status() != psutil.STATUS_ZOMBIE:
                            named[name].append(each)
        if not self._name or named[NAMES[0]]:
            self._name = next((name for name in NAMES if named[name]), "")
        return sorted(named.get(self._name, []), key=lambda each: each.pid)

    def _kill(self, process: psutil.Process, *, busy: bool) -> Kill | None:
        try:
            name = process.name()
            process.kill()
        except psutil.NoSuchProcess:
            return None  # it was quicker
        return Kill(pid=process.pid, name=name, busy=busy)


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
