"""The plan table as it is here and now: the document's plans, priced at what the agent knows. Pure.

A plan's latency is a fixed part and its bytes over the bandwidth, so that over one over the
bandwidth each plan is a straight line, and the table is the lowest of them at each place. Of a plan
that may be sent in chunks it is bent: the largest of several lines, or the line of sending whole
where that is less. The planner drew the table for one round trip, one wait in the cloud and one
software; here it is drawn again for those that were found. At the planner's own figures it is the
document's table.
"""

from collections.abc import Sequence
from math import inf

import numpy as np
import numpy.typing as npt

from planner.chunks import lines as lines_of
from planner.plans import Plan, PlanDocument, Range
from protos.messages import Estimate


def fixed_s(plan: Plan, document: PlanDocument, known: Estimate) -> float:
    """The part of *plan*'s latency that does not depend on the uplink's bandwidth."""
    overhead_s = known.remote_s if plan.remote else known.local_s
    busy_s = _known(known.pace, 1.0) * plan.busy_s + _known(overhead_s, plan.overhead_s)
    return busy_s + (away_fixed_s(plan, document, known) if plan.remote else 0.0)


def away_fixed_s(plan: Plan, document: PlanDocument, known: Estimate) -> float:
    """How long a request of *plan* is away, but for its upload."""
    link = document.link
    travel_s = _known(known.rtt_s, link.rtt_s) + plan.download_bytes / link.down_bps
    return travel_s + _known(known.wait_s, plan.wait_s) + plan.served_s


def redrawn(document: PlanDocument, known: Estimate) -> tuple[Range, ...]:
    """Which plan is the best at which bandwidth, from 0 to infinity, in order of bandwidth.

    Only a table for latency is drawn anew. The others weigh what the agent can't measure, and are
    the document's, with both ends drawn out.
    """
    if document.objective != "latency":
        return _drawn_out(document.table)
    plans = [plan for plan in document.plans if not plan.refused]
    if any(plan.chunks for plan in plans):
        changes = _bent(plans, document, known)
    else:
        lines = [
            (fixed_s(plan, document, known), float(plan.upload_bytes), plan.id) for plan in plans
        ]
        changes = _lowest(lines, 0.0, inf)
    return _ranges(changes)


def named(table: Sequence[Range], up_bps: float) -> str:
    """The plan that *table* names for *up_bps* bytes per second."""
    return next((each.plan for each in table if up_bps < each.to_bps), table[-1].plan)


def named_within(table: Sequence[Range], low_bps: float, high_bps: float) -> set[str]:
    """The plans that *table* names for some bandwidth from *low_bps* to *high_bps*."""
    return {each.plan for each in table if each.from_bps <= high_bps and low_bps < each.to_bps}


_ROUNDING = 1e-9
_Floats = npt.NDArray[np.float64]
_Line = tuple[float, float, str]
"""Seconds where the bandwidth is infinite, bytes, and whose line it is."""


def _lowest(lines: Sequence[_Line], begin: float, end: float) -> list[tuple[float, str]]:
    """Walk along the lowest of *lines* from *begin* to *end* seconds per byte.

    Returns:
        Each line's owner with where its stretch begins, in order.
    """
    here = [(fixed + nbytes * begin, nbytes, id_) for fixed, nbytes, id_ in lines]
    reached, line = begin, min(here)
    found = [(begin, line[2])]
    while True:  # every line that takes over is flatter
        fixed, nbytes, _ = line
        crossings = [
            (begin + (other[0] - fixed) / (nbytes - other[1]), other[1], other)
            for other in here
            if other[1] < nbytes
        ]
        if not crossings:
            return found
        at, _, line = min(crossings)
        if at >= end:
            return found
        if at > reached:
            reached = at
            found.append((at, line[2]))
        else:
            found[-1] = (found[-1][0], line[2])


