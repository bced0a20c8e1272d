"""Op times corrected by cuts that were really run. Pure.

ONNX Runtime's profiler shares out the time of the whole fused graph. A head or a tail alone is
another graph: fusions across the cut are gone, layouts change at its edge, its
weights fit a cache that all the weights do not, and the profiler's own clock weighs on short
kernels more than on long ones. So a few cuts are really run, and the ops before each are made to
take together what its head took; between anchors the profiler's shares stand. A head and a tail
need not add up to the whole, so an op has two times: one in a head, and one in a tail.

Over 15 real models, 12 to 14 cuts each, two collections (2026-11): 0.9 and 1.5 % mean error of head
and tail with the five :data:`TARGETS`; 1.6 and 2.2 % with one time for both, made of what the head
took of head and tail together; 2.6 and 3.4 % with no anchors.
``isthmus testbed bench planner --only prediction`` measures it anew.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from planner.graph import Graph
from planner.narrow import Place, places, silhouette
from planner.profiles import Anchor, Part

TARGETS = (0.05, 0.15, 0.35, 0.6, 0.85)
"""Where a cut is wanted, as a share of the network's time. One is early, since there the cuts are
that send the most and yet often pay."""

NEAR = 0.06
"""Within this of its target a cut is chosen by its bytes; where there is none, the nearest is."""

EDGE = 0.02
"""No anchor has less than this share of the time on one side: it would tell of nothing else."""

MOST = 2.5
"""No stretch between two anchors is corrected by more than this: then one was disturbed."""


def to_run(graph: Graph, seconds: Mapping[str, float]) -> tuple[Place, ...]:
    """The cuts to run as anchors: near each target the one that fewest bytes cross.

    Where nothing is near, as in a model of which one op takes half the time, the nearest there is.

    Args:
        graph: the model's; a cut lies along its order.
        seconds: of each op of the network.
    """
    sizes = silhouette(graph)
    before = _before(graph, seconds)
    if not before[-1]:
        return ()
    network = [at for at, op in enumerate(graph.ops) if not op.is_step]
    shares = {
        at: before[at] / before[-1]
        for at in range(network[0] + 1, network[-1] + 1)
        if sizes[at] is not None and EDGE <= before[at] / before[-1] <= 1 - EDGE
    }
    wanted = set()
    for target in TARGETS:
        off = {at: abs(share - target) for at, share in shares.items()}
        near = [at for at in off if off[at] <= NEAR + 1e-9]
        if near:
            wanted.add(min(near, key=lambda at: (sizes[at], off[at])))
        elif off:
            wanted.add(min(off, key=lambda at: off[at]))
    found = (within_network(graph, place) for place in places(graph, sizes, wanted))
    return tuple(
        place
        for place in found
        if place.tensors and all(graph.info(name).crosses for name in place.tensors)
    )


def within_network(graph: Graph, place: Place) -> Place:
    """*place* without what crosses it only for a step after the network."""
    tensors = tuple(
        name
        for name in place.tensors
        if any(
            at >= place.after and not graph.ops[at].is_step for at in graph.consumers.get(name, ())
        )
    )
    nbytes = sum(graph.info(name).nbytes or 0 for name in tensors)
    return Place(place.after, nbytes, tensors)


def expected_s(graph: Graph, seconds: Mapping[str, float], place: Place) -> tuple[float, float]:
    """Seconds of the network before and after *place*, by *seconds* of its ops."""
    before = _before(graph, seconds)
    return before[place.after], before[-1] - before[place.after]


def corrected(
    graph: Graph, seconds: Mapping[str, float], anchors: Sequence[Anchor], part: Part
) -> dict[str, float]:
    """Seconds of each op of the network in a *part* of it, as the anchors' parts were measured.

    They add up to what *seconds* do. An anchor that contradicts the one before it is left out, and
    no op's time is changed by more than :data:`MOST` and what makes up for it.

    Args:
        graph: the model's.
        seconds: of each op of the network, by the profiler.
        anchors: in the order of the graph.
        part: whether the ops are to add up to heads, from the first on, or to tails, from the last.
    """
    names = [op.name for op in graph.ops if op.name in seconds]
    before = [0.0, *accumulate(seconds[name] for name in names)]
    total_s = before[-1]
    knots = [(0.0, 0.0)]
    for anchor in anchors:
        real_s = anchor.head_s if part == "head" else total_s - anchor.tail_s
        if anchor.head_expected_s > knots[-1][0] and knots[-1][1] < real_s < total_s:
            knots.append((anchor.head_expected_s, real_s))
    knots.append((total_s, total_s))
    factors = [
        (end, min(max((real_end - real) / (end - start), 1 / MOST), MOST))
        for (start, real), (end, real_end) in pairwise(knots)
        if end > start
    ]
    found = {}
    at = 0
    for name, ends_s in zip(names, before[1:], strict=True):
        while at + 1 < len(factors) and ends_s > factors[at][0] * (1 + 1e-9):
            at += 1
        found[name] = seconds[name] * (factors[at][1] if factors else 1.0)
    scale = total_s / (sum(found.values()) or 1.0)
    return {name: spent * scale for name, spent in found.items()}


def _before(graph: Graph, seconds: Mapping[str, float]) -> list[float]:
    """Seconds of the network before each op, and of all of it."""
    return [0.0, *accumulate(seconds.get(op.name, 0.0) for op in graph.ops)]
