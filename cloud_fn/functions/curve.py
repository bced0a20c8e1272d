"""How long a batch takes by its size."""

import bisect

import msgspec

WORTH = 1.4
"""Batching is off where the best size answers fewer than this many times as many rows a second.

In an instance, joining, parting and waiting take some of it: where the curve said 1.3 (a text
line's direction) 8 clients cost 1.1 times the processor's time for each request, where it said 1.8
(MiniLM, 16 tokens) 0.8 times (2 busy cores, 2026-11).
"""


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds by size, where a row counts 1.

    Where requests are padded, a row counts as long as it is, in parts of ``length``, which is 0
    where they are not. Seconds never fall as the size grows.
    """

    points: tuple[tuple[float, float], ...]
    length: int = 0

    def __post_init__(self) -> None:
        sizes, seconds = [each for each, _ in self.points], [each for _, each in self.points]
        if 1 not in sizes or sizes != sorted(set(sizes)) or sizes[0] <= 0:
            raise ValueError("points must be of growing sizes above 0, one of them 1")
        if seconds != sorted(seconds) or not 0 < seconds[0] <= seconds[-1] < float("inf"):
            raise ValueError("points must have seconds above 0 that never fall")
        if self.length < 0:
            raise ValueError(f"length must be 0 or more, got {self.length}")

    def seconds(self, rows: int, length: int = 0) -> float:
        """How long a batch of so many rows takes, each padded to *length*.

        Between two points that is on the line between them; a smaller batch than any takes as long
        as the smallest, and one larger than any as long by the row as the largest.
        """
        size = rows * length / self.length if self.length else float(rows)
        at = bisect.bisect_left(self.points, (size, 0.0))
        if at == 0:
            return self.points[0][1]
        if at == len(self.points):
            largest, longest_s = self.points[-1]
            return longest_s * size / largest
        (left, left_s), (right, right_s) = self.points[at - 1 : at + 1]
        return left_s + (right_s - left_s) * (size - left) / (right - left)

    def unpadded(self) -> "Curve":
        """The same for requests that are all as long as those that were measured."""
        return Curve(points=tuple(point for point in self.points if point[0] >= 1))

    @property
    def gain(self) -> float:
        """Rows a second at the best size, relative to one by one."""
        alone_s = self.seconds(1, self.length)
        return max(alone_s * size / seconds for size, seconds in self.points if size >= 1)


def pays(curve: Curve) -> bool:
    """Whether batching is worth it at all; see :data:`WORTH`."""
    return curve.gain >= WORTH
