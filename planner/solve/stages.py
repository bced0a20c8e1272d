"""The fewest stages, and the best of so many.

The best stretches of the graph's order (:mod:`planner.solve.segments`) are where it begins; what
stages of any form can do beyond them is an integer programme (:mod:`planner.solve.stage_table`).
"""

import math
import time
from dataclasses import dataclass

from planner.solve.segments import Segments
from planner.solve.stage_table import Table
from planner.solve.staged import Objective, Staged, Use, measure, total_s

MOST_VARIABLES = 60_000
"""A larger programme is not begun: what the stretches of one order give is the answer then."""

_INFEASIBLE = 2
"""HiGHS's status, as scipy's ``milp`` reports it."""

_SAME = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The stage of each op and what the stages use.

    No staging has fewer than *fewest* stages, and none of this many costs less than *bound*.
    """

    stages: tuple[int, ...]
    uses: tuple[Use, ...]
    fewest: int
    bound: float


def solve(
    problem: Staged, objective: Objective = total_s, *, least: int = 1, time_limit_s: float
) -> Found | None:
    """The fewest stages, at least *least*, and among those the best by *objective*.

    Args:
        problem: the ops and the limits.
        objective: :func:`planner.solve.staged.total_s` or ``slowest_s``.
        least: how many stages there must be.
        time_limit_s: for all programmes together; what was found by then is returned with what was
            proved by then.

    Returns:
        None where no staging keeps to the limits, or none was found in time.
    """
    ops, until_s = len(problem.graph.ops), time.perf_counter() + time_limit_s
    segments = Segments(problem)
    enough = segments.fewest()
    least = max(least, at_least(problem))
    fewest, proved = least, True
    for count in range(least, ops + 1):
        start = segments.best(count, objective) if enough and count >= enough else None
        if start is None:
            half_s = (until_s - time.perf_counter()) / 2
            start, settled = _search(problem, count, half_s)
            proved = proved and settled
            fewest = count + 1 if proved and start is None else fewest
        if start is not None:
            return _improve(problem, objective, start, count, fewest, until_s)
    return None


def at_least(problem: Staged) -> int:
    """How many stages there must be at least, by the weights and the seconds of all ops."""
    every: dict[str, int] = {}
    for mine in problem.weights:
        every |= mine
    by_bytes = sum(every.values()) / max(problem.most_bytes, 1.0)
    by_time = math.fsum(problem.seconds) / problem.most_s
    return max(1, *(math.ceil(share * (1 - _SAME) - _SAME) for share in (by_bytes, by_time)))


def _search(
    problem: Staged, count: int, time_limit_s: float
) -> tuple[tuple[int, ...] | None, bool]:
    """Any staging of *count* stages, and whether the answer is sure."""
    if count == 1:
        whole = (0,) * len(problem.graph.ops)
        uses = measure(problem, whole)
        fits = uses is not None and uses[0].fits(problem)
        return (whole, True) if fits else (None, True)
    table = Table(problem, count)
    if table.count > MOST_VARIABLES or time_limit_s <= 0:
        return None, False
    found = table.run(total_s, time_limit_s, math.inf, first=True)
    if found.x is None:
        return None, found.status == _INFEASIBLE
    stages = table.read(found.x)
    return (stages, True) if _kept(problem, stages) is not None else (None, False)


def _improve(
    problem: Staged,
    objective: Objective,
    start: tuple[int, ...],
    count: int,
    fewest: int,
    until_s: float,
) -> Found:
    uses = _kept(problem, start)
    if uses is None:
        raise ValueError("the stretches found do not keep to the limits: this is a bug")
    best, bound = objective(uses), _floor(problem, count, objective)
    left_s = until_s - time.perf_counter()
    if count > 1 and best > bound * (1 + _SAME) and left_s > 0:
        table = Table(problem, count)
        if table.count <= MOST_VARIABLES:
            found = table.run(objective, left_s, best)
            if found.status == _INFEASIBLE:
                bound = best  # nothing is below what was there
            elif found.mip_dual_bound is not None:
                bound = max(bound, min(best, float(found.mip_dual_bound) * table.unit_s))
            if found.x is not None:
                stages = table.read(found.x)
                better = _kept(problem, stages)
                if better is not None and objective(better) < best:
                    start, uses, best = stages, better, objective(better)
                    bound = min(bound, best)
    return Found(stages=start, uses=uses, fewest=fewest, bound=min(bound, best))


def _floor(problem: Staged, count: int, objective: Objective) -> float:
    """What no *count* stages can cost less than: no tensor moves that could stay."""
    graph = problem.graph
    always = {name for name in graph.answers if name in graph.producer}
    always |= {name for name in graph.sources if graph.consumers.get(name)}
    moved_s = problem.per_byte_s * sum(map(problem.size, always))
    whole = math.fsum((*problem.seconds, count * problem.fixed_s, moved_s))
    if objective is total_s:
        return whole
    return max(whole / count, max(problem.seconds, default=0.0) + problem.fixed_s)


def _kept(problem: Staged, stages: tuple[int, ...]) -> tuple[Use, ...] | None:
    uses = measure(problem, stages)
    return uses if uses and all(use.fits(problem) for use in uses) else None
