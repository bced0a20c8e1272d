"""Policies played over a trace, each seeing of it only what came before."""

from collections.abc import Iterator

import numpy as np

from cloud_fn.functions.backtest.score import Outcome, Windows, outcome, summed
from cloud_fn.functions.backtest.trace import Floats, Trace
from cloud_fn.functions.scaling.greedy import Idle, victims
from cloud_fn.functions.scaling.history import History, seen
from cloud_fn.functions.scaling.window import Policy

START_S = 1.0
"""Greedy-dual's cost of a start: a trace does not say, and so it is the same for all."""


def slices(trace: Trace) -> Iterator[slice]:
    """Where each function's moments lie."""
    ends = np.cumsum(np.bincount(trace.of, minlength=trace.functions))
    begin = 0
    for end in ends.tolist():
        yield slice(begin, end)
        begin = end


def fixed(trace: Trace, keep_alive_s: float) -> Outcome:
    """A fixed keep-alive."""
    same = np.full(len(trace.of), keep_alive_s)
    windows = Windows(begin_s=np.zeros(len(trace.of)), end_s=same)
    return outcome("fixed keep-alive", f"{keep_alive_s / 60:g} min", trace, windows)


def windows_of(trace: Trace, policy: Policy) -> Windows:
    """What *policy* says after each moment, from the function's own idle times before it."""
    lasted_s = trace.lasted_s
    begin_s, end_s = np.zeros(len(trace.of)), np.zeros(len(trace.of))
    for part in slices(trace):
        history = History()
        last = part.stop - 1
        for at in range(part.start, part.stop):
            window = policy.window(history)
            begin_s[at], end_s[at] = window.prewarm_s, window.end_s
            if at < last:
                history = seen(history, float(lasted_s[at]))
    return Windows(begin_s=begin_s, end_s=end_s)


def greedy_dual(trace: Trace, capacity_bytes: float, setting: str) -> Outcome:
    """Functions that stay until the memory is needed, of which there is *capacity_bytes*."""
    order = np.lexsort((trace.of, trace.at_s))
    sizes = trace.sizes_bytes
    loaded: dict[int, Idle] = {}
    since: dict[int, float] = {}
    cold = np.zeros(len(trace.of), dtype=bool)
    used, clock, idle_byte_s = 0.0, 0.0, 0.0
    for at in order.tolist():
        function, now_s = int(trace.of[at]), float(trace.at_s[at])
        mine = loaded.pop(function, None)
        if mine is None:
            cold[at] = True
            lacking = used + sizes[function] - capacity_bytes
            gone = victims(loaded.values(), int(np.ceil(lacking)), clock=clock)
            clock = gone.clock
            for name in gone.names:
                del loaded[int(name)]
                idle_byte_s += (now_s - since.pop(int(name))) * sizes[int(name)]
                used -= sizes[int(name)]
            used += sizes[function]
            since[function] = now_s
        loaded[function] = Idle(
            name=str(function),
            clock=clock,
            frequency=1 if mine is None else mine.frequency + 1,
            cost_s=START_S,
            size_bytes=int(sizes[function]),
        )
    idle_byte_s += sum((trace.span_s - at_s) * sizes[name] for name, at_s in since.items())
    return summed("greedy-dual", setting, trace, cold, float(idle_byte_s))


def without_prewarming(trace: Trace, budget_byte_s: float) -> Outcome:
    """The fewest cold starts within a budget if all idle times were known, and none pre-warmed.

    Each idle time is either spanned, at its length times the size, or not. All save one cold start,
    so the cheapest are spanned while the budget lasts.
    """
    lasted_s = trace.lasted_s
    cost: Floats = np.where(trace.last, np.inf, lasted_s * trace.sizes_bytes[trace.of])
    order = np.argsort(cost, kind="stable")
    spanned = np.zeros(len(cost), dtype=bool)
    spanned[order[np.cumsum(cost[order]) <= budget_byte_s]] = True
    windows = Windows(begin_s=np.zeros(len(cost)), end_s=np.where(spanned, lasted_s, 0.0))
    return outcome("best without pre-warming", "knowing all idle times", trace, windows)
