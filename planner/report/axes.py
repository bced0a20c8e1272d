"""Scales, ticks and the lines that follow them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from planner.report.markup import number


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Values from *low* to *high*, drawn from the pixel *first* to the pixel *last*.

    On a logarithmic scale 0 and less lie at the lower of its ends.
    """

    low: float
    high: float
    first: float
    last: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of *value*, beyond the ends for one that lies beyond them."""
        if self.high == self.low:
            return (self.first + self.last) / 2
        if self.log:
            positive = value if value > 0 else min(self.low, self.high)
            share = math.log(positive / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self, most: int) -> tuple[float, ...]:
        """Round values within the scale, about *most* or fewer."""
        found = _log_ticks(self.low, self.high, most) if self.log else ()
        return found if len(found) > 2 else self._linear_ticks(most)

    def _linear_ticks(self, most: int) -> tuple[float, ...]:
        if self.high <= self.low:
            return (self.low,)
        rough = (self.high - self.low) / most
        size = 10 ** math.floor(math.log10(rough))
        step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
        found = _multiples(step, self.low, self.high)
        return found if len(found) > 1 else _multiples(step / 2, self.low, self.high)


def _multiples(step: float, low: float, high: float) -> tuple[float, ...]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(float(f"{i * step:.12g}") for i in range(first, last + 1))


def _log_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Powers of ten; where they are few with 2 and 5 between them, and where many every n-th."""
    if high <= low:
        return (low,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

    def within(values: Iterable[float]) -> tuple[float, ...]:
        return tuple(v for v in values if low * 0.999 <= v <= high * 1.001)

    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = within(10.0**power * factor for power in powers for factor in factors)
        if len(found) <= most:
            return found
    every = math.ceil(len(powers) / most)
    return within(10.0**power for power in powers if power % every == 0)


def line(points: Iterable[tuple[float, float] | None]) -> str:
    """The path through *points*; None lifts the pen."""
    parts: list[str] = []
    down = False
    for point in points:
        if point is not None:
            parts.append(f"{'L' if down else 'M'}{number(point[0])} {number(point[1])}")
        down = point is not None
    return "".join(parts)
