"""What all functions' logs so far say of the next request, and what memory is worth.

The budget on memory is the constraint. One Lagrange multiplier, the price of a byte for a second,
makes the choice separable: each function takes its own cheapest window at that price, and the price
is bisected until the windows would have kept within the budget.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud_fn.functions.scaling.backtested import (
    DEFAULT_PRICE,
    Learned,
    expected_chances,
)
from cloud_fn.functions.scaling.expected import CELLS, Floats, Prospects, cell

WEIGHTS = (0.3, 1.0, 3.0)
"""How much the other functions may say; the logs choose between them."""

_LEAST_EVENTS = 30
"""With fewer idle times than this in all logs together, nothing is chosen."""

_STEPS = 14
_FARTHEST = 1e4
"""The price is sought between the default's ten-thousandth and so many times of it."""

_FADE = 0.02
"""Chance per minute of a next request where no log reaches: as before anything is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One function's past: its idle times in order, and how long it has been idle now."""

    size_bytes: int
    idles_s: tuple[float, ...]
    open_s: float


def counts_before(idles_s: Sequence[float]) -> Floats:
    """The counts of the bins before each idle time and after the last, ``(n + 1, 241)``."""
    counts = np.zeros((len(idles_s) + 1, CELLS))
    counts[np.arange(1, len(idles_s) + 1), [cell(idle_s) for idle_s in idles_s]] = 1
    return counts.cumsum(axis=0)


class Evidence:
    """What logs say; any budget can then be asked for.

    Args:
        logs: of all functions that share the budget.
    """

    def __init__(self, logs: Sequence[Log]) -> None:
        self._first, self._later = first_idle(logs), later_idles(logs)
        self._enough = sum(len(log.idles_s) for log in logs) >= _LEAST_EVENTS
        if not self._enough:
            return
        counts = np.stack([counts_before(log.idles_s)[-1] for log in logs])
        self._weight = _weight(logs, self._first, self._later)
        self._sizes_bytes = np.array([float(log.size_bytes) for log in logs])
        self._lasted_s = np.concatenate([(*log.idles_s, log.open_s) for log in logs])
        self._of = np.repeat(np.arange(len(logs)), [len(log.idles_s) + 1 for log in logs])
        known = counts.sum(axis=1) > 0
        prior = np.where(known[:, None], self._later, self._first)
        self._prospects = Prospects(expected_chances(counts, prior, self._weight))

    def learned(self, budget_byte_s: float) -> Learned:
        """What to act by if idle instances may take so much over a time as long as the logs.

        The price is the least at which the windows that are chosen now would have taken no more.
        """
        if not self._enough:
            return Learned()
        low, high = -math.log(_FARTHEST), math.log(_FARTHEST)
        for _ in range(_STEPS):
            middle = (low + high) / 2
            if self._used_byte_s(DEFAULT_PRICE * math.exp(middle)) > budget_byte_s:
                low = middle
            else:
                high = middle
        return Learned(
            price=DEFAULT_PRICE * math.exp(high),
            weight=self._weight,
            first=_sealed(self._first),
            later=_sealed(self._later),
        )

    def _used_byte_s(self, price: float) -> float:
        begin_s, end_s = self._prospects.best(price * self._sizes_bytes)
        loaded_s = np.minimum(self._lasted_s, end_s[self._of]) - begin_s[self._of]
        return float(np.maximum(0.0, loaded_s) @ self._sizes_bytes[self._of])


def _weight(logs: Sequence[Log], first: Floats, later: Floats) -> float:
    """The weight of the prior that would have foreseen each idle time best from those before it."""
    prior, before, total = [], [], []
    for log in logs:
        counts = [0] * CELLS
        for at, idle_s in enumerate(log.idles_s):
            here = cell(idle_s)
            prior.append(later[here] if at else first[here])
            before.append(counts[here])
            total.append(at)
            counts[here] += 1
    chance, count, seen = np.array(prior), np.array(before), np.array(total)
    return max(
        WEIGHTS,
        key=lambda weight: float(
            np.log(np.maximum((count + weight * chance) / (seen + weight), 1e-12)).sum()
        ),
    )


def choose(logs: Sequence[Log], *, span_s: float, budget_bytes: float) -> Learned:
    """What to act by from now on, from nothing but *logs*.

    Args:
        logs: of all functions that share the budget.
        span_s: how long they were recorded.
        budget_bytes: what idle instances may take together, on average over time.
    """
    return Evidence(logs).learned(budget_bytes * span_s)


def first_idle(logs: Sequence[Log]) -> Floats:
    """The chances of the bins of a function's first idle time.

    Functions that were asked only once count too: so far it lasted at least so long (the estimator
    of Kaplan and Meier 1958, with one more function that has the default's hazard).
    """
    over = np.bincount([cell(log.idles_s[0]) for log in logs if log.idles_s], minlength=CELLS)
    still = np.bincount([cell(log.open_s) for log in logs if not log.idles_s], minlength=CELLS)
    at_risk = (over + still)[::-1].cumsum()[::-1]
    hazard = (over + _FADE) / (at_risk + 1.0)
    hazard[-1] = 1.0
    left = np.concatenate(([1.0], np.cumprod(1 - hazard)[:-1]))
    return hazard * left


def later_idles(logs: Sequence[Log]) -> Floats:
    """The chances of the bins of all other idle times, every function weighing the same."""
    total = first_idle(logs)
    functions = 1
    for log in logs:
        if len(log.idles_s) > 1:
            cells = [cell(idle_s) for idle_s in log.idles_s[1:]]
            total += np.bincount(cells, minlength=CELLS) / len(cells)
            functions += 1
    return total / functions


def _sealed(chances: Floats) -> tuple[float, ...]:
    return tuple(float(min(1.0, max(0.0, chance))) for chance in chances)
