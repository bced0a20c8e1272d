"""The plan table: which plan is best at which uplink bandwidth."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from planner.limits import Limit, choose, choose_slowest
from planner.objectives import Objective, World
from planner.solve.frontier import frontier
from planner.solve.problem import Chosen, Problem
from planner.solve.throughput import slowest_s

SLOWEST_BPS, FASTEST_BPS = 0.05e6 / 8, 1000e6 / 8
"""The table's ends, bytes per second: 0.05 to 1000 Mbps, and the choice's own if further out."""

PROBES_BPS = tuple(mbps * 1e6 / 8 for mbps in (0.1, 0.3, 1, 3, 10, 30, 100, 300))
"""Where the slowest stage is minimised anew, so that its table has plans to choose among."""

_NARROW = 1.0001
_MARKS = 200

MOST_CUTS = 32
"""So many cuts at most for one table: more than any real model needed. A graph can have hundreds of
plans that each are best somewhere, by less than anyone can measure."""

Row = tuple[float, float, Chosen]
"""From and to (bytes per second), and the best between them."""


@dataclass(frozen=True, slots=True)
class LineTable:
    """The rows in order of bandwidth; nowhere is another plan better by more than *gap*.

    The gap is a share of the objective, and 0 where every best plan is in the table.
    """

    rows: tuple[Row, ...]
    gap: float = 0.0


@dataclass(frozen=True, slots=True)
class _Line:
    chosen: Chosen
    fixed_s: float
    slope: float


def line_table(
    problem: Problem,
    goal: Objective,
    limits: Sequence[Limit],
    up_bps: float,
    *,
    most: int = MOST_CUTS,
) -> LineTable:
    """Every best plan over all bandwidths, exactly, in order of bandwidth.

    A plan costs a fixed part and a part in proportion to one over the bandwidth, whatever the
    objective. Limits are held at the link's own figures, so that the same plans are allowed
    everywhere. After *most* cuts the table is left as it is, with its gap.
    """

    def best(pace: float) -> _Line:
        found = choose(problem, goal.at(1 / pace), limits)
        assert found is not None  # the same plans are allowed at every bandwidth
        chosen = found.chosen
        return _Line(chosen, goal.fixed.of(chosen), goal.pace.of(chosen))

    low, high = _ends(up_bps)
    found = frontier(best, (1 / high, 1 / low), through=1 / up_bps, most=most)
    rows = ((1 / each.high, 1 / each.low, each.line.chosen) for each in reversed(found.stretches))
    return LineTable(tuple(rows), found.gap)


def stage_table(
    problem: Problem, world: World, limits: Sequence[Limit], known: Sequence[Chosen]
) -> tuple[Row, ...]:
    """The same for the slowest stage: the best of *known* and of what is best at each probe.

    A slowest stage is no line over the bandwidth. Each probe is exact; between them a plan that is
    best at none can be missed.
    """
    candidates = list(known)
    for up_bps in PROBES_BPS:
        found = choose_slowest(problem, world.stages(up_bps), limits)
        if found is not None and found.chosen not in candidates:
            candidates.append(found.chosen)

    def value(chosen: Chosen, up_bps: float) -> float:
        return slowest_s(world.stages(up_bps), chosen)

    return drawn(candidates, value, world.link.up_bps)


def drawn(
    candidates: Sequence[Chosen], value: Callable[[Chosen, float], float], up_bps: float
) -> tuple[Row, ...]:
    """Which of *candidates* has the least *value* at which bandwidth.

    Looked up along a fine scale, and where the best changes between two marks, there to within a
    hundredth of a percent.

    Args:
        candidates: the plans known.
        value: of a plan at a bandwidth in bytes per second; less is better.
        up_bps: the link's own bandwidth, which the table must hold.
    """

    def best(at_bps: float) -> int:
        values = [value(each, at_bps) for each in candidates]
        return values.index(min(values))

    low, high = _ends(up_bps)
    grid = [low * (high / low) ** (i / _MARKS) for i in range(_MARKS + 1)]
    bests = [best(at_bps) for at_bps in grid]
    rows: list[tuple[float, float, int]] = []
    for (start, first), (end, last) in pairwise(zip(grid, bests, strict=True)):
        for piece in _parted(best, (start, first), (end, last)):
            if rows and rows[-1][2] == piece[2]:
                rows[-1] = (rows[-1][0], piece[1], piece[2])
            else:
                rows.append(piece)
    return tuple((start, end, candidates[at]) for start, end, at in rows)


def _parted(
    best: Callable[[float], int], begin: tuple[float, int], finish: tuple[float, int]
) -> list[tuple[float, float, int]]:
    """One row, or two with the place between where the best changes."""
    (start, first), (end, last) = begin, finish
    if first == last:
        return [(start, end, first)]
    low, high = start, end
    while high / low > _NARROW:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if best(middle) == first else (low, middle)
    return [(start, high, first), (high, end, last)]


def _ends(up_bps: float) -> tuple[float, float]:
    return min(SLOWEST_BPS, up_bps), max(FASTEST_BPS, up_bps)
