"""The window that would have cost least: cold starts, and memory at a price.

An idle time falls into one of 241 bins: a minute of the four hours, or beyond them. Against chances
of the bins every window has an expected cost, and it falls apart into one part for when the window
begins and one for when it ends. So the best of all 29,000 pairs is found by looking at 241 + 241.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cloud_fn.functions.scaling.history import BIN_S, BINS, History
from cloud_fn.functions.scaling.window import LEAST_UNLOADED_S, Window

CELLS = BINS + 1
"""The bins, and one for all that lies beyond them."""

MARGIN = 0.1
"""A window begins by this share earlier than the shortest idle time it is there for, as the hybrid
histogram's does (those that are shorter count as cold, even where it begins before they end), and
it ends with a minute."""

Floats = npt.NDArray[np.float64]

_BEGINS_S: Floats = np.arange(CELLS, dtype=np.float64) * BIN_S * (1 - MARGIN)
_BEGINS_S[_BEGINS_S < LEAST_UNLOADED_S] = 0.0
_ENDS_S: Floats = np.arange(CELLS, dtype=np.float64) * BIN_S
_LAST = np.ceil(_BEGINS_S / BIN_S).astype(np.intp)
"""For each begin the first minute at or after it: the window cannot end before."""

_INSIDE = _LAST - _BEGINS_S / BIN_S
"""How much of the minute before that one lies within a window that begins there."""


def cell(idle_s: float) -> int:
    """The bin of an idle time."""
    return min(int(idle_s // BIN_S), BINS)


def counted(history: History) -> Floats:
    """The counts of all bins, shape ``(241,)``."""
    counts = np.zeros(CELLS)
    for minute, count in history.counts:
        counts[minute] = count
    counts[BINS] = history.beyond
    return counts


class Prospects:
    """What windows would cost, for each row of *chances*; any price can then be asked for.

    Args:
        chances: of the bins, shape ``(rows, 241)``; each row adds up to 1.
    """

    def __init__(self, chances: Floats) -> None:
        rows = chances.shape[0]
        below = np.zeros((rows, CELLS + 1))  # [:, m]: the chance of a bin below m
        np.cumsum(chances, axis=1, out=below[:, 1:])
        missed = 1.0 - below[:, :CELLS]  # by a window that ends at minute m
        loaded = np.zeros((rows, CELLS))  # until minute m, in seconds
        halves = (1.0 - below[:, 1:CELLS]) + chances[:, : CELLS - 1] / 2
        np.cumsum(halves * BIN_S, axis=1, out=loaded[:, 1:])
        self._end_cold, self._end_s = missed, loaded
        self._begin_cold = np.where(_BEGINS_S > 0, below[:, :CELLS], 0.0)
        self._begin_s = loaded[:, _LAST] - _INSIDE * BIN_S * (1.0 - below[:, _LAST])
        self._begin_s[:, _BEGINS_S == 0] = 0.0

    def best(self, price: float | Floats) -> tuple[Floats, Floats]:
        """When the cheapest window begins and ends, in seconds, each of shape ``(rows,)``.

        Args:
            price: of a second loaded, in cold starts; one, or one for each row.
        """
        each = np.broadcast_to(np.asarray(price, dtype=float), self._end_s.shape[:1])[:, None]
        end = self._end_cold + each * self._end_s
        after = np.minimum.accumulate(end[:, ::-1], axis=1)[:, ::-1]
        total = self._begin_cold - each * self._begin_s + after[:, _LAST]
        begin = total.argmin(axis=1)
        end[np.arange(CELLS)[None, :] < _LAST[begin][:, None]] = np.inf
        return _BEGINS_S[begin], _ENDS_S[end.argmin(axis=1)]


def best_window(chances: Sequence[float] | Floats, price: float) -> Window:
    """The cheapest window; see :class:`Prospects`."""
    begin_s, end_s = Prospects(np.asarray(chances, dtype=float)[None, :]).best(price)
    return Window.between(float(begin_s[0]), float(end_s[0]))
