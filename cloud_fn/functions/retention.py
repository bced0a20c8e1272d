"""What a node's cache keeps when there is no room for all: GreedyDual-Size-Frequency. Pure.

An entry is worth ``clock + uses * cost / size``, with the clock as it was when it was last used;
the one worth least goes first, and the clock then stands at what that one was worth. So what is
cheap to make again, large or seldom used goes, and what nobody uses any more goes in the end.

Source: Cherkasova 1998, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
Policy" (HPL-98-69R1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something kept: how often it was used, how long it took to make, what it is worth."""

    uses: int
    cost_s: float
    worth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """All that is kept, by name, and the clock."""

    clock: float = 0.0
    items: Mapping[str, Item] = field(default_factory=dict)


def used(shelf: Shelf, name: str, *, cost_s: float | None, size_bytes: int) -> Shelf:
    """*name* is used once more, or for the first time; *cost_s* None is what it was before."""
    before = shelf.items.get(name, Item(uses=0, cost_s=0.0, worth=0.0))
    cost_s = before.cost_s if cost_s is None else cost_s
    uses = before.uses + 1
    worth = shelf.clock + uses * cost_s / max(1, size_bytes)
    item = Item(uses=uses, cost_s=cost_s, worth=worth)
    return replace(shelf, items={**shelf.items, name: item})


def order(shelf: Shelf, names: Sequence[str]) -> tuple[str, ...]:
    """*names*, those first that are worth least; what was never used is worth nothing."""
    return tuple(
        sorted(names, key=lambda name: shelf.items[name].worth if name in shelf.items else 0.0)
    )


def gone(shelf: Shelf, name: str) -> Shelf:
    """*name* went to make room for others."""
    if name not in shelf.items:
        return shelf
    left = {other: item for other, item in shelf.items.items() if other != name}
    return Shelf(clock=max(shelf.clock, shelf.items[name].worth), items=left)
