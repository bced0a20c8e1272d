"""A policy that foresees the next request: exponential smoothing of the last idle times.

The smoothing is statsmodels' where that is installed (``pip install isthmus[forecast]``): it finds
the level of smoothing that would have foreseen the past best. Without it, it is their mean.
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from cloud_fn.functions.scaling.history import History
from cloud_fn.functions.scaling.window import Window

_LEAST_FITTED = 8
_REFIT_EVERY = 16
"""A fit takes 5 ms and statsmodels' import 2 to 3 s (2 cores, 2026-11): so it is no step of each
request. Between two fits the level is carried on."""

_WINDOW = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastPolicy:
    """Loaded ``margin`` before the foreseen request, and kept until as much after it.

    Before two idle times are known it stays for ``keep_alive_s``.
    """

    margin: float = 0.15
    keep_alive_s: float = 600.0
    name: str = "forecast"

    def window(self, history: History, /) -> Window:
        if len(history.recent_s) < 2:
            return Window(0.0, self.keep_alive_s)
        return around(history, self.margin)


def around(history: History, margin: float) -> Window:
    """The window about the idle time that follows *history*, which holds at least one.

    It begins earlier and ends later by *margin*, a share of that time.
    """
    idle_s = next_idle_s(history.recent_s, history.seen)
    return Window.between((1 - margin) * idle_s, (1 + margin) * idle_s)


def next_idle_s(recent_s: tuple[float, ...], seen: int) -> float:
    """The idle time that follows, in seconds.

    Args:
        recent_s: the last idle times, at least one, the newest at the end.
        seen: how many there ever were; the smoothing is fitted anew at every 16th of them.
    """
    since_fit = min(seen % _REFIT_EVERY, len(recent_s))
    fitted = recent_s[: len(recent_s) - since_fit][-_WINDOW:]
    if len(fitted) < _LEAST_FITTED or min(recent_s) == max(recent_s):
        return fmean(recent_s)
    smoothing = _smoothing(fitted)
    if smoothing is None:
        return fmean(recent_s)
    weight, level_s = smoothing
    for idle_s in recent_s[len(recent_s) - since_fit :]:
        level_s += weight * (idle_s - level_s)
    return max(0.0, level_s)


@lru_cache(maxsize=4096)
def _smoothing(idles_s: tuple[float, ...]) -> tuple[float, float] | None:
    """The weight of a new idle time and the level after all of *idles_s*; None without the library.

    Simple exponential smoothing (Brown 1959), fitted to the least squared error.
    """
    try:
        from statsmodels.tsa.holtwinters import SimpleExpSmoothing
    except ImportError:
        return None
    if min(idles_s) == max(idles_s):
        return 0.0, idles_s[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that does not converge is still a forecast
        fit = SimpleExpSmoothing(idles_s, initialization_method="legacy-heuristic").fit()
    return float(fit.params["smoothing_level"]), float(fit.forecast(1)[0])
