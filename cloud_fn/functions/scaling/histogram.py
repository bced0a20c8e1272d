"""The hybrid histogram policy.

Source: Shahrad et al., "Serverless in the Wild", USENIX ATC 2020, section 4.
"""

import math
from dataclasses import dataclass

from cloud_fn.functions.scaling.forecast import around
from cloud_fn.functions.scaling.history import BIN_S, BINS, History
from cloud_fn.functions.scaling.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramPolicy:
    """Loaded again before the shortest usual idle time, and kept until after the longest.

    The head is rounded down to the minute and the tail up, and ``margin`` taken off and added. Too
    little is known before ``least_seen`` idle times, and where the counts of the bins spread too
    evenly (coefficient of variation below ``least_cv``): then it stays for all of the four hours.
    Where most idle times were longer than those, the next one is forecast.
    """

    head_percentile: float = 5.0
    tail_percentile: float = 99.0
    margin: float = 0.1
    least_cv: float = 2.0
    least_seen: int = 10
    forecast_margin: float = 0.15
    name: str = "histogram"

    def window(self, history: History, /) -> Window:
        within = history.within
        if within + history.beyond < max(1, self.least_seen):
            return _WHOLE_RANGE
        if history.beyond > within:
            return around(history, self.forecast_margin)
        if _variation(history, within) < self.least_cv:
            return _WHOLE_RANGE
        head = _minute(history, within * self.head_percentile / 100)
        tail = _minute(history, within * self.tail_percentile / 100) + 1
        return Window.between((1 - self.margin) * head * BIN_S, (1 + self.margin) * tail * BIN_S)


_WHOLE_RANGE = Window(0.0, BINS * BIN_S)


def _variation(history: History, within: int) -> float:
    """The coefficient of variation of all bins' counts, the empty ones among them."""
    mean = within / BINS
    square = sum(count * count for _, count in history.counts) / BINS
    return math.sqrt(max(0.0, square - mean * mean)) / mean


def _minute(history: History, rank: float) -> int:
    """The first minute up to which at least *rank* idle times lie."""
    below = 0
    for minute, count in history.counts:
        below += count
        if below >= rank - 1e-9:
            return minute
    raise AssertionError("the rank is at most the number of idle times")
