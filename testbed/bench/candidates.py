"""The plans that a measured benchmark runs beside the planner's own."""

from collections.abc import Sequence

from planner.baselines import DEVICE_ONLY
from planner.costs import Costs
from planner.narrow import narrow_places
from planner.plans import Crossing, Plan


def device_only(costs: Costs) -> Plan:
    """All on the device."""
    everything = frozenset(range(len(costs.graph.ops)))
    return costs.plan(everything, costs.world.link.up_bps, id_=DEVICE_ONLY)


def cloud_only(costs: Costs) -> list[Plan]:
    """The cloud alone: each form of the input that the steps make, with each codec that suits it.

    Where a codec does not suit one of several inputs, that one crosses in its fastest way.
    """
    found = []
    steps = 0
    while True:
        plans = [_plan(costs, frozenset(range(steps)), codec) for codec in costs.rules.codecs]
        found += [plan for plan in plans if plan is not None]
        if steps == len(costs.graph.ops) or not costs.graph.ops[steps].is_before:
            return distinct(found)
        steps += 1


def cuts(costs: Costs, count: int) -> list[Plan]:
    """At most *count* cuts within the network, each tensor with its fastest codec.

    The narrow places first, where fewer bytes cross than anywhere before; then the cuts that should
    be fastest over the costs' link, to a half of what is left; then others, evenly along the graph.
    """
    graph, link = costs.graph, costs.world.link
    first = sum(op.is_before for op in graph.ops)
    plans = {
        at: _plan(costs, frozenset(range(at)), None) for at in range(first + 1, len(graph.ops))
    }
    known = {at: plan for at, plan in plans.items() if plan is not None and plan.kind == "split"}
    every = distinct(list(known.values()))
    every.sort(key=lambda plan: plan.total_s(link.up_bps, link.rtt_s, link.down_bps))
    chosen = [known[at] for at, _, _ in narrow_places(graph) if at in known]
    chosen = spread(distinct(chosen), count)
    fast = [plan for plan in every if plan not in chosen]
    chosen += fast[: (count - len(chosen) + 1) // 2]
    along = [plan for plan in known.values() if plan in every and plan not in chosen]
    return chosen + spread(along, count - len(chosen))


def distinct(plans: Sequence[Plan]) -> list[Plan]:
    """The first of those that cross alike."""
    found: dict[tuple[Crossing, ...], Plan] = {}
    for plan in plans:
        found.setdefault(plan.crossing, plan)
    return list(found.values())


def spread(plans: Sequence[Plan], count: int) -> list[Plan]:
    """At most *count* of *plans*, evenly, in their order."""
    if len(plans) <= count or count < 1:
        return list(plans)[: max(count, 0)]
    return [plans[round((at + 0.5) * len(plans) / count - 0.5)] for at in range(count)]


def _plan(costs: Costs, head: frozenset[int], codec: str | None) -> Plan | None:
    """The plan that *head* makes with *codec* where it suits; None where something cannot cross."""
    rates = costs.latency(costs.world.link.up_bps)
    crossing = {}
    for name in costs.problem.boundary(head):
        way = costs.way(name, codec) if codec is not None else None
        way = way or costs.problem.best_way(name, rates)
        if way is None:
            return None
        crossing[name] = way
    return costs.plan_of(costs.problem.use(head, crossing))
