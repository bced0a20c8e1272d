"""What the uplink is like, estimated from what was seen. Pure: the clock is an argument.

Round trips come from probes, which carry nothing. Bandwidth comes from answered requests: what is
left of their time after the cloud's own share and the round trip, per byte. Both are medians of the
last few samples, so one stall (a throttled CPU, a lost packet) changes nothing and a real change
shows after half of them.

Of a request in several messages each message bounds the link from below: after it was handed over,
it and all that came later went across. The bound is exact for the one from which on the link was
never idle, and that is where it is highest.

SAMPLES and STALE_S here and HYSTERESIS in :mod:`edge_agent.options` were chosen by replaying three
recorded cellular uplinks and three made-up drives with tables of two to four plans (2026-11): the
mean latency over that of the best plan at each moment, and changes of plan a minute::

    SAMPLES                  1     3     5     7
                          1.16  1.10  1.09  1.10
    STALE_S                  5    10    20    60
                          1.10  1.09  1.13  1.17
    changes                7.6   4.8   3.0   1.2
    HYSTERESIS               0   0.1   0.2   0.35  0.5
                          1.10  1.09  1.11  1.12  1.15
    changes                5.4   4.8   4.2   3.5   2.9
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from statistics import median

SAMPLES = 5
MIN_BYTES = 4096
"""Smaller messages travel within the noise of a round trip and say nothing about bandwidth."""

MIN_BPS, MAX_BPS = 1e3, 1.25e9
MAX_RTT_S = 60.0
NOISE_OF_RTT = 0.1
NOISE_S = 1e-3
"""A message can't be timed more finely than this, or than a tenth of the round trip."""

STALE_S = 10.0
"""An estimate this old begins to double every STALE_S: while nothing is sent, nothing is learnt,
and only a guess that errs upward is ever corrected by trying. Of a link that carries nothing the
plan table thus asks for a trial after some STALE_S, and the seldomer the worse the last one went.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEstimate:
    """The last samples, newest last: round trips in seconds, pace in seconds per byte.

    ``paced_at_s`` is when the last pace was seen, or else when the link was found to be there.
    """

    rtts_s: tuple[float, ...] = ()
    paces_s: tuple[float, ...] = ()
    paced_at_s: float = 0.0

    @property
    def rtt_s(self) -> float | None:
        """Seconds; None before the first probe was answered."""
        return median(self.rtts_s) if self.rtts_s else None

    def bandwidth_bps(self, at_s: float, *, assumed_bps: float | None = None) -> float | None:
        """Bytes per second at the time *at_s*; before the first measurement, what is assumed."""
        if not self.paces_s and (assumed_bps is None or not self.rtts_s):
            return assumed_bps
        stale = max(0.0, at_s - self.paced_at_s - STALE_S) / STALE_S
        last_bps = 1 / median(self.paces_s) if self.paces_s else assumed_bps or 0.0
        return min(MAX_BPS, float(2.0 ** min(stale, 64.0)) * last_bps)


def probed(estimate: LinkEstimate, rtt_s: float, at_s: float) -> LinkEstimate:
    """Take in one probe that was answered at *at_s*."""
    rtt_s = min(max(rtt_s, 0.0), MAX_RTT_S)
    if not estimate.rtts_s and not estimate.paces_s:
        estimate = replace(estimate, paced_at_s=at_s)
    return replace(estimate, rtts_s=(*estimate.rtts_s, rtt_s)[-SAMPLES:])


def observed(
    estimate: LinkEstimate,
    *,
    sends: Sequence[tuple[float, int]],
    answer_bytes: int,
    cloud_s: float,
    at_s: float,
) -> LinkEstimate:
    """Take in one answered request; samples that are stale by then are of another time, and go.

    Where the highest bound is that of messages under MIN_BYTES, the link was idle before them, and
    what it did before that says only that it is no slower: it counts where no more was known.

    Args:
        estimate: what was known.
        sends: of each of the request's messages, in order, the seconds from handing it to the
            uplink until the answer, and its bytes.
        answer_bytes: the bytes of the answer.
        cloud_s: the time that the cloud says was its own.
        at_s: when the answer came.
    """
    rtt_s = estimate.rtt_s or 0.0
    least_s = max(NOISE_OF_RTT * rtt_s, NOISE_S)
    paces, small, nbytes = list[float](), list[float](), answer_bytes
    for elapsed_s, each in reversed(sends):
        nbytes += each
        pace_s = max(elapsed_s - cloud_s - rtt_s, least_s) / max(nbytes, 1)
        (small if nbytes < MIN_BYTES else paces).append(pace_s)
    if not paces:
        return estimate
    pace_s = min(max(min(paces), 1 / MAX_BPS), 1 / MIN_BPS)
    kept = estimate.paces_s if at_s - estimate.paced_at_s <= STALE_S else ()
    if kept and min(small, default=inf) < pace_s and median(kept) < pace_s:
        return estimate
    return replace(estimate, paces_s=(*kept, pace_s)[-SAMPLES:], paced_at_s=at_s)


def restored(estimate: LinkEstimate, at_s: float) -> LinkEstimate:
    """Forget the bandwidth: the link that came back at *at_s* need not be the one that went."""
    return replace(estimate, paces_s=(), paced_at_s=at_s)
