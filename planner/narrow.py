"""The narrow places of a graph: where little would cross."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from planner.graph import Graph

SHALLOW = 1.1
"""What falls by less than a tenth is not worth looking at."""


class Place(NamedTuple):
    """A cut along the graph's own order: ``after`` ops run before it, ``nbytes`` cross, raw."""

    after: int
    nbytes: int
    tensors: tuple[str, ...]


def silhouette(graph: Graph) -> list[int | None]:
    """Raw bytes that would cross before each op, in the graph's order; None where not fixed."""
    sizes: list[int | None] = []
    total, unknown = 0, 0
    for _, begin, end in graph.prefixes():
        for names, sign in ((begin, 1), (end, -1)):
            for name in names:
                nbytes = graph.info(name).nbytes
                total += sign * (nbytes or 0)
                unknown += sign * (nbytes is None)
        sizes.append(None if unknown or total <= 0 else total)
    return sizes


def narrow_places(graph: Graph) -> list[Place]:
    """Cuts worth having: where fewer bytes cross than at every place before.

    In the graph's order; the input itself is the first. Places with a tensor of unknown size are
    left out.
    """
    sizes = silhouette(graph)
    return places(graph, sizes, _lows(sizes, 1.0))


def valleys(graph: Graph, most: int) -> list[Place]:
    """The input, and at most *most* - 1 narrow places more, whether or not narrower than it.

    A valley lies below what is around it; where there are too many the shallow ones are left out.
    """
    sizes = silhouette(graph)
    return places(graph, sizes, narrowest(sizes, most))


def narrowest(sizes: Sequence[float | None], most: int) -> list[int]:
    """Where *sizes* are low: the first, each new low, and each valley between two hills.

    One rule thins them: to count, a low must fall by a factor, and a valley must fall and rise
    again by it. The factor is :data:`SHALLOW`, or the smallest beyond it that leaves at most *most*
    (2 or more) places.
    """

    def found(factor: float) -> list[int]:
        return sorted({*_lows(sizes, factor), *_dips(sizes, factor)})

    at = found(SHALLOW)
    if len(at) <= most:
        return at
    low, high = SHALLOW, SHALLOW**2
    while len(found(high)) > most:
        low, high = high, high * high
    for _ in range(30):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if len(found(middle)) > most else (low, middle)
    return found(high)


def _lows(sizes: Sequence[float | None], factor: float) -> list[int]:
    """The first place, and each that is lower than the last one taken by more than *factor*."""
    found: list[int] = []
    least = float("inf")
    for at, size in enumerate(sizes):
        if size is not None and size * factor < least:
            least = size
            found.append(at)
    return found


def _dips(sizes: Sequence[float | None], factor: float) -> list[int]:
    """Each lowest place between a fall and a rise of more than *factor*; the end counts as a rise.

    One pass with hysteresis: the direction turns only when the size has moved that far back.
    """
    known = [(at, size) for at, size in enumerate(sizes) if size is not None]
    if not known:
        return []
    found: list[int] = []
    low = high = known[0]
    falling = False
    for at, size in known[1:]:
        if falling:
            if size < low[1]:
                low = (at, size)
            elif size > low[1] * factor:
                found.append(low[0])
                falling, high = False, (at, size)
        elif size > high[1]:
            high = (at, size)
        elif size * factor < high[1]:
            falling, low = True, (at, size)
    return [*found, low[0]] if falling else found


def places(graph: Graph, sizes: Sequence[int | None], wanted: Iterable[int]) -> list[Place]:
    """The tensors that cross where *sizes* are known, at each count of ops that is *wanted*."""
    taken = set(wanted)
    found: list[Place] = []
    crossing: dict[str, None] = {}
    for count, begin, end in graph.prefixes():
        crossing.update(dict.fromkeys(begin))
        for name in end:
            del crossing[name]
        size = sizes[count]
        if count in taken and size is not None:
            found.append(Place(count, size, tuple(crossing)))
    return found
