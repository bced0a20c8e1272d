"""Links between tiers: bandwidth and round trip, by name, by figure or from a recorded trace.

``parse_link`` reads what a person writes after ``--link``::

    LTE                      a named link, in any case
    5.85Mbps,50ms            bandwidth (bps, kbps, Mbps, Gbps: bits) and round trip (us, ms, s)
    5.85Mbps,50ms,5ms        the same with up to 5 ms of jitter each way
    drive.up,80ms            a Mahimahi trace; without ",80ms" the round trip is 50 ms
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from planner.errors import LinkError
from planner.traces import read_trace

DEFAULT_TRACE_RTT_S = 0.050
"""A trace records no round trip; this is LTE's below."""

_BYTES = {"bps": 1 / 8, "kbps": 1e3 / 8, "mbps": 1e6 / 8, "gbps": 1e9 / 8}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+|nan|inf(?:inity)?)(?:e[+-]?\d+)?"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*([a-z]+)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One hop. Bandwidths are bytes per second, usable payload; ``jitter_s`` is the most of it.

    With ``trace`` (what goes up) and ``down_trace`` the bandwidths are the traces' averages.
    """

    name: str
    up_bps: float
    down_bps: float
    rtt_s: float
    jitter_s: float = 0.0
    trace: Path | None = None
    down_trace: Path | None = None

    def __post_init__(self) -> None:
        if not all(0 < bps < math.inf for bps in (self.up_bps, self.down_bps)):
            raise ValueError(f"bandwidths must be above 0 and finite, got {self}")
        if not all(0 <= time_s < math.inf for time_s in (self.rtt_s, self.jitter_s)):
            raise ValueError(f"times must be 0 or more and finite, got {self}")

    def bandwidth_at(self, quantile: float) -> float:
        """Bytes per second that the uplink falls short of in *quantile* of the time.

        Only a trace knows; a link of fixed figures has its one bandwidth.
        """
        return self.up_bps if self.trace is None else read_trace(self.trace).quantile_bps(quantile)

    def __str__(self) -> str:
        return f"{self.name}: {self.up_bps * 8 / 1e6:.3g} Mbps up, {self.rtt_s * 1e3:.3g} ms"


def _named(name: str, mbps: float, rtt_ms: float) -> Link:
    return Link(name=name, up_bps=mbps * 1e6 / 8, down_bps=mbps * 1e6 / 8, rtt_s=rtt_ms / 1e3)


NAMED: Mapping[str, Link] = MappingProxyType(
    {
        link.name: link
        for link in (_named("3G", 1.1, 100), _named("LTE", 5.85, 50), _named("WiFi", 18.88, 20))
    }
)
"""The average uplinks that papers on split inference use, after Hu et al. (DADS), INFOCOM 2019.

The paper gives uplinks only. The downlink is set equal (answers are small), and the round trips
are our choice, typical of each kind.
"""


def parse_link(text: str) -> Link:
    """Read a named link, ``BANDWIDTH,RTT[,JITTER]`` or ``TRACE[,RTT[,JITTER]]``.

    For a trace ``X.up`` with an ``X.down`` beside it the downlink follows that one; otherwise both
    ways follow the one trace.

    Raises:
        LinkError: the text is none of them, or a figure is zero, negative or not a number.
    """
    for name, link in NAMED.items():
        if text.strip().lower() == name.lower():
            return link
    first, *rest = text.split(",")
    bandwidth = _QUANTITY.fullmatch(first.lower())
    if bandwidth and bandwidth[2] in _BYTES:
        if not 1 <= len(rest) <= 2:
            raise LinkError(f"link {text!r} lacks its round trip: write it as {first.strip()},50ms")
        bps = _positive(bandwidth, _BYTES, text, "bandwidth")
        rtt_s, jitter_s = _times(rest, text)
        return Link(
            name=text.replace(" ", ""), up_bps=bps, down_bps=bps, rtt_s=rtt_s, jitter_s=jitter_s
        )
    return _from_trace(text)


def _from_trace(text: str) -> Link:
    head, times = text, list[str]()
    while "," in head and len(times) < 2 and not _is_file(head):
        head, _, last = head.rpartition(",")
        times.insert(0, last)
    path = Path(head.strip())
    if not _is_file(head):
        raise LinkError(
            f"link {text[:80]!r} is no link: give {', '.join(NAMED)}, a bandwidth and round trip "
            "such as 5.85Mbps,50ms, or the path of a Mahimahi trace"
        )
    rtt_s, jitter_s = _times(times, text) if times else (DEFAULT_TRACE_RTT_S, 0.0)
    up, down_path = read_trace(path), path.with_suffix(".down")
    both = path.suffix == ".up" and down_path.is_file()
    down = read_trace(down_path) if both else up
    return Link(
        name=path.name,
        up_bps=up.average_bps,
        down_bps=down.average_bps,
        rtt_s=rtt_s,
        jitter_s=jitter_s,
        trace=path,
        down_trace=down_path if both else path,
    )


def _is_file(text: str) -> bool:
    try:
        return bool(text.strip()) and Path(text.strip()).is_file()
    except (OSError, ValueError):  # too long for a name, or holds a null byte
        return False


def _times(fields: list[str], text: str) -> tuple[float, float]:
    """Round trip and jitter, in seconds; no jitter where none is given."""
    found = []
    for field, what in zip(fields, ("round trip", "jitter"), strict=False):
        match = _QUANTITY.fullmatch(field.lower())
        if match is None or match[2] not in _SECONDS:
            raise LinkError(
                f"link {text!r}: {field.strip()!r} is no {what}: give a number with us, ms or s, "
                "such as 50ms"
            )
        found.append(_positive(match, _SECONDS, text, what))
    return found[0], found[1] if len(found) > 1 else 0.0


def _positive(match: re.Match[str], units: Mapping[str, float], text: str, what: str) -> float:
    value = float(match[1]) * units[match[2]]
    if not 0 < value < math.inf:
        raise LinkError(f"link {text!r}: its {what} is {match[1]}, and must be above 0 and finite")
    return value
