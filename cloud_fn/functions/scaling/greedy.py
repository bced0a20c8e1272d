"""Caching of loaded functions: none is unloaded before its memory is needed.

Source: Fuerst and Sharma, "FaasCache", ASPLOS 2021: greedy-dual with size and frequency
(Cherkasova 1998).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cloud_fn.functions.scaling.history import History
from cloud_fn.functions.scaling.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyDualPolicy:
    """Stays until :func:`victims` names it."""

    name: str = "greedy-dual"

    def window(self, history: History, /) -> Window:  # noqa: ARG002  memory decides, not time
        return Window(0.0, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """An idle instance.

    ``clock`` is what the clock showed at its last request, ``frequency`` counts the requests since
    its function was last absent, and ``cost_s`` is what starting it again takes.
    """

    name: str
    clock: float
    frequency: int
    cost_s: float
    size_bytes: int

    @property
    def priority(self) -> float:
        """The lowest goes first."""
        return self.clock + self.frequency * self.cost_s / max(1, self.size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Victims:
    """Who goes, the first first; ``freed_bytes`` may fall short of what was needed.

    ``clock`` is what the clock shows from now on: the highest priority of those that went, so that
    who is not asked for any more grows old.
    """

    names: tuple[str, ...]
    freed_bytes: int
    clock: float


def victims(idle: Iterable[Idle], need_bytes: int, *, clock: float = 0.0) -> Victims:
    """Whom to end so that *need_bytes* become free, and the clock after that.

    Args:
        idle: those that may be ended.
        need_bytes: what is lacking; where it is 0 or less nobody goes.
        clock: what it shows now.
    """
    names: list[str] = []
    freed = 0
    for each in sorted(idle, key=lambda each: (each.priority, each.name)):
        if freed >= need_bytes:
            break
        names.append(each.name)
        freed += each.size_bytes
        clock = max(clock, each.priority)
    return Victims(names=tuple(names), freed_bytes=freed, clock=clock)
