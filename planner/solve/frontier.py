"""Every best plan over all bandwidths, from a solver for one."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, Protocol, TypeVar


class Line(Protocol):
    """A plan's cost at a bandwidth: ``fixed_s + slope * x`` with ``x = 1/bandwidth``."""

    @property
    def fixed_s(self) -> float: ...

    @property
    def slope(self) -> float: ...


L = TypeVar("L", bound=Line)


@dataclass(frozen=True, slots=True)
class Stretch(Generic[L]):
    """*line* is the lowest from *low* to *high* (in ``x``)."""

    low: float
    high: float
    line: L


@dataclass(frozen=True, slots=True)
class Envelope(Generic[L]):
    """The stretches in order of ``x``.

    At no ``x`` is any plan lower than the stretch's by more than the share *gap* of its cost.
    """

    stretches: tuple[Stretch[L], ...]
    gap: float


@dataclass(frozen=True, slots=True)
class _Open(Generic[L]):
    """Between *low*, where *left* is the lowest, and *high*, where *right* is."""

    low: float
    left: L
    high: float
    right: L

    @property
    def meet(self) -> float:
        """Where the two lines meet, which is where they can be furthest above the envelope."""
        steeper = self.left.slope - self.right.slope
        if steeper <= 0:
            return self.low
        return min(max((self.right.fixed_s - self.left.fixed_s) / steeper, self.low), self.high)

    @property
    def gap(self) -> float:
        """At most by which share of their cost: the envelope is concave, so above its chord."""
        meet = self.meet
        if not self.low < meet < self.high:
            return 0.0
        here = _cost(self.left, meet)
        first, last = _cost(self.left, self.low), _cost(self.right, self.high)
        chord = first + (last - first) * (meet - self.low) / (self.high - self.low)
        return max(0.0, (here - chord) / here) if here > 0 else 0.0


def frontier(
    best: Callable[[float], L],
    ends: tuple[float, float],
    *,
    through: float | None = None,
    tolerance: float = 1e-9,
    most: int = 1000,
) -> Envelope[L]:
    """The lower envelope of all plans between two places, in order of ``x``.

    The envelope is concave, so where the lines of two neighbours meet either they are the only
    ones or *best* finds one below. Each breakpoint costs at most two calls. They are made where the
    lines that are known can be furthest from the envelope, so that few calls find what matters.

    Args:
        best: the exact solver: the line that is lowest at ``x``.
        ends: the smallest ``x`` (seconds per byte), at least 0, and the largest, above it.
        through: a place between them that must have its own best line, however few calls there are.
        tolerance: relative cost below which two plans count as equal.
        most: calls of *best*, after which the envelope is left as it is known.

    Source: Eisner and Severance 1976; the order of the calls is ours.
    """
    low, high = ends
    knots = [(x, best(x)) for x in (low, through, high) if x is not None]
    calls = len(knots)
    waiting = [_Open(x, left, y, right) for (x, left), (y, right) in pairwise(knots) if x < y]
    done: list[Stretch[L]] = []
    while waiting and calls < most:
        each = max(waiting, key=lambda each: each.gap)
        waiting.remove(each)
        if each.gap <= tolerance:
            done += _closed(each, tolerance)
            continue
        found = best(each.meet)
        calls += 1
        if _cost(found, each.meet) >= _cost(each.left, each.meet) * (1 - tolerance):
            done += _closed(each, tolerance)
        else:
            waiting += [
                _Open(each.low, each.left, each.meet, found),
                _Open(each.meet, found, each.high, each.right),
            ]
    gap = max((each.gap for each in waiting), default=0.0)
    for each in waiting:
        done += _closed(each, tolerance)
    merged: list[Stretch[L]] = []
    for stretch in sorted(done, key=lambda stretch: stretch.low):
        if merged and merged[-1].line == stretch.line:
            merged[-1] = Stretch(merged[-1].low, stretch.high, stretch.line)
        else:
            merged.append(stretch)
    return Envelope(tuple(merged), gap if gap > tolerance else 0.0)


def _closed(open_: _Open[L], tolerance: float) -> list[Stretch[L]]:
    """The stretches of the two lines that are known."""
    low, left, high, right = open_.low, open_.left, open_.high, open_.right
    if left.slope - right.slope <= tolerance * max(abs(left.slope), 1.0):
        return [Stretch(low, high, left if _cost(left, high) <= _cost(right, high) else right)]
    meet = open_.meet
    if not low < meet < high:
        return [Stretch(low, high, right if meet <= low else left)]
    return [Stretch(low, meet, left), Stretch(meet, high, right)]


def _cost(line: Line, x: float) -> float:
    return line.fixed_s + line.slope * x
