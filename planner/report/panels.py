"""Plots that stand above each other over one axis."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from planner.report.axes import Scale, line
from planner.report.labels import Box
from planner.report.markup import Markup, element

MOST_POINTS = 700


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One of the plots, with its title above it and its values written by *show*."""

    title: str
    x: Scale
    y: Scale
    show: Callable[[float], str]
    ticks: int

    @property
    def area(self) -> Box:
        return Box(self.x.first, self.y.last, self.x.last, self.y.first)

    def points(self, values: Sequence[float | None]) -> list[tuple[float, float] | None]:
        """Where *values*, one at each place, lie; None where there is none."""
        return [None if v is None else (self.x(at), self.y(v)) for at, v in thinned(values)]

    def curve(self, values: Sequence[float | None], style: str) -> Markup:
        return element("path", d=line(self.points(values)), class_=f"thin {style}")

    def outline(self, values: Sequence[float | None]) -> list[Box]:
        """What the curve takes up, so that no label lies on it."""
        boxes = []
        before: tuple[float, float] | None = None
        for here in self.points(values):
            if here is not None and before is not None:
                low, high = sorted((before[1], here[1]))
                boxes.append(Box(before[0] - 1, low - 2, here[0] + 1, high + 2))
            before = here
        return boxes

    def frame(self) -> Iterator[Markup]:
        yield element("text", self.title, x=self.x.first, y=self.y.last - 12, class_="strong")
        for value in self.y.ticks(self.ticks):
            y = self.y(value)
            yield element("line", x1=self.x.first, x2=self.x.last, y1=y, y2=y, class_="grid")
            yield element(
                "text",
                self.show(value),
                x=self.x.first - 8,
                y=y + 4,
                text_anchor="end",
                class_="mute",
            )

    def sides(self, x: float) -> Iterator[Markup]:
        """The device's side, left of *x*, and the cloud's, tinted; and the cut between them."""
        top, bottom = self.y.last, self.y.first
        for left, right, style in ((self.x.first, x, "device"), (x, self.x.last, "cloud")):
            if right > left:
                yield element(
                    "rect",
                    x=left,
                    y=top,
                    width=right - left,
                    height=bottom - top,
                    class_=f"fill-{style} tint",
                )
        yield element("line", x1=x, x2=x, y1=top, y2=bottom, class_="here")


def thinned(values: Sequence[float | None]) -> list[tuple[int, float | None]]:
    """At most about :data:`MOST_POINTS`: of each stretch the lowest and the highest, in order."""
    every = list(enumerate(values))
    if len(every) <= MOST_POINTS:
        return every
    step = -(-2 * len(every) // MOST_POINTS)
    found: list[tuple[int, float | None]] = []
    for start in range(0, len(every), step):
        stretch = every[start : start + step]
        known = [(value, at) for at, value in stretch if value is not None]
        if known:
            found += sorted((at, value) for value, at in {min(known), max(known)})
        else:
            found.append(stretch[0])
    return found if found[-1][0] == every[-1][0] else [*found, every[-1]]
