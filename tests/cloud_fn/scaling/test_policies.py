"""What each policy says of pasts that are plain to see."""

import math
import sys
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fn.functions.scaling import (
    BackTested,
    BackTestedPolicy,
    Fixed,
    FixedPolicy,
    Forecast,
    ForecastPolicy,
    GreedyDual,
    GreedyDualPolicy,
    Histogram,
    HistogramPolicy,
    History,
    Idle,
    Policy,
    Scaling,
    Window,
    policy_of,
    seen,
    victims,
)
from cloud_fn.functions.scaling.forecast import next_idle_s


def past(idles_s: Sequence[float]) -> History:
    history = History()
    for idle_s in idles_s:
        history = seen(history, idle_s)
    return history


def test_fixed_says_the_same_of_every_past() -> None:
    policy = FixedPolicy(keep_alive_s=300)
    assert policy.window(History()) == policy.window(past([9.0] * 40)) == Window(0.0, 300)


def test_the_histogram_is_loaded_from_nine_tenths_of_the_head_to_eleven_of_the_tail() -> None:
    window = HistogramPolicy().window(past([1800.0] * 10))
    assert window.prewarm_s == pytest.approx(0.9 * 1800)
    assert window.end_s == pytest.approx(1.1 * 1860)


def test_the_histogram_leaves_out_the_rarest_at_both_ends() -> None:
    window = HistogramPolicy().window(past([600.0] * 4 + [1800.0] * 195 + [9000.0]))
    assert window.prewarm_s == pytest.approx(0.9 * 1800)
    assert window.end_s == pytest.approx(1.1 * 1860)


def test_the_histogram_does_not_unload_where_the_head_is_zero() -> None:
    window = HistogramPolicy().window(past([30.0] * 10))
    assert window.prewarm_s == 0
    assert window.keep_s == pytest.approx(66)


def test_the_histogram_keeps_for_four_hours_before_it_knows_enough() -> None:
    assert HistogramPolicy().window(past([1800.0] * 9)) == Window(0.0, 14_400)
    assert HistogramPolicy(least_seen=1).window(History()) == Window(0.0, 14_400)


def test_the_histogram_keeps_for_four_hours_where_no_idle_time_is_usual() -> None:
    even = past([minute * 60.0 for minute in range(240)])
    assert HistogramPolicy().window(even) == Window(0.0, 14_400)


def test_the_histogram_forecasts_where_most_lies_beyond_it() -> None:
    window = HistogramPolicy(least_seen=1).window(past([20_000.0, 20_000.0, 60.0]))
    mean_s = 40_060 / 3
    assert window.prewarm_s == pytest.approx(0.85 * mean_s)
    assert window.end_s == pytest.approx(1.15 * mean_s)


def test_the_forecast_is_loaded_around_what_it_foresees() -> None:
    policy = ForecastPolicy()
    assert policy.window(past([600.0])) == Window(0.0, 600.0)
    window = policy.window(past([1000.0] * 20))
    assert window.prewarm_s == pytest.approx(850)
    assert window.end_s == pytest.approx(1150)


def test_the_forecast_follows_a_function_that_slows_down() -> None:
    """The library finds that the newest idle times tell most; a mean would say 1050."""
    pytest.importorskip("statsmodels", reason="the forecast's library is an extra")
    idles_s = [300.0] * 8 + [1800.0] * 8
    assert next_idle_s(tuple(idles_s), 16) > 1500


def test_between_fits_the_forecast_goes_on_with_what_came() -> None:
    pytest.importorskip("statsmodels", reason="the forecast's library is an extra")
    idles_s = [300.0] * 8 + [1800.0] * 8
    before_s = next_idle_s(tuple(idles_s), 16)
    assert next_idle_s((*idles_s, 60.0), 17) < before_s


def test_without_its_library_the_forecast_is_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels.tsa.holtwinters", None)
    assert next_idle_s((*[100.0] * 8, 1000.0), 9) == pytest.approx(200)


def an_idle(
    name: str,
    *,
    clock: float = 0.0,
    frequency: int = 1,
    cost_s: float = 1.0,
    size_bytes: int = 100,
) -> Idle:
    return Idle(name=name, clock=clock, frequency=frequency, cost_s=cost_s, size_bytes=size_bytes)


def test_the_rare_the_large_the_cheap_and_the_old_go_first() -> None:
    kept = an_idle("kept", clock=1.0, frequency=10)
    for gone in (
        an_idle("gone", clock=1.0, frequency=1),
        an_idle("gone", clock=1.0, frequency=10, size_bytes=1000),
        an_idle("gone", clock=1.0, frequency=10, cost_s=0.1),
        an_idle("gone", clock=0.5, frequency=10),
    ):
        found = victims([kept, gone], 1, clock=0.0)
        assert (found.names, found.freed_bytes) == (("gone",), gone.size_bytes)
        assert found.clock == gone.priority


def test_nobody_goes_where_nothing_is_lacking() -> None:
    found = victims([an_idle("a")], 0, clock=7.0)
    assert (found.names, found.freed_bytes, found.clock) == ((), 0, 7.0)


@given(
    st.lists(st.tuples(st.floats(0, 9), st.integers(1, 99), st.integers(1, 500)), max_size=12),
    st.integers(-10, 3000),
)
def test_as_few_go_as_are_needed_and_none_before_one_of_lower_priority(
    idle: list[tuple[float, int, int]], need_bytes: int
) -> None:
    every = [
        an_idle(str(at), clock=clock, frequency=frequency, size_bytes=size)
        for at, (clock, frequency, size) in enumerate(idle)
    ]
    found = victims(every, need_bytes, clock=1.0)
    gone = [each for each in every if each.name in found.names]
    stay = [each for each in every if each.name not in found.names]
    assert found.freed_bytes == sum(each.size_bytes for each in gone)
    assert found.freed_bytes >= need_bytes or not stay
    if found.names:
        last = next(each for each in every if each.name == found.names[-1])
        assert found.freed_bytes - last.size_bytes < need_bytes
        assert all(each.priority >= last.priority for each in stay)


def test_greedy_dual_never_goes_by_itself() -> None:
    assert GreedyDualPolicy().window(History()) == Window(0.0, math.inf)


@pytest.mark.parametrize(
    ("text", "settings", "policy"),
    [
        (
            '{"policy": "fixed", "keep_alive_s": 60}',
            Fixed(keep_alive_s=60),
            FixedPolicy(keep_alive_s=60),
        ),
        ('{"policy": "histogram"}', Histogram(), HistogramPolicy()),
        ('{"policy": "forecast", "margin": 0.3}', Forecast(margin=0.3), ForecastPolicy(margin=0.3)),
        ('{"policy": "greedy-dual"}', GreedyDual(), GreedyDualPolicy()),
        ('{"policy": "back-tested"}', BackTested(), BackTestedPolicy()),
    ],
)
def test_settings_name_a_policy(text: str, settings: Scaling, policy: Policy) -> None:
    read = msgspec.json.decode(text, type=Scaling)
    assert read == settings
    assert policy_of(read) == policy
    assert f'"{policy.name}"' in text


@pytest.mark.parametrize(
    "text",
    [
        '{"policy": "best"}',
        '{"keep_alive_s": 60}',
        '{"policy": "fixed", "keep_alive_s": -1}',
        '{"policy": "histogram", "head_percentile": 99.5}',
        '{"policy": "fixed", "more": 1}',
    ],
)
def test_settings_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Scaling)
