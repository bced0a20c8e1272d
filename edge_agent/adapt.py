"""What the uplink is like, estimated from what was seen. Pure: the clock is an argument.

Round trips come from probes, which carry nothing. Bandwidth comes from answered requests: what is
left of their time after the cloud's own share and the round trip, per byte. Both are medians of the
last few samples, so one stall (a throttled CPU, a lost packet) changes nothing and a real change
shows after half of them.
"""

from dataclasses import dataclass, replace
from statistics import median

SAMPLES = 7
MIN_BYTES = 4096
"""Smaller messages travel within the noise of a round trip and say nothing about bandwidth."""

MIN_BPS, MAX_BPS = 1e3, 1.25e9
MAX_RTT_S = 60.0
NOISE_OF_RTT = 0.1
NOISE_S = 1e-3
"""A message can't be timed more finely than this, or than a tenth of the round trip."""

STALE_S = 60.0
"""An estimate this old begins to double every STALE_S: while nothing is sent, nothing is learnt,
and only a guess that errs upward is ever corrected by trying."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEstimate:
    """The last samples, newest last: round trips in seconds, pace in seconds per byte."""

    rtts_s: tuple[float, ...] = ()
    paces_s: tuple[float, ...] = ()
    paced_at_s: float = 0.0

    @property
    def rtt_s(self) -> float | None:
        """Seconds; None before the first probe was answered."""
        return median(self.rtts_s) if self.rtts_s else None

    def bandwidth_bps(self, at_s: float) -> float | None:
        """Bytes per second at the time *at_s*; None before the first measurement."""
        if not self.paces_s:
            return None
        stale = max(0.0, at_s - self.paced_at_s - STALE_S) / STALE_S
        doublings = float(2.0 ** min(stale, 64.0))
        return min(MAX_BPS, doublings / median(self.paces_s))


def probed(estimate: LinkEstimate, rtt_s: float) -> LinkEstimate:
    """Take in one answered probe."""
    rtt_s = min(max(rtt_s, 0.0), MAX_RTT_S)
    return replace(estimate, rtts_s=(*estimate.rtts_s, rtt_s)[-SAMPLES:])


def observed(
    estimate: LinkEstimate, *, nbytes: int, elapsed_s: float, cloud_s: float, at_s: float
) -> LinkEstimate:
    """Take in one answered request.

    Args:
        estimate: what was known.
        nbytes: bytes of the request and its answer together.
        elapsed_s: from handing the request to the uplink until its answer.
        cloud_s: the part of it that the cloud says was its own.
        at_s: when the answer came.
    """
    if nbytes < MIN_BYTES:
        return estimate
    rtt_s = estimate.rtt_s or 0.0
    travel_s = max(elapsed_s - cloud_s - rtt_s, NOISE_OF_RTT * rtt_s, NOISE_S)
    pace_s = min(max(travel_s / nbytes, 1 / MAX_BPS), 1 / MIN_BPS)
    return replace(estimate, paces_s=(*estimate.paces_s, pace_s)[-SAMPLES:], paced_at_s=at_s)


def restored(estimate: LinkEstimate) -> LinkEstimate:
    """Forget the bandwidth: the link that came back need not be the one that went."""
    return replace(estimate, paces_s=())
