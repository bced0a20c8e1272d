"""Where labels go, so that none lies on another or on what it names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from planner.report.markup import Markup, element, joined, number

Anchor = Literal["start", "middle", "end"]

_LETTER = 0.66
"""An upper estimate of a letter's width in the widest of the page's typefaces, in ems."""

_RISES = (8.0, -7.0, -21.0, 24.0, -37.0, 40.0, -53.0)
"""How far below its point a label's upper edge is tried, in pixels; the nearest first."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle that something drawn takes up."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: "Box") -> bool:
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text with a place of its own, and the point that it belongs to."""

    text: str
    box: Box
    anchor: Anchor
    point: tuple[float, float]

    def drawn(self, style: str, size: float) -> Markup:
        """The text, with a thin line to its point where that is not beside it."""
        box, (x, y) = self.box, self.point
        at = {"start": box.left, "middle": (box.left + box.right) / 2, "end": box.right}
        text = element(
            "text",
            self.text,
            x=at[self.anchor],
            y=box.bottom - 4,
            text_anchor=self.anchor,
            font_size=size,
            class_=f"halo {style}",
        )
        edge = box.top if box.top > y else box.bottom
        if abs(edge - y) < 12:
            return text
        near = min(max(x, box.left), box.right)
        path = f"M{number(x)} {number(y)}L{number(near)} {number(edge)}"
        return joined(element("path", d=path, class_="lead"), text)


def text_width(text: str, size: float) -> float:
    """An upper estimate of a line's width, in pixels."""
    return _LETTER * size * len(text)


def placed(
    text: str, point: tuple[float, float], size: float, area: Box, taken: Iterable[Box]
) -> Label | None:
    """A place for *text* near *point*, within *area* and clear of all that is *taken*."""
    x, y = point
    wide, high = text_width(text, size), size * 1.25
    lefts: dict[Anchor, float] = {"middle": x - wide / 2, "start": x + 10, "end": x - 10 - wide}
    others = list(taken)
    for rise in _RISES:
        for anchor, left in lefts.items():
            box = Box(left, y + rise, left + wide, y + rise + high)
            if area.holds(box) and not any(box.meets(other) for other in others):
                return Label(text=text, box=box, anchor=anchor, point=point)
    return None


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions at least *gap* apart, in the order of *wanted* and as near to it as that allows.

    Least squares by pooling neighbours that are too near (the pool-adjacent-violators algorithm:
    Ayer et al., Annals of Mathematical Statistics 26, 1955), then shifted between *low* and *high*.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[tuple[float, int]] = []  # the mean of what is wanted less the gaps before it, count
    for rank, index in enumerate(order):
        mean, count = wanted[index] - rank * gap, 1
        while pools and pools[-1][0] > mean:
            before, size = pools.pop()
            mean = (mean * count + before * size) / (count + size)
            count += size
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    room = max(high - low - gap * (len(order) - 1), 0.0)
    out = [0.0] * len(wanted)
    for rank, (index, mean) in enumerate(zip(order, means, strict=True)):
        out[index] = min(max(mean, low), low + room) + rank * gap
    return out
