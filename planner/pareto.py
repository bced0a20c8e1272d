"""The Pareto front of two objectives: every plan that no other beats in both.

By the epsilon-constraint method: the first objective is minimised while the second must fall below
its last value, so that plans between the corners of the convex hull are found too. Each point is
exact, by minimum cut or integer programme.

Source: Haimes, Lasdon and Wismer 1971.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from planner.limits import Limit, choose_slowest
from planner.objectives import Name, World
from planner.rates import Rates
from planner.solve.problem import Chosen, Problem
from planner.solve.throughput import slowest_s

MOST_POINTS = 40
_STEP = 1e-4
"""Relative: two points that differ by less in the second objective count as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A plan of the front, with the values of the two objectives (less is better)."""

    chosen: Chosen
    first: float
    second: float


def front(
    problem: Problem, world: World, first: Name, second: Name, limits: Sequence[Limit] = ()
) -> tuple[Point, ...]:
    """The front from the best in *first* to the best in *second*, at most 40 points of it.

    Raises:
        ValueError: an objective lacks a figure that it needs.
    """
    ours, theirs = _rates(world, first), _rates(world, second)
    points: list[Point] = []
    below = math.inf
    while len(points) < MOST_POINTS:
        capped = _most(theirs, below, second)
        best = choose_slowest(problem, ours, (*limits, *capped))
        if best is None:
            break
        level = _most(ours, slowest_s(ours, best.chosen) * (1 + 1e-9), first)
        tight = choose_slowest(problem, theirs, (*limits, *level, *capped)) or best
        value = slowest_s(theirs, tight.chosen)
        points.append(Point(chosen=tight.chosen, first=slowest_s(ours, tight.chosen), second=value))
        below = value * (1 - _STEP)
        if value <= 0:
            break
    return tuple(points)


def _rates(world: World, name: Name) -> tuple[Rates, ...]:
    up_bps = world.link.up_bps
    if name == "throughput":
        return world.stages(up_bps)
    return (world.objective(name).at(up_bps),)


def _most(rates: Sequence[Rates], most: float, what: str) -> list[Limit]:
    if math.isinf(most):
        return []
    return [
        Limit(what=what, most=most, show=lambda value: f"{value:.4g}", of=each.of, rates=each)
        for each in rates
    ]
