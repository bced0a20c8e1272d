"""What all functions' logs so far say of the next request, and what memory is worth.

The budget on memory is the constraint. One Lagrange multiplier, the price of a byte for a second,
makes the choice separable: each function takes its own cheapest window at that price, and the price
is bisected until the windows would have kept within the budget.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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

_STEPS = 16
_FARTHEST = 1e5
"""The price is sought between the default's hundred-thousandth and so many times of it."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moments:
    """Every moment of every log at which a window had to be chosen, and what then came.

    ``counts`` are those of the bins that were known, ``(rows, 241)``; for the price a window is
    held until an eighth more is known, so that ``row`` says which of them each moment goes by.
    ``lasted_s`` is the idle time that came, or its length so far where it is not ``over``.
    """

    counts: Floats
    row: npt.NDArray[np.int64]
    lasted_s: Floats
    over: npt.NDArray[np.bool_]
    size_bytes: Floats

    @classmethod
    def of(cls, logs: Sequence[Log]) -> "_Moments":
        counts, row, lasted, over, sizes = [], [], [], [], []
        rows = 0
        for log in logs:
            chosen, held = _held(len(log.idles_s) + 1)
            counts.append(counts_before(log.idles_s)[chosen])
            row += [rows + at for at in held]
            rows += len(chosen)
            lasted += [*log.idles_s, log.open_s]
            over += [True] * len(log.idles_s) + [False]
            sizes += [float(log.size_bytes)] * len(chosen)
        return cls(
            counts=np.concatenate(counts),
            row=np.array(row, dtype=np.int64),
            lasted_s=np.array(lasted, dtype=float),
            over=np.array(over),
            size_bytes=np.array(sizes, dtype=float),
        )


def _held(moments: int) -> tuple[list[int], list[int]]:
    """At which of so many moments a window is chosen, and by which of those each one goes."""
    chosen: list[int] = []
    held: list[int] = []
    for at in range(moments):
        if not chosen or at >= chosen[-1] + 1 + chosen[-1] // 8:
            chosen.append(at)
        held.append(len(chosen) - 1)
    return chosen, held


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
        self._moments = _Moments.of(logs)
        self._weight = max(WEIGHTS, key=lambda weight: self._likelihood(self._chances(weight)))
        self._prospects = Prospects(self._chances(self._weight))

    def learned(self, budget_byte_s: float) -> Learned:
        """What to act by if idle instances may take so much over a time as long as the logs.

        The price is the least at which they would have taken no more.
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
        moments = self._moments
        begin_s, end_s = self._prospects.best(price * moments.size_bytes)
        loaded_s = np.minimum(moments.lasted_s, end_s[moments.row]) - begin_s[moments.row]
        return float(np.maximum(0.0, loaded_s) @ moments.size_bytes[moments.row])

    def _chances(self, weight: float) -> Floats:
        known = self._moments.counts.sum(axis=1) > 0
        prior = np.where(known[:, None], self._later, self._first)
        return expected_chances(self._moments.counts, prior, weight)

    def _likelihood(self, chances: Floats) -> float:
        """How well *chances* foresaw each idle time, as the mean logarithm."""
        over = self._moments.over
        cells = np.array([cell(idle_s) for idle_s in self._moments.lasted_s[over]])
        foreseen = chances[self._moments.row[over], cells]
        return float(np.log(np.maximum(foreseen, 1e-12)).mean())


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
