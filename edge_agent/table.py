"""The plan table as it is here and now: the document's plans, priced at what the agent knows. Pure.

A plan's latency is a fixed part and its bytes over the bandwidth, so that over one over the
bandwidth each plan is a straight line, and the table is the lowest of them at each place. The
planner drew it for one round trip, one wait in the cloud and one software; here it is drawn again
for those that were found. At the planner's own figures it is the document's table.
"""

from collections.abc import Sequence
from math import inf

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
    lines = [
        (fixed_s(plan, document, known), plan.upload_bytes, plan.id)
        for plan in document.plans
        if not plan.refused
    ]
    # From an infinite bandwidth downwards; every plan that takes over sends less.
    pace, line = 0.0, min(lines)
    ranges: list[Range] = []
    while True:
        fixed, nbytes, id_ = line
        crossings = [
            ((other[0] - fixed) / (nbytes - other[1]), other[1], other)
            for other in lines
            if other[1] < nbytes
        ]
        if not crossings:
            ranges.append(Range(from_bps=0.0, to_bps=_bps(pace), plan=id_))
            return tuple(reversed(ranges))
        end, _, line = min(crossings)
        if end > pace:
            ranges.append(Range(from_bps=_bps(end), to_bps=_bps(pace), plan=id_))
            pace = end


def named(table: Sequence[Range], up_bps: float) -> str:
    """The plan that *table* names for *up_bps* bytes per second."""
    return next((each.plan for each in table if up_bps < each.to_bps), table[-1].plan)


def named_within(table: Sequence[Range], low_bps: float, high_bps: float) -> set[str]:
    """The plans that *table* names for some bandwidth from *low_bps* to *high_bps*."""
    return {each.plan for each in table if each.from_bps <= high_bps and low_bps < each.to_bps}


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
