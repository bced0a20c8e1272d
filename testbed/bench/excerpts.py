"""Parts of a recorded link, so that each plan meets the same stretch of it from its start."""

import bisect
from dataclasses import dataclass, replace
from pathlib import Path

from planner.links import Link
from planner.traces import PACKET_BYTES, Trace, read_trace, write_trace

EXCERPT_S = 60.0
RECENT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """``link`` begins where the recorded one was at ``at_s``, after ``recent_bps`` just before."""

    link: Link
    at_s: float
    recent_bps: float


def excerpt(trace: Trace, start_s: float, seconds: float = EXCERPT_S) -> Trace:
    """The trace from *start_s* on, and on from its beginning where it ends; at least *seconds*."""
    times, period = trace.opportunities_ms, trace.opportunities_ms[-1]
    origin = round(start_s * 1000) % period
    first = bisect.bisect_left(times, origin)
    turned = [time - origin for time in times[first:]]
    turned += [time + period - origin for time in times[:first]]
    until = max(round(seconds * 1000), 1)
    kept = turned[: bisect.bisect_right(turned, until)]
    # One after the end, so that a silence at the end keeps its length.
    return Trace(tuple(turned[: len(kept) + 1]) if turned[-1] > 0 else (*turned, period))


def recent_bps(trace: Trace, at_s: float, window_s: float = RECENT_S) -> float:
    """Bytes per second that the trace let through in the *window_s* before *at_s*; never 0."""
    part = excerpt(trace, at_s - window_s, window_s)
    packets = bisect.bisect_left(part.opportunities_ms, round(window_s * 1000))
    return max(packets, 1) * PACKET_BYTES / window_s


def places(link: Link, count: int, folder: Path) -> tuple[Place, ...]:
    """*count* places of *link*'s trace, evenly spread; their trace files go into *folder*.

    Raises:
        LinkError: the link's traces can no longer be read.
        ValueError: it has none.
    """
    if link.trace is None:
        raise ValueError(f"{link.name} has no trace")
    folder.mkdir(parents=True, exist_ok=True)
    up = read_trace(link.trace)
    down = read_trace(link.down_trace) if link.down_trace is not None else up
    found = []
    for number in range(count):
        at_s = (number + 0.5) / count * up.period_s
        path = folder / f"{link.trace.stem}-{number}.up"
        write_trace(excerpt(up, at_s), path)
        write_trace(excerpt(down, at_s), path.with_suffix(".down"))
        here = replace(link, trace=path, down_trace=path.with_suffix(".down"))
        found.append(Place(link=here, at_s=at_s, recent_bps=recent_bps(up, at_s)))
    return tuple(found)
