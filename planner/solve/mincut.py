"""The exact two-tier cut, as a minimum s-t cut with integer capacities.

One node per op and one per tensor, so that a tensor with many readers is paid for once. An op on
the source's side runs on the device, on the sink's side in the cloud. Reverse arcs of infinite
capacity forbid running an op on the device after one in the cloud: without them (as in DADS, Hu
et al., INFOCOM 2019, as published) 315 of 400 adversarial graphs get a plan with a free transfer
back. The round trip is one more node, paid as soon as one op runs in the cloud.

The partition is re-costed from the prices alone, and the two figures must agree.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from planner.graph import Graph
from planner.solve.flow import Arc, minimum_cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What each choice costs, in seconds (or any other unit that adds up).

    ``device`` and ``cloud`` have one entry per op of the graph; ``crossing`` prices a tensor's way
    up, ``answer`` an answer's way back, ``round_trip`` is paid once when anything runs in the
    cloud and ``stay`` when nothing does. An infinite price forbids.
    """

    device: tuple[float, ...]
    cloud: tuple[float, ...]
    crossing: Mapping[str, float]
    answer: Mapping[str, float]
    round_trip: float
    stay: float = 0.0

    def __post_init__(self) -> None:
        every = (
            *self.device,
            *self.cloud,
            *self.crossing.values(),
            *self.answer.values(),
            self.round_trip,
            self.stay,
        )
        for price in every:
            if math.isnan(price) or price < 0:
                raise ValueError(f"prices must be >= 0, got {price}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The best head (indices of ops), what it costs, and the minimum cut's own value.

    ``cost`` is the head re-costed from the prices; ``cut_value`` is what the flow says; they
    differ by no more than ``resolution``, the rounding of all prices together.
    """

    head: frozenset[int]
    cost: float
    cut_value: float
    resolution: float


def cost_of(graph: Graph, prices: Prices, head: frozenset[int]) -> float:
    """What *head* costs: its ops, the others in the cloud, the crossing, the answers' way back."""
    if not graph.is_ideal(head):
        return math.inf
    parts = [prices.device[i] if i in head else prices.cloud[i] for i in range(len(graph.ops))]
    if len(head) == len(graph.ops):
        parts.append(prices.stay)
    else:
        parts.append(prices.round_trip)
        parts += [prices.crossing[name] for name in graph.boundary(head)]
        parts += [
            prices.answer[name]
            for name in graph.answers
            if name in graph.producer and graph.producer[name] not in head
        ]
    return math.fsum(parts)


def min_cut(graph: Graph, prices: Prices) -> Solution:
    """The head of least cost among all ideals of the graph.

    ``stay`` is no arc of the flow: it matters only where the device alone would win without it,
    and then the best of the other heads is found by sending each of the last ops to the cloud in
    turn: whatever runs there, one of those that follow it does, and nothing follows the last.

    Raises:
        ValueError: every head has infinite cost, or the flow and the re-costing disagree.

    Source: Picard 1976 (closures as cuts); node construction as in DADS with reverse arcs.
    """
    best = _least(graph, replace(prices, stay=0.0))
    if best is not None and (prices.stay == 0 or len(best.head) < len(graph.ops)):
        return best
    found = [] if best is None else [_plus(best, prices.stay)]
    lasts = [
        i
        for i, op in enumerate(graph.ops)
        if not any(name in graph.consumers for name in op.outputs)
    ]
    for last in lasts:
        device = list(prices.device)
        device[last] = math.inf
        other = _least(graph, replace(prices, device=tuple(device), stay=0.0))
        found += [other] if other is not None else []
    if not found:
        raise ValueError("every cut is forbidden by an infinite price")
    return min(found, key=lambda solution: solution.cost)


def _plus(solution: Solution, price: float) -> Solution:
    return replace(solution, cost=solution.cost + price, cut_value=solution.cut_value + price)


def _least(graph: Graph, prices: Prices) -> Solution | None:
    """The best head by one minimum cut, None where every head is forbidden."""
    ops, names = len(graph.ops), list(graph.consumers)
    single = [cost_of(graph, prices, frozenset(head)) for head in (range(ops), ())]
    tensor = {name: ops + i for i, name in enumerate(names)}
    trip = ops + len(names)
    source, sink = trip + 1, trip + 2
    arcs: list[Arc] = [(source, trip, prices.round_trip)]
    base = 0.0  # what an op costs on either side flows straight through it and decides nothing
    for i, op in enumerate(graph.ops):
        back = math.fsum(prices.answer[name] for name in op.outputs if name in graph.answers)
        here, there = prices.device[i], prices.cloud[i] + back
        both = min(here, there)
        if math.isfinite(both):
            base, here, there = base + both, here - both, there - both
        arcs += [(i, sink, here), (source, i, there), (trip, i, math.inf)]
        arcs += [
            (i, graph.producer[name], math.inf) for name in op.inputs if name in graph.producer
        ]
    for name in names:
        maker = graph.producer.get(name, source)
        arcs.append((maker, tensor[name], prices.crossing[name]))
        arcs += [(tensor[name], reader, math.inf) for reader in graph.consumers[name]]
    if min(single) <= base * (1 + 1e-12):
        head = frozenset(range(ops) if single[0] <= single[1] else ())
        return Solution(head=head, cost=min(single), cut_value=base, resolution=1e-12 * base)
    cut = minimum_cut(arcs, source, sink, sink + 1, at_most=min(single) - base)
    value = cut.value + base
    near = cut.near.tolist()
    head = frozenset(i for i in range(ops) if near[i])
    cost = cost_of(graph, prices, head)
    if not math.isfinite(cost):
        return None
    resolution = cut.resolution + 1e-12 * cost  # sums of floats, too
    if abs(cost - value) > resolution:
        raise ValueError(f"the cut's value {value} is not its cost {cost}: this is a bug")
    return Solution(head=head, cost=cost, cut_value=value, resolution=resolution)
