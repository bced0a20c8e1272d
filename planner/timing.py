"""Taking times on a machine that others use too."""

import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

LEAST_TURNS = 5
SHORT_S = 3e-3
MOST_IN_A_ROW = 5
QUARTILE = 25.0

Key = TypeVar("Key", bound=Hashable)
Call = Callable[[], object]


def timed(call: Call) -> float:
    """Seconds that *call* takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def typical(times: Sequence[float]) -> float:
    """The lower quartile: what it takes while nobody disturbs, however often somebody does.

    Over 15 real models and 12 cuts each, head and tail were predicted as well from lower quartiles
    as from minima or 10th percentiles, and better than from medians (2026-11).
    """
    return float(np.percentile(times, QUARTILE))


def around(
    calls: Mapping[Key, Call], *, turns: int, most_s: float
) -> Iterator[Mapping[Key, float]]:
    """Time *calls* one after the other, *turns* times, so that a busy moment hits all alike.

    At its turn each call is made once uncounted, since it finds the caches full of what the others
    left, and then once more; short calls up to five times more, of which the mean counts. Stops
    early when *most_s* is over, but not before five turns.

    Yields:
        The seconds of each call, after every turn.
    """
    first = {key: timed(call) for key, call in calls.items()}
    counted = {
        key: min(MOST_IN_A_ROW, math.ceil(SHORT_S / max(spent, 1e-9)))
        for key, spent in first.items()
    }
    until = time.perf_counter() + most_s
    for turn in range(turns):
        if turn >= LEAST_TURNS and time.perf_counter() > until:
            return
        yield {key: _burst(call, counted[key]) for key, call in calls.items()}


def _burst(call: Call, times: int) -> float:
    call()
    return timed(lambda: [call() for _ in range(times)]) / times
