"""The exact cut over any number of tiers (device, gateway, edge server, cloud) in one minimum cut.

Each op has one binary node per hop: whether it has run before that crossing. The chain of an op's
nodes carries its price on each tier (Ishikawa, PAMI 2003); infinite arcs keep the chain in order
and forbid to run an op before its inputs; one node per tensor and hop pays for a crossing once,
however many readers there are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.graph import Graph
from planner.solve.flow import Arc, minimum_cut


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPrices:
    """Prices of *k* tiers and the *k* - 1 hops between them, in any unit that adds up.

    ``run[t][i]`` prices op i on tier t; ``crossing[h]`` a tensor's way up over hop h (from tier h
    to h + 1); ``answer[h]`` an answer's way back over it; ``round_trip[h]`` is paid once when
    anything runs beyond it. An infinite price forbids.
    """

    run: tuple[tuple[float, ...], ...]
    crossing: tuple[Mapping[str, float], ...]
    answer: tuple[Mapping[str, float], ...]
    round_trip: tuple[float, ...]

    def __post_init__(self) -> None:
        hops = len(self.run) - 1
        if hops < 1 or any(
            len(each) != hops for each in (self.crossing, self.answer, self.round_trip)
        ):
            raise ValueError(f"{len(self.run)} tiers need {hops} hops, one fewer, and at least 1")
        every = [price for tier in self.run for price in tier]
        every += [p for each in (*self.crossing, *self.answer) for p in each.values()]
        for price in (*every, *self.round_trip):
            if math.isnan(price) or price < 0:
                raise ValueError(f"prices must be >= 0, got {price}")

    @property
    def hops(self) -> int:
        return len(self.round_trip)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The tier of each op, what that costs, and the minimum cut's own value."""

    tiers: tuple[int, ...]
    cost: float
    cut_value: float
    resolution: float


def cost_of(graph: Graph, prices: TierPrices, tiers: Sequence[int]) -> float:
    """What it costs to run op i on ``tiers[i]``; infinite if an op runs before its inputs."""
    parts = [prices.run[tier][i] for i, tier in enumerate(tiers)]
    for i, op in enumerate(graph.ops):
        if any(tiers[graph.producer[n]] > tiers[i] for n in op.inputs if n in graph.producer):
            return math.inf
    for hop in range(prices.hops):
        if any(tier > hop for tier in tiers):
            parts.append(prices.round_trip[hop])
        parts += [
            prices.crossing[hop][name]
            for name, readers in graph.consumers.items()
            if (name not in graph.producer or tiers[graph.producer[name]] <= hop)
            and any(tiers[reader] > hop for reader in readers)
        ]
        parts += [
            prices.answer[hop][name]
            for name in graph.answers
            if name in graph.producer and tiers[graph.producer[name]] > hop
        ]
    return math.fsum(parts)


def place(graph: Graph, prices: TierPrices) -> Placement:
    """The placement of least cost.

    Raises:
        ValueError: every placement has infinite cost, or the flow and the re-costing disagree.

    Source: Ishikawa 2003, "Exact optimization for Markov random fields with convex priors".
    """
    ops, hops, names = len(graph.ops), prices.hops, list(graph.consumers)
    place_of = {name: i for i, name in enumerate(names)}
    width = ops + len(names) + 1
    source, sink = hops * width, hops * width + 1
    single = [(cost_of(graph, prices, [tier] * ops), tier) for tier in range(hops + 1)]
    most, all_on = min(single)
    if most == 0:
        return Placement(tiers=(all_on,) * ops, cost=0.0, cut_value=0.0, resolution=0.0)
    arcs: list[Arc] = []
    for hop in range(hops):
        at = hop * width
        trip = at + ops + len(names)
        arcs.append((source, trip, prices.round_trip[hop]))
        for i, op in enumerate(graph.ops):
            back = [prices.answer[hop][name] for name in op.outputs if name in graph.answers]
            last = prices.run[-1][i] if hop == hops - 1 else 0.0
            arcs += [
                (source, at + i, last + math.fsum(back)),
                (at + i, sink if hop == 0 else at - width + i, prices.run[hop][i]),
                (trip, at + i, math.inf),
            ]
            if hop:
                arcs.append((at - width + i, at + i, math.inf))
            arcs += [
                (at + i, at + graph.producer[name], math.inf)
                for name in op.inputs
                if name in graph.producer
            ]
        for name in names:
            tensor = at + ops + place_of[name]
            maker = at + graph.producer[name] if name in graph.producer else source
            arcs.append((maker, tensor, prices.crossing[hop][name]))
            arcs += [(tensor, at + reader, math.inf) for reader in graph.consumers[name]]
    cut = minimum_cut(arcs, source, sink, sink + 1, at_most=most)
    near = cut.near.tolist()
    tiers = tuple(
        next((hop for hop in range(hops) if near[hop * width + i]), hops) for i in range(ops)
    )
    cost = cost_of(graph, prices, tiers)
    if not math.isfinite(cost):
        raise ValueError("every placement is forbidden by an infinite price")
    if abs(cost - cut.value) > cut.resolution:
        raise ValueError(f"the cut's value {cut.value} is not its cost {cost}: this is a bug")
    return Placement(tiers=tiers, cost=cost, cut_value=cut.value, resolution=cut.resolution)
