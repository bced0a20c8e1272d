"""The field's methods on the same profiles, each priced by the same honest costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.baselines import baselines
from planner.costs import Costs
from planner.graph import Graph
from planner.model import Model
from planner.solve.chain import best_prefix
from planner.solve.flow import Arc, minimum_cut
from planner.solve.mincut import Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What a method claims its plan takes, and what it takes; seconds."""

    claimed_s: float
    real_s: float


def neurosurgeon(costs: Costs, up_bps: float) -> Method:
    """The best place in the chain of ops where a single tensor crosses; Kang et al., ASPLOS 2017.

    With the same codecs as ours, which the paper does not have.
    """
    prices, both = costs.problem.prices(costs.latency(up_bps))
    found = best_prefix(costs.graph, prices, single_tensor=True)
    return Method(claimed_s=found.cost + both, real_s=found.cost + both)


def dads(costs: Costs, up_bps: float) -> Method:
    """The minimum cut of Hu et al., INFOCOM 2019, as its graph is published.

    No round trip and no way back for answers, and no reverse arcs, so that an op on the device may
    follow one in the cloud for nothing. What its plan really takes: each such tensor comes back
    over the downlink, and each change of side costs a round trip.
    """
    rates = costs.latency(up_bps)
    prices, both = costs.problem.prices(rates)
    head, claimed = _published(costs.graph, prices)
    return Method(claimed_s=claimed, real_s=_real(costs, prices, head) + both)


def single_sides(model: Model, costs: Costs, up_bps: float) -> Mapping[str, float]:
    """Device alone, and cloud alone with each lossless form of the input; seconds."""
    rates = costs.latency(up_bps)
    return {plan.id: rates.of(plan) for plan in baselines(model, costs, ())}


def _published(graph: Graph, prices: Prices) -> tuple[frozenset[int], float]:
    ops, names = len(graph.ops), list(graph.consumers)
    tensor = {name: ops + i for i, name in enumerate(names)}
    source, sink = ops + len(names), ops + len(names) + 1
    arcs: list[Arc] = []
    for i in range(ops):
        arcs += [(i, sink, prices.device[i]), (source, i, prices.cloud[i])]
    for name in names:
        maker = graph.producer.get(name, source)
        arcs.append((maker, tensor[name], prices.crossing[name]))
        arcs += [(tensor[name], reader, math.inf) for reader in graph.consumers[name]]
    cut = minimum_cut(arcs, source, sink, sink + 1, at_most=math.fsum(prices.device))
    near = cut.near.tolist()
    return frozenset(i for i in range(ops) if near[i]), cut.value


def _real(costs: Costs, prices: Prices, head: frozenset[int]) -> float:
    graph, link = costs.graph, costs.world.link
    parts = [prices.device[i] if i in head else prices.cloud[i] for i in range(len(graph.ops))]
    if len(head) == len(graph.ops):
        return math.fsum(parts) + prices.stay
    back = 0
    for name, readers in graph.consumers.items():
        here = name not in graph.producer or graph.producer[name] in head
        if here and any(reader not in head for reader in readers):
            parts.append(prices.crossing[name])
        if not here and any(reader in head for reader in readers):
            parts.append((graph.info(name).nbytes or 0) / link.down_bps)
            back = 1
    parts += [
        prices.answer[name]
        for name in graph.answers
        if name in graph.producer and graph.producer[name] not in head
    ]
    return math.fsum(parts) + prices.round_trip * (1 + back)


def best_of(sides: Mapping[str, float], *, edge: bool) -> float:
    """The device alone, or the best of the cloud alone."""
    names: Sequence[str] = [name for name in sides if (name == "device-only") == edge]
    return min((sides[name] for name in names), default=math.inf)
