"""The field's simple method: try every place in one order of the ops, as if they were a chain.

It is exact for a model that is a chain. Elsewhere it can miss the best cut; it is kept as the
cross-check of the exact solvers and as a baseline. Source: Kang et al., "Neurosurgeon", ASPLOS
2017, which tries every layer of a sequential network.
"""

import math
from itertools import accumulate

from planner.graph import Graph
from planner.solve.mincut import Prices, Solution, cost_of


def best_prefix(graph: Graph, prices: Prices, *, single_tensor: bool = False) -> Solution:
    """The cheapest of the heads that are the first n ops, for any n; linear in the graph.

    Args:
        graph: its order of ops is the chain's.
        prices: as for the minimum cut.
        single_tensor: only where at most one tensor crosses, as in the paper.

    Raises:
        ValueError: every prefix has infinite cost.
    """
    count = len(graph.ops)
    device = [0.0, *accumulate(prices.device)]
    cloud = [0.0, *accumulate(reversed(prices.cloud))][::-1]
    starts, ends = _lives(graph)
    back = [0.0] * (count + 1)
    for name in graph.answers:
        if name in graph.producer:
            back[graph.producer[name]] += prices.answer[name]
    after = [0.0, *accumulate(reversed(back[:count]))][::-1]
    alive: dict[str, float] = {}
    best: tuple[float, int] | None = None
    for n in range(count + 1):
        for name in ends[n]:
            alive.pop(name, None)
        for name in starts[n]:
            alive[name] = prices.crossing[name]
        if n < count:
            if single_tensor and len(alive) > 1:
                continue
            cost = device[n] + cloud[n] + math.fsum(alive.values()) + prices.round_trip + after[n]
        else:
            cost = device[n] + prices.stay
        if math.isfinite(cost) and (best is None or cost < best[0]):
            best = (cost, n)
    if best is None:
        raise ValueError("every cut is forbidden by an infinite price")
    head = frozenset(range(best[1]))
    exact = cost_of(graph, prices, head)
    return Solution(head=head, cost=exact, cut_value=best[0], resolution=0.0)


def _lives(graph: Graph) -> tuple[list[list[str]], list[list[str]]]:
    """Which tensors begin and cease to cross when the head grows to n ops."""
    starts: list[list[str]] = [[] for _ in range(len(graph.ops) + 1)]
    ends: list[list[str]] = [[] for _ in range(len(graph.ops) + 1)]
    for name, readers in graph.consumers.items():
        if readers:
            starts[graph.producer[name] + 1 if name in graph.producer else 0].append(name)
            ends[max(readers) + 1].append(name)
    return starts, ends
