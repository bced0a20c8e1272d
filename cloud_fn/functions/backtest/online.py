"""The back-tested policy on a trace: chosen anew every so often, from what came before alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_fn.functions.backtest.replay import fixed, slices
from cloud_fn.functions.backtest.score import Outcome, Windows, outcome
from cloud_fn.functions.backtest.trace import Trace, TraceError
from cloud_fn.functions.scaling.backtested import Learned, expected_chances
from cloud_fn.functions.scaling.choosing import Evidence, Log, counts_before
from cloud_fn.functions.scaling.expected import Floats, Prospects

MOST_MOMENTS = 400_000
"""Each takes 1 kB while a trace is played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A trace with the counts of the bins before each of its moments, shape ``(moments, 241)``."""

    trace: Trace
    counts: npt.NDArray[np.float32]

    @classmethod
    def of(cls, trace: Trace) -> "Replay":
        """Prepare *trace*.

        Raises:
            TraceError: it is too long.
        """
        if len(trace.of) > MOST_MOMENTS:
            raise TraceError(
                f"{trace.name} has {len(trace.of):,} minutes in which a function was asked, more "
                f"than {MOST_MOMENTS:,}: give fewer functions or fewer days"
            )
        lasted_s = trace.lasted_s
        counts = [
            counts_before(lasted_s[part][:-1].tolist()).astype(np.float32) for part in slices(trace)
        ]
        return cls(trace=trace, counts=np.concatenate(counts))


def logs_before(trace: Trace, now_s: float) -> tuple[Log, ...]:
    """What is known at *now_s* of every function that was asked before it."""
    logs = []
    for function, part in enumerate(slices(trace)):
        at_s = trace.at_s[part]
        at_s = at_s[at_s < now_s]
        if len(at_s):
            logs.append(
                Log(
                    size_bytes=int(trace.sizes_bytes[function]),
                    idles_s=tuple(np.diff(at_s).tolist()),
                    open_s=now_s - float(at_s[-1]),
                )
            )
    return tuple(logs)


def back_tested(replay: Replay, budgets: Sequence[float], *, every_s: float) -> tuple[Outcome, ...]:
    """What would have come of each budget; see :func:`chosen_windows`."""
    played = chosen_windows(replay, budgets, every_s=every_s)
    return tuple(
        outcome("back-tested", f"budget {budget:.2f}", replay.trace, windows)
        for budget, windows in zip(budgets, played, strict=True)
    )


def chosen_windows(
    replay: Replay, budgets: Sequence[float], *, every_s: float
) -> tuple[Windows, ...]:
    """The windows for each budget, chosen anew every *every_s* from the log so far.

    Args:
        replay: of the trace.
        budgets: the memory it may take, as multiples of what ten minutes took on the log so far.
        every_s: how often it is chosen.
    """
    trace = replay.trace
    begin_s = np.zeros((len(budgets), len(trace.of)))
    end_s = np.zeros_like(begin_s)
    for number in range(int(np.ceil(trace.span_s / every_s))):
        now_s = number * every_s
        rows = np.flatnonzero((trace.at_s >= now_s) & (trace.at_s < now_s + every_s))
        evidence = Evidence(logs_before(trace, now_s))
        most_byte_s = fixed(trace.before(now_s), 600.0).idle_byte_s
        learned = [evidence.learned(budget * most_byte_s) for budget in budgets]
        prospects = Prospects(_chances(replay, learned[0], rows))
        sizes = trace.sizes_bytes[trace.of[rows]]
        for at, each in enumerate(learned):
            begin_s[at, rows], end_s[at, rows] = prospects.best(each.price * sizes)
    return tuple(
        Windows(begin_s=begin, end_s=end) for begin, end in zip(begin_s, end_s, strict=True)
    )


def _chances(replay: Replay, learned: Learned, rows: np.ndarray) -> Floats:
    """What the policy expects after the moments *rows*; the budget does not matter to it."""
    counts = replay.counts[rows].astype(float)
    known = counts.sum(axis=1) > 0
    prior = np.where(known[:, None], np.asarray(learned.later), np.asarray(learned.first))
    return expected_chances(counts, prior, learned.weight)


def in_hindsight(replay: Replay, price: float) -> Outcome:
    """A bound and no result: one window for each function, the best on the whole of its own log."""
    trace = replay.trace
    last = trace.last
    whole = replay.counts[last].astype(float)
    begins, ends = np.zeros(trace.functions), np.zeros(trace.functions)
    some = whole.sum(axis=1) > 0
    chances = whole[some] / whole[some].sum(axis=1, keepdims=True)
    begins[some], ends[some] = Prospects(chances).best(price * trace.sizes_bytes[some])
    windows = Windows(begin_s=begins[trace.of], end_s=ends[trace.of])
    return outcome("one window each, in hindsight", f"price {price:.3g}", trace, windows)
