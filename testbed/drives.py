"""Drives: what a cellular uplink is like from a moving car, made up where no recording is at hand.

The bandwidth wanders (a random walk of its logarithm, drawn back to the middle), and now and then
the signal is lost for a second or two, as in the recordings of Winstein et al., NSDI 2013. Measured
links are better: give a recorded trace wherever one is at hand.
"""

import bisect
import math
from random import Random

from planner.traces import PACKET_BYTES, Trace

STEP, PULL = 0.35, 0.08
"""The walk's standard deviation in a second, in units of the logarithm, and how it is drawn back:
with these a 2-minute drive spans about a factor of 10 between its 5th and 95th percentile."""

LOSS_CHANCE, MOST_LOST_S = 0.02, 2
MIDDLE_BPS = 2.5e6 / 8


def drive(seed: int, *, seconds: int = 120, middle_bps: float = MIDDLE_BPS) -> Trace:
    """A trace of *seconds*, the same for the same *seed*, around *middle_bps* bytes per second."""
    if seconds < 1 or not 0 < middle_bps < math.inf:
        raise ValueError(f"a drive takes 1 s or more at more than 0 B/s: {seconds}, {middle_bps}")
    random = Random(seed)  # noqa: S311  a made-up link, no secret
    offset, lost_s, credit = 0.0, 0, 0.0
    times_ms: list[int] = []
    for second in range(seconds):
        offset += random.gauss(0, STEP) - PULL * offset
        if lost_s:
            lost_s -= 1
        elif random.random() < LOSS_CHANCE:
            lost_s = random.randint(1, MOST_LOST_S)
        rate_bps = 0.0 if lost_s else middle_bps * math.exp(offset)
        for ms in range(second * 1000, second * 1000 + 1000):
            credit += rate_bps / 1000 / PACKET_BYTES
            times_ms += [ms] * int(credit)
            credit -= int(credit)
    return Trace((*times_ms, seconds * 1000))


def carried_s(trace: Trace, at_s: float, nbytes: int) -> float:
    """How long *nbytes* take to leave on a link that is *at_s* into *trace*, a packet at a time."""
    times = trace.opportunities_ms
    rounds, ms = divmod(1e3 * at_s, times[-1])
    last = bisect.bisect_left(times, ms) + math.ceil(nbytes / PACKET_BYTES) - 1
    more, place = divmod(last, len(times))
    return max(0.0, ((rounds + more) * times[-1] + times[place]) / 1e3 - at_s)
