"""The back-tested choice: the cheapest window, and the price that keeps the budget."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fn.functions.scaling import BackTestedPolicy, History, Learned, Log, choose, seen
from cloud_fn.functions.scaling.choosing import first_idle, later_idles
from cloud_fn.functions.scaling.expected import CELLS, best_window
from protos.documents import decode_json, encode_json

MB = 1_000_000


def expected_cost(chances: np.ndarray, price: float, head: int, end: int) -> float:
    """By the definition: in minutes, idle times in the middle of their minute."""
    total = 0.0
    begin = 0.9 * head if 0.9 * head >= 1 else 0.0
    for minute, chance in enumerate(chances.tolist()):
        middle = minute + 0.5 if minute < CELLS - 1 else CELLS - 1.0
        cold = (begin > 0 and minute < head) or minute >= end
        inside = max(0.0, min(middle, end) - begin)
        total += chance * (cold + price * 60 * inside)
    return total


@given(
    st.dictionaries(st.integers(0, CELLS - 1), st.integers(1, 9), min_size=1, max_size=6),
    st.sampled_from([1e-6, 1e-5, 1e-4, 1e-3, 1e-2]),
)
def test_no_other_window_is_expected_to_cost_less(counts: dict[int, int], price: float) -> None:
    chances = np.zeros(CELLS)
    for minute, count in counts.items():
        chances[minute] = count
    chances /= chances.sum()
    found = best_window(chances, price)
    mine = expected_cost(chances, price, round(found.prewarm_s / 54), round(found.end_s / 60))
    marks = sorted({0, 1, CELLS - 1} | {m for c in counts for m in (c, c + 1) if m < CELLS})
    for head in marks:
        for end in marks:
            if end >= head:
                assert mine <= expected_cost(chances, price, head, end) + 1e-9


def test_a_timer_is_loaded_just_before_it_rings() -> None:
    history = History()
    for _ in range(50):
        history = seen(history, 3600.0)
    window = BackTestedPolicy(size_bytes=1000 * MB).window(history)
    assert (window.prewarm_s, window.end_s) == (0.9 * 3600, 3660)


def test_a_dear_instance_leaves_where_a_cheap_one_stays() -> None:
    history = History()
    for idle_s in [60.0] * 20 + [7200.0]:
        history = seen(history, idle_s)
    ends_s = [BackTestedPolicy(size_bytes=size).window(history).end_s for size in (MB, 20_000 * MB)]
    assert ends_s[0] > 7200
    assert ends_s[1] <= 120


def logs(*idles_s: tuple[float, ...], open_s: float = 60.0) -> list[Log]:
    return [Log(size_bytes=100 * MB, idles_s=idles, open_s=open_s) for idles in idles_s]


def test_with_hardly_any_log_nothing_is_chosen() -> None:
    assert choose(logs((60.0,)), span_s=3600, budget_bytes=MB) == Learned()
    assert choose([], span_s=0, budget_bytes=MB) == Learned()


def some_logs() -> list[Log]:
    rng = np.random.default_rng(3)
    return logs(*(tuple(rng.exponential(mean_s, 20).tolist()) for mean_s in (300, 900, 2700)))


def used_bytes(learned: Learned, known: list[Log], span_s: float) -> float:
    total = 0.0
    for log in known:
        history = History()
        for idle_s in log.idles_s:
            history = seen(history, idle_s)
        window = BackTestedPolicy(learned=learned, size_bytes=log.size_bytes).window(history)
        total += sum(window.loaded_s(each) for each in (*log.idles_s, log.open_s)) * log.size_bytes
    return total / span_s


@pytest.mark.parametrize("budget_bytes", [30 * MB, 60 * MB, 100 * MB])
def test_the_price_is_the_least_that_keeps_the_budget(budget_bytes: int) -> None:
    known, span_s = some_logs(), 54_000.0
    learned = choose(known, span_s=span_s, budget_bytes=budget_bytes)
    assert used_bytes(learned, known, span_s) <= budget_bytes
    cheaper = Learned(
        price=learned.price * 0.99,
        weight=learned.weight,
        first=learned.first,
        later=learned.later,
    )
    assert used_bytes(cheaper, known, span_s) > budget_bytes


def test_what_was_chosen_survives_a_restart() -> None:
    learned = choose(some_logs(), span_s=54_000, budget_bytes=50 * MB)
    assert decode_json(encode_json(learned), Learned, what="learned") == learned
    assert learned != Learned()


def test_who_was_asked_once_counts_as_idle_for_so_long_at_least() -> None:
    """Three waited an hour in vain, so that few come back within it."""
    patient = first_idle([*logs((600.0,)), *logs((), (), (), open_s=3600.0)])
    hasty = first_idle(logs((600.0,)))
    assert patient[:60].sum() < hasty[:60].sum()
    assert patient.sum() == pytest.approx(1)


def test_each_function_weighs_the_same_however_often_it_is_asked() -> None:
    found = later_idles(logs((0.0, *[60.0] * 500), (0.0, 600.0)))
    assert found[1] == pytest.approx(found[10], rel=0.02)
    assert found.sum() == pytest.approx(1)


def test_others_say_more_of_a_function_the_less_it_has_said_itself() -> None:
    """All others ring every half hour, and so does a new one until it shows otherwise."""
    others = logs(*[(1800.0,) * 20] * 10)
    learned = msgspec.structs.replace(
        choose(others, span_s=36_000, budget_bytes=200 * MB), price=1e-11
    )
    policy = BackTestedPolicy(learned=learned, size_bytes=100 * MB)
    assert not policy.window(History()).is_cold(1800.0)
    history = History()
    for _ in range(1000):
        history = seen(history, 300.0)
    assert policy.window(history).is_cold(1800.0)
    assert not policy.window(history).is_cold(300.0)
