"""Frames in flight: the plan, and the mixture of plans, that let the most frames through.

With frames in flight device, link and cloud work at the same time. A single plan is as fast as its
slowest stage. Different frames may follow different plans: the best mixture is a linear programme
over the plans' use of each resource, which has one column per plan, far too many to list. Columns
are generated: the programme's dual prices the resources, and the minimum cut at those prices either
finds a plan that improves the mixture or proves that none does.

Source: Dantzig and Wolfe 1960 (column generation); the plans' polytope by minimum cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from planner.rates import Rates, Use
from planner.solve.problem import Chosen

TOLERANCE = 1e-6
"""Relative: the mixture is proved best to this much. Minimum cuts are no finer."""

MOST_COLUMNS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Shares of the frames by plan; each frame takes *seconds* of the busiest resource.

    No mixture takes less than *bound*. At most as many plans have a share as there are resources.
    """

    shares: tuple[tuple[Chosen, float], ...]
    seconds: float
    bound: float


def best_mixture(resources: Sequence[Rates], best: Callable[[Rates], Chosen]) -> Mixture:
    """The mixture with the least work per frame on its busiest resource.

    Args:
        resources: the seconds of each resource that a plan takes, as price lists.
        best: the exact solver for one price list.
    """
    count = len(resources)
    starts = [np.full(count, 1 / count), *np.eye(count)]
    plans: list[Chosen] = []
    for weights in starts:
        plans = _with(plans, best(_blend(resources, weights)))
    bound = 0.0
    for _ in range(MOST_COLUMNS):
        seconds, shares, weights = _mix(resources, plans)
        rates = _blend(resources, weights)
        found = best(rates)
        bound = max(bound, min(rates.of(found), seconds))
        grown = _with(plans, found)
        if seconds - bound <= TOLERANCE * seconds or len(grown) == len(plans):
            break
        plans = grown
    used = [(plan, float(share)) for plan, share in zip(plans, shares, strict=True) if share > 1e-9]
    return Mixture(shares=tuple(used), seconds=seconds, bound=bound)


def slowest_s(resources: Sequence[Rates], chosen: Use) -> float:
    """Seconds of a plan's slowest stage: one over its frames per second."""
    return max(rates.of(chosen) for rates in resources)


def _with(plans: list[Chosen], found: Chosen) -> list[Chosen]:
    same = any(p.head == found.head and p.crossing == found.crossing for p in plans)
    return plans if same else [*plans, found]


def _blend(resources: Sequence[Rates], weights: np.ndarray) -> Rates:
    total = Rates()
    for rates, weight in zip(resources, weights, strict=True):
        total += rates * max(float(weight), 0.0)
    return total


def _mix(
    resources: Sequence[Rates], plans: Sequence[Chosen]
) -> tuple[float, np.ndarray, np.ndarray]:
    """Least T with every resource's work at most T: its value, the shares, and the dual prices."""
    work = np.array([[rates.of(plan) for plan in plans] for rates in resources])
    scale = float(work.max()) or 1.0
    table = np.hstack([work / scale, -np.ones((len(resources), 1))])
    target = np.zeros(len(plans) + 1)
    target[-1] = 1.0
    shares = np.append(np.ones(len(plans)), 0.0)[None]
    found = linprog(
        target, A_ub=table, b_ub=np.zeros(len(resources)), A_eq=shares, b_eq=[1.0], method="highs"
    )
    return float(found.fun) * scale, found.x[:-1], -np.asarray(found.ineqlin.marginals)
