"""How many bytes a transmitter could have sent by a given time. No clock, no sockets."""

import bisect
import math
from dataclasses import dataclass
from typing import Protocol

from planner.traces import PACKET_BYTES, Trace
from testbed.conditions import Rate

_SLACK_MS = 1e-3
"""A time that came out of :meth:`Capacity.when` must find its own opportunity again in spite of
rounding: a double holds a day's monotonic seconds to 1e-8 ms."""


class Capacity(Protocol):
    """Bytes that could be sent since ``origin_s``, whether or not anything was."""

    def before(self, at_s: float, /) -> float:
        """Bytes offered strictly before *at_s*: what an idle transmitter has lost by then."""

    def when(self, total_bytes: float, /) -> float:
        """The time at which the last of *total_bytes* is through."""


@dataclass(frozen=True, slots=True)
class Constant:
    """The same number of bytes every second."""

    bps: float
    origin_s: float

    def before(self, at_s: float, /) -> float:
        return max(0.0, at_s - self.origin_s) * self.bps

    def when(self, total_bytes: float, /) -> float:
        return self.origin_s + total_bytes / self.bps


@dataclass(frozen=True, slots=True)
class Traced:
    """A trace's opportunities, again and again.

    As in Mahimahi, an opportunity that finds the queue empty is lost, several small packets share
    one, and a packet that does not fit goes on in the next.
    """

    trace: Trace
    origin_s: float

    def before(self, at_s: float, /) -> float:
        elapsed_ms = (at_s - self.origin_s) * 1000 - _SLACK_MS
        if elapsed_ms <= 0:
            return 0.0
        times = self.trace.opportunities_ms
        periods = math.ceil(elapsed_ms / times[-1]) - 1
        within = bisect.bisect_left(times, elapsed_ms - periods * times[-1])
        return float((periods * len(times) + within) * PACKET_BYTES)

    def when(self, total_bytes: float, /) -> float:
        if total_bytes <= 0:
            return self.origin_s
        times = self.trace.opportunities_ms
        periods, index = divmod(math.ceil(total_bytes / PACKET_BYTES) - 1, len(times))
        return self.origin_s + (periods * times[-1] + times[index]) / 1000


def capacity(rate: Rate, origin_s: float) -> Capacity:
    """What *rate* offers from *origin_s* on."""
    return Traced(rate, origin_s) if isinstance(rate, Trace) else Constant(rate, origin_s)


def average_bps(rate: Rate) -> float:
    """Bytes per second in the long run."""
    return rate.average_bps if isinstance(rate, Trace) else rate
