"""Along the graph, one op after the other: what would cross there, and what it would take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from planner.costs import Costs, plain_world
from planner.graph import Graph
from planner.links import Link
from planner.model import Model
from planner.narrow import narrowest
from planner.planning import LOSSLESS
from planner.plans import Plan, PlanDocument
from planner.profiles import Profile
from planner.solve.way import Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Every place between two ops, from before the first (0) to after the last.

    The ops stand in a topological order that begins with the choice's own head, so that its cut is
    one of the places, ``cut``. Bytes and latency are those of the best lossless codecs, None where
    something cannot cross; the latency is the one over the document's link.
    """

    kinds: tuple[str, ...]
    sent_bytes: tuple[int | None, ...]
    device_s: tuple[float, ...]
    cloud_s: tuple[float, ...]
    latency_s: tuple[float | None, ...]
    cut: int
    named: Mapping[int, tuple[str, ...]]

    @property
    def places(self) -> int:
        return len(self.sent_bytes)


@dataclass(slots=True)
class _Crossing:
    """What crosses at the place where the walk stands, as running sums."""

    sent_bytes: int = 0
    codec_s: float = 0.0
    stuck: int = 0

    def change(self, way: Way | None, sign: int) -> None:
        if way is None:
            self.stuck += sign
            return
        self.sent_bytes += sign * way.nbytes
        self.codec_s += sign * (way.encode_s + way.decode_s)


def walk_of(
    document: PlanDocument, model: Model, device: Profile, cloud: Profile, *, most_named: int = 9
) -> Walk:
    """Walk along *model* with the choice's head first, and name its narrow places."""
    graph, link = model.graph, document.link
    world = plain_world(
        Link(name=link.name, up_bps=link.up_bps, down_bps=link.down_bps, rtt_s=link.rtt_s), device
    )
    costs = Costs(graph, device, cloud, replace(world, load=document.load), LOSSLESS)
    problem, rates = costs.problem, costs.latency(link.up_bps)
    order, cut = _order(graph, document.plan(document.choice))
    place = {index: at for at, index in enumerate(order)}
    begins, ends = _spans(graph, place)
    ways = {name: problem.best_way(name, rates) for name in graph.consumers}
    device_s = (0.0, *accumulate(problem.device_s[index] for index in order))
    done_s = (0.0, *accumulate(problem.cloud_s[index] for index in order))
    cloud_s = tuple(max(done_s[-1] - done, 0.0) for done in done_s)
    made = {name: graph.producer.get(name) for name in problem.answer_bytes}
    down = [0] * len(order)  # answer bytes by the op that makes them
    for name, index in made.items():
        if index is not None:
            down[place[index]] += problem.answer_bytes[name]
    late_bytes = sum(down)
    now = _Crossing()
    sent: list[int | None] = []
    latency: list[float | None] = []
    for at in range(len(order)):
        for name in begins.get(at, ()):
            now.change(ways[name], 1)
        for name in ends.get(at, ()):
            now.change(ways[name], -1)
        sent.append(None if now.stuck or now.sent_bytes <= 0 else now.sent_bytes)
        fixed = device_s[at] + cloud_s[at] + now.codec_s + late_bytes * rates.down + rates.trip
        latency.append(None if sent[-1] is None else fixed + now.sent_bytes * rates.up)
        late_bytes -= down[at]
    low = {*narrowest(sent, most_named), cut}
    return Walk(
        kinds=tuple(graph.ops[index].kind.removeprefix("step:") for index in order),
        sent_bytes=(*sent, None),
        device_s=device_s,
        cloud_s=cloud_s,
        latency_s=(*latency, device_s[-1] + rates.stay),
        cut=cut,
        named=_names(begins, ends, len(order), low),
    )


def head_of(graph: Graph, crossing: Sequence[str]) -> frozenset[int]:
    """The ops that run before *crossing*: all that what is made after it does not need again."""
    if not crossing:
        return frozenset(range(len(graph.ops)))
    after = set(crossing)
    for op in graph.ops:
        if not after.isdisjoint(op.inputs):
            after.update(op.outputs)
    late = [name for name in graph.answers if name in after and name not in crossing]
    tail, _ = graph.needed(late, crossing)
    return frozenset(range(len(graph.ops))) - frozenset(tail)


def _order(graph: Graph, choice: Plan) -> tuple[list[int], int]:
    """The head's ops and then the others, both in the graph's order; and how many the head has."""
    head = head_of(graph, [each.tensor for each in choice.crossing])
    if not graph.is_ideal(head):  # a tensor that is made twice, on both sides
        return list(range(len(graph.ops))), len(head)
    everywhere = range(len(graph.ops))
    order = [i for i in everywhere if i in head] + [i for i in everywhere if i not in head]
    return order, len(head)


_Spans = dict[int, list[str]]


def _spans(graph: Graph, place: Mapping[int, int]) -> tuple[_Spans, _Spans]:
    """The tensors that begin to cross at each place, and those that no longer do."""
    begins: _Spans = {}
    ends: _Spans = {}
    for name, readers in graph.consumers.items():
        if readers:
            maker = graph.producer.get(name)
            begins.setdefault(0 if maker is None else place[maker] + 1, []).append(name)
            ends.setdefault(max(place[i] for i in readers) + 1, []).append(name)
    return begins, ends


def _names(
    begins: _Spans, ends: _Spans, count: int, wanted: set[int]
) -> dict[int, tuple[str, ...]]:
    found = {}
    crossing: dict[str, None] = {}
    for at in range(count):
        crossing.update(dict.fromkeys(begins.get(at, ())))
        for name in ends.get(at, ()):
            del crossing[name]
        if at in wanted:
            found[at] = tuple(crossing)
    return found
