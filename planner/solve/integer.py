"""Integer programmes, solved by HiGHS through scipy.

Source: Huangfu and Hall 2018 (HiGHS).
"""

import time

import numpy as np
from scipy.optimize import LinearConstraint, OptimizeResult, milp

from planner.solve.stray import stdout_is_stderr

_FAILED = 4
"""scipy's status of a programme that HiGHS neither solved nor proved to have no answer."""


def least(
    target: np.ndarray,
    constraints: LinearConstraint,
    *,
    integrality: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    time_limit_s: float,
) -> OptimizeResult:
    """The variables of least *target*, proved to be so or with what was proved in time.

    HiGHS's presolve gives up on a few programmes that it solves without (status "Solve error", one
    of some thousands of made-up makespans, HiGHS 1.12, 2026-11); those are solved without.

    Args:
        target: a coefficient for each variable.
        constraints: what must hold.
        integrality: 1 where a variable must be whole, else 0.
        bounds: of each variable, from and to.
        time_limit_s: for all of it.
    """
    until_s = time.perf_counter() + time_limit_s
    for presolve in (True, False):
        with stdout_is_stderr():
            found = milp(
                target,
                constraints=constraints,
                integrality=integrality,
                bounds=bounds,
                options={
                    "mip_rel_gap": 0.0,
                    "presolve": presolve,
                    "time_limit": max(0.0, until_s - time.perf_counter()),
                },
            )
        if found.x is not None or found.status != _FAILED:
            break
    return found
