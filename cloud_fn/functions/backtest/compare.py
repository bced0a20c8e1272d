"""All policies on one trace, and the back-tested one beside each of the others."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import msgspec
import numpy as np

from cloud_fn.functions.backtest.online import Replay, back_tested, in_hindsight
from cloud_fn.functions.backtest.replay import (
    fixed,
    greedy_dual,
    windows_of,
    without_prewarming,
)
from cloud_fn.functions.backtest.score import Outcome, outcome
from cloud_fn.functions.backtest.trace import Trace
from cloud_fn.functions.scaling.forecast import ForecastPolicy
from cloud_fn.functions.scaling.histogram import HistogramPolicy

OURS = "back-tested"
BUDGETS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4)
_MINUTES = (5, 10, 20, 60, 120)
_CAPACITIES = (0.8, 0.9, 1.0, 1.2, 1.4)
_TRUSTED = (1, 10)
_TAILS = (99.0, 90.0)
MARGINS = (0.15, 0.5)
_CHOICES = 16
"""A trace of eight hours has no days: it is chosen anew every half hour."""

_DAY_S = 86_400.0
_PRICES = (1e-13, 1e-12, 3e-12, 1e-11)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What each policy did; ``bounds`` know the future and are no policies.

    ``memory`` is everywhere relative to a fixed keep-alive of ten minutes, which left
    ``base_byte_s`` unused.
    """

    trace: str
    functions: int
    invocations: int
    hours: float
    base_byte_s: float
    outcomes: tuple[Outcome, ...]
    bounds: tuple[Outcome, ...]


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """A baseline, and the back-tested policy beside it.

    ``cold`` is the least that ours has without more memory than the baseline, and ``memory`` the
    least it has without more cold starts; None where no budget that was tried keeps within it.
    """

    policy: str
    setting: str
    baseline_cold: int
    baseline_memory: float
    cold: int | None
    memory: float | None

    @property
    def cold_ratio(self) -> float | None:
        return None if self.cold is None else self.cold / self.baseline_cold

    @property
    def memory_ratio(self) -> float | None:
        return None if self.memory is None else self.memory / self.baseline_memory


def compare(
    trace: Trace,
    *,
    budgets: Sequence[float] = BUDGETS,
    margins: Sequence[float] = MARGINS,
    say: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Play all policies on *trace*.

    Args:
        trace: when functions were asked.
        budgets: for the back-tested policy, as multiples of what ten minutes take.
        margins: of the forecast; its fits take most of the time.
        say: told how far it is.
    """
    base = fixed(trace, 600.0).idle_byte_s or 1.0
    outcomes = [_relative(each, base) for each in _baselines(trace, base, margins, say)]
    every_s = min(_DAY_S, trace.span_s / _CHOICES)
    say(f"{OURS}: {len(budgets)} budgets, chosen anew every {every_s / 60:.0f} minutes")
    replay = Replay.of(trace)
    played = back_tested(replay, budgets, every_s=every_s)
    outcomes += [_relative(each, base) for each in played]
    mean_bytes = float(trace.sizes_bytes.mean())
    scale = 170e6 / mean_bytes  # prices are for instances as they are usual
    bounds = [without_prewarming(trace, base)]
    bounds += [in_hindsight(replay, price * scale) for price in _PRICES]
    return Comparison(
        trace=trace.name,
        functions=trace.functions,
        invocations=int(trace.invocations.sum()),
        hours=trace.span_s / 3600,
        base_byte_s=base,
        outcomes=tuple(outcomes),
        bounds=tuple(_relative(each, base) for each in bounds),
    )


def against(comparison: Comparison) -> tuple[Against, ...]:
    """The back-tested policy beside every baseline."""
    ours = [each for each in comparison.outcomes if each.policy == OURS]
    found = []
    for each in comparison.outcomes:
        if each.policy == OURS:
            continue
        colds = [own.cold for own in ours if own.memory <= each.memory]
        memories = [own.memory for own in ours if own.cold <= each.cold]
        found.append(
            Against(
                policy=each.policy,
                setting=each.setting,
                baseline_cold=each.cold,
                baseline_memory=each.memory,
                cold=min(colds, default=None),
                memory=min(memories, default=None),
            )
        )
    return tuple(found)


def families(outcomes: Sequence[Outcome]) -> dict[str, tuple[Outcome, ...]]:
    """By policy, in the order in which they came, each from less memory to more."""
    return {
        policy: tuple(sorted(group, key=lambda each: each.memory))
        for policy, group in groupby(outcomes, key=lambda each: each.policy)
    }


def _baselines(
    trace: Trace, base: float, margins: Sequence[float], say: Callable[[str], None]
) -> Iterator[Outcome]:
    say("fixed keep-alive")
    for minutes in _MINUTES:
        yield fixed(trace, minutes * 60.0)
    say("hybrid histogram")
    for tail in _TAILS:
        for trusted in _TRUSTED:
            policy = HistogramPolicy(least_seen=trusted, tail_percentile=tail)
            setting = f"after {trusted}, tail {tail:g} %"
            yield outcome("hybrid histogram", setting, trace, windows_of(trace, policy))
    say("forecast")
    for margin in margins:
        foreseen = windows_of(trace, ForecastPolicy(margin=margin))
        yield outcome("forecast", f"margin {margin:.0%}", trace, foreseen)
    say("greedy-dual")
    for share in _CAPACITIES:
        capacity = max(share * base / trace.span_s, float(np.max(trace.sizes_bytes)))
        yield greedy_dual(trace, capacity, f"{capacity / 1e9:.1f} GB")


def _relative(outcome_: Outcome, base: float) -> Outcome:
    return msgspec.structs.replace(outcome_, memory=outcome_.idle_byte_s / base)
