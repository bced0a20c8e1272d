"""What a link is like at the moment."""

import math
from dataclasses import dataclass

from planner.links import Link
from planner.traces import Trace, read_trace

Rate = float | Trace
"""Bytes per second, or the packet opportunities of a recorded link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """One direction's part of the conditions."""

    rate: Rate
    delay_s: float
    jitter_s: float = 0.0
    outage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Bandwidth each way, one-way delay, jitter, and whether the link is dead.

    ``delay_s`` is paid in each direction. ``jitter_s`` adds 0 to that much to it, evenly drawn for
    each piece of a few milliseconds, and never reorders: in a long burst the latest piece holds
    up those behind it. In an ``outage`` time stands still on the link: nothing is lost, nothing
    comes out, and what was on the way goes on when the outage ends.
    """

    up: Rate
    down: Rate
    delay_s: float
    jitter_s: float = 0.0
    outage: bool = False

    def __post_init__(self) -> None:
        for rate in (self.up, self.down):
            if not isinstance(rate, Trace) and not 0 < rate < math.inf:
                raise ValueError(f"a bandwidth must be above 0 and finite, got {rate}")
        if not all(0 <= time_s < math.inf for time_s in (self.delay_s, self.jitter_s)):
            raise ValueError(f"delay and jitter must be 0 or more and finite, got {self}")

    @classmethod
    def of(cls, link: Link) -> "Conditions":
        """The conditions of *link*, half of its round trip each way.

        Raises:
            LinkError: the link's trace can no longer be read.
        """
        return cls(
            up=read_trace(link.trace) if link.trace else link.up_bps,
            down=read_trace(link.down_trace) if link.down_trace else link.down_bps,
            delay_s=link.rtt_s / 2,
            jitter_s=link.jitter_s,
        )

    @property
    def upward(self) -> Pace:
        return self._pace(self.up)

    @property
    def downward(self) -> Pace:
        return self._pace(self.down)

    def _pace(self, rate: Rate) -> Pace:
        return Pace(rate=rate, delay_s=self.delay_s, jitter_s=self.jitter_s, outage=self.outage)