def _bent(
    plans: Sequence[Plan], document: PlanDocument, known: Estimate
) -> list[tuple[float, str]]:
    """Give what :func:`_lowest` gives, exact too, where some plan has chunks.

    Between two places where any plan bends all are straight, and the lowest of straight lines is
    concave: a plan that is the lowest at both ends is it in between. Only where the ends differ the
    lines are walked along.
    """
    fixed, nbytes = _pieces(plans, document, known)
    bends = np.concatenate(([0.0], _bends(fixed, nbytes)))
    ends = np.append(bends[1:], 2 * bends[-1] + 1)
    middle = (bends + ends) / 2
    lines = np.arange(len(plans))[:, None], _active(fixed, nbytes, middle)
    fixed, nbytes = fixed[lines], nbytes[lines]  # of each plan between any two bends
    best_from = np.argmin(fixed + nbytes * bends, axis=0)
    best_to = np.argmin(fixed + nbytes * ends, axis=0)
    found: list[tuple[float, str]] = []
    last = len(bends) - 1
    for place, begin in enumerate(bends.tolist()):
        if place < last and best_from[place] == best_to[place]:
            found.append((begin, plans[best_from[place]].id))
            continue
        straight = [
            (seconds, slope, plan.id)
            for seconds, slope, plan in zip(
                fixed[:, place].tolist(), nbytes[:, place].tolist(), plans, strict=True
            )
        ]
        found += _lowest(straight, begin, inf if place == last else float(ends[place]))
    return found


def _pieces(
    plans: Sequence[Plan], document: PlanDocument, known: Estimate
) -> tuple[_Floats, _Floats]:
    """Every plan's lines, first that of sending whole; filled up with that of the last chunk.

    Returns:
        Seconds and bytes, each of shape (plans, lines).
    """
    pace = _known(known.pace, 1.0)
    rows = []
    for plan in plans:
        whole_s = fixed_s(plan, document, known)
        other_s = whole_s - pace * plan.busy_s
        whole = (whole_s, float(plan.upload_bytes))
        rows.append([whole, *((other_s + pace * s, n) for s, n in lines_of(plan.chunks))])
    longest = max(len(row) for row in rows)
    filled = np.array([row + row[-1:] * (longest - len(row)) for row in rows])
    return filled[:, :, 0], filled[:, :, 1]


def _bends(fixed: _Floats, nbytes: _Floats) -> _Floats:
    """Where some plan bends, in order: where two of its lines cross and none is above them."""
    one, other = np.triu_indices(fixed.shape[1], 1)
    steeper = nbytes[:, one] - nbytes[:, other]
    with np.errstate(divide="ignore", invalid="ignore"):  # parallel lines cross nowhere
        at = (fixed[:, other] - fixed[:, one]) / steeper
    at = np.where(np.isfinite(at), at, 0.0)
    highest = np.max(fixed[:, 1:, None] + nbytes[:, 1:, None] * at[:, None], axis=1)
    crossing = fixed[:, one] + nbytes[:, one] * at
    return np.unique(at[(at > 0) & (crossing >= highest - _ROUNDING * abs(highest))])


def _active(fixed: _Floats, nbytes: _Floats, at: _Floats) -> npt.NDArray[np.intp]:
    """Which line each plan follows at *at*: the largest of its chunks', or sending whole."""
    costs = fixed[:, :, None] + nbytes[:, :, None] * at
    chunked = 1 + np.argmax(costs[:, 1:], axis=1)
    chunked_s = np.take_along_axis(costs, chunked[:, None], axis=1)[:, 0]
    return np.where(costs[:, 0] <= chunked_s, 0, chunked)


def _ranges(changes: Sequence[tuple[float, str]]) -> tuple[Range, ...]:
    """Write down who is the best from which seconds per byte on, from bandwidth 0 upwards."""
    merged = [
        change
        for before, change in zip((None, *changes), changes, strict=False)
        if before is None or before[1] != change[1]
    ]
    ends = [*(begin for begin, _ in merged[1:]), inf]
    return tuple(
        Range(from_bps=0.0 if end == inf else 1 / end, to_bps=_bps(begin), plan=id_)
        for (begin, id_), end in zip(reversed(merged), reversed(ends), strict=True)
    )


def _drawn_out(table: Sequence[Range]) -> tuple[Range, ...]:
    last = len(table) - 1
    return tuple(
        Range(
            from_bps=0.0 if place == 0 else each.from_bps,
            to_bps=inf if place == last else each.to_bps,
            plan=each.plan,
        )
        for place, each in enumerate(table)
    )


def _bps(pace: float) -> float:
    return 1 / pace if pace > 0 else inf


def _known(found: float | None, planned: float) -> float:
    return planned if found is None else found
