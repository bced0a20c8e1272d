"""How a head's outputs are sent while it still works: in which chunks, ready when. Pure.

The head's ops run in the graph's order, and a boundary tensor may be sent once the op that makes it
has run. A tensor that takes long to encode is sent in slices, each while the next is encoded. A
message more costs the device some time of its own, so a chunk must be worth it.
"""

from collections.abc import Mapping

from planner.chunks import Chunk
from planner.graph import Graph
from planner.solve.way import Way

WORTH = 4
"""A stage of the head, or an encoding, is parted only where what is left of it takes at least this
many times what a message more costs the device."""

AHEAD_BYTES = 4096
"""Less than this is not sent ahead: it would travel within the noise of a round trip."""

MOST_SLICES = 8
"""The first slice's encoding is all that a sliced tensor does not hide: an eighth, at the least."""

MOST_TENSORS = 16
"""A cut of more tensors is sent in one message."""


def most_slices(encode_s: float, nbytes: int, message_s: float) -> int:
    """In how many slices a tensor is worth sending whose encoding takes *encode_s*.

    Args:
        encode_s: seconds on the device for all of it.
        nbytes: its bytes on the wire.
        message_s: what a message more costs the device, seconds.
    """
    if encode_s < WORTH * message_s or nbytes < 2 * AHEAD_BYTES:
        return 1
    affordable = int(2 * encode_s / (WORTH * message_s)) if message_s > 0 else MOST_SLICES
    return max(1, min(MOST_SLICES, affordable, nbytes // AHEAD_BYTES))


def chunks_of(
    graph: Graph,
    head: frozenset[int],
    crossing: Mapping[str, Way],
    device_s: tuple[float, ...],
    message_s: float,
) -> tuple[Chunk, ...]:
    """The chunks in which *crossing* is sent; none where one message is as good.

    Args:
        graph: the model's.
        head: indices of the ops on the device.
        crossing: how each boundary tensor crosses, in the order of :meth:`Graph.boundary`.
        device_s: seconds of each op on the device.
        message_s: what a message more costs the device, seconds.
    """
    sliced = any(way.slices > 1 for way in crossing.values())
    if not crossing or len(crossing) > MOST_TENSORS or (len(crossing) == 1 and not sliced):
        return ()
    out: list[Chunk] = []
    for work_s, names in _stages(graph, head, crossing, device_s, message_s):
        left_s = work_s
        for name in names:
            out += _slices(name, crossing[name], left_s, message_s, first=not out)
            left_s = 0.0
    return tuple(out) if len(out) > 1 else ()


def _stages(
    graph: Graph,
    head: frozenset[int],
    crossing: Mapping[str, Way],
    device_s: tuple[float, ...],
    message_s: float,
) -> list[tuple[float, list[str]]]:
    """Seconds of each stage of the head, and the tensors that are sent after it."""
    made_by = {name: graph.producer.get(name, -1) for name in crossing}
    order = sorted(head)
    stages: list[tuple[float, list[str]]] = []
    waiting: list[str] = []
    work_s, left_s = 0.0, sum(device_s[i] for i in order)
    names = sorted(crossing, key=lambda name: made_by[name])
    at = 0
    for place, name in enumerate(names):
        while at < len(order) and order[at] <= made_by[name]:
            work_s += device_s[order[at]]
            left_s -= device_s[order[at]]
            at += 1
        waiting.append(name)
        more = place + 1 < len(names)
        same = more and made_by[names[place + 1]] == made_by[name]
        nbytes = sum(crossing[each].nbytes for each in waiting)
        if (
            more
            and not same
            and nbytes >= AHEAD_BYTES
            and left_s >= WORTH * message_s
            and _parts(graph, head, made_by[name])
        ):
            stages.append((work_s, waiting))
            waiting, work_s = [], 0.0
    stages.append((work_s + max(left_s, 0.0), waiting))
    return stages


def _parts(graph: Graph, head: frozenset[int], last: int) -> bool:
    """Whether the head can be parted behind op *last*: only tensors are handed on, no sequences."""
    return all(
        graph.info(name).crosses
        for name, maker in graph.producer.items()
        if maker <= last and maker in head
        if any(last < reader and reader in head for reader in graph.consumers.get(name, ()))
    )


def _slices(name: str, way: Way, device_s: float, message_s: float, *, first: bool) -> list[Chunk]:
    small, rest = divmod(way.nbytes, way.slices)
    return [
        Chunk(
            tensor=name,
            number=number,
            of=way.slices,
            device_s=device_s if number == 1 else 0.0,
            encode_s=way.encode_s / way.slices + (0.0 if first and number == 1 else message_s),
            bytes=small + (number <= rest),
        )
        for number in range(1, way.slices + 1)
    ]
