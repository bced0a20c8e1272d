"""Every best plan over all bandwidths, from a solver for one."""

from collections.abc import Callable
from dataclasses import dataclass
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


def frontier(
    best: Callable[[float], L], low: float, high: float, *, tolerance: float = 1e-9
) -> tuple[Stretch[L], ...]:
    """The lower envelope of all plans between *low* and *high*, in order of ``x``.

    The envelope is concave, so where the lines of two neighbours meet either they are the only
    ones or *best* finds one below. Each breakpoint costs at most two calls.

    Args:
        best: the exact solver: the line that is lowest at ``x``.
        low: smallest ``x`` (seconds per byte), at least 0.
        high: largest ``x``, above *low*.
        tolerance: relative cost below which two plans count as equal.

    Source: Eisner and Severance 1976.
    """

    def cost(line: L, x: float) -> float:
        return line.fixed_s + line.slope * x

    def between(x0: float, a: L, x1: float, b: L) -> list[Stretch[L]]:
        if a.slope - b.slope <= tolerance * max(abs(a.slope), 1.0):
            return [Stretch(x0, x1, a if cost(a, x1) <= cost(b, x1) else b)]
        meet = min(max((b.fixed_s - a.fixed_s) / (a.slope - b.slope), x0), x1)
        if not x0 < meet < x1:
            return [Stretch(x0, x1, b if meet <= x0 else a)]
        c = best(meet)
        if cost(c, meet) >= cost(a, meet) * (1 - tolerance):
            return [Stretch(x0, meet, a), Stretch(meet, x1, b)]
        return between(x0, a, meet, c) + between(meet, c, x1, b)

    merged: list[Stretch[L]] = []
    for stretch in between(low, best(low), high, best(high)):
        if merged and merged[-1].line == stretch.line:
            merged[-1] = Stretch(merged[-1].low, stretch.high, stretch.line)
        else:
            merged.append(stretch)
    return tuple(merged)
