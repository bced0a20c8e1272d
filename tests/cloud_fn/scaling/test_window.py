"""A window says when a function is loaded, and a history what is known of it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fn.functions.scaling import History, Window, seen
from cloud_fn.functions.scaling.history import MOST_COUNTED, RECENT
from protos.documents import DocumentError, decode_json, encode_json

IDLE_S = st.floats(0, 40_000)


@pytest.mark.parametrize(
    ("window", "idle_s", "cold", "loaded_s"),
    [
        (Window(0, 600), 600, False, 600),
        (Window(0, 600), 601, True, 600),
        (Window(300, 60), 299, True, 0),
        (Window(300, 60), 300, False, 0),
        (Window(300, 60), 330, False, 30),
        (Window(300, 60), 361, True, 60),
        (Window(0, 0), 0, False, 0),
    ],
)
def test_a_request_is_warm_within_the_window_and_memory_counts_while_loaded(
    window: Window, idle_s: float, *, cold: bool, loaded_s: float
) -> None:
    assert (window.is_cold(idle_s), window.loaded_s(idle_s)) == (cold, loaded_s)


def test_nothing_is_unloaded_for_less_than_a_minute() -> None:
    assert Window.between(59.9, 600) == Window(0.0, 600)
    assert Window.between(60.0, 600) == Window(60.0, 540)


@pytest.mark.parametrize(("prewarm_s", "keep_s"), [(-1, 1), (1, -1), (float("inf"), 1)])
def test_a_window_that_makes_no_sense_is_refused(prewarm_s: float, keep_s: float) -> None:
    with pytest.raises(ValueError, match="must be 0 or more"):
        Window(prewarm_s, keep_s)


def test_idle_times_are_counted_by_the_minute_and_those_of_four_hours_apart() -> None:
    history = History()
    for idle_s in (0.0, 59.9, 60.0, 14_399.0, 14_400.0):
        history = seen(history, idle_s)
    assert history == History(
        counts=((0, 2), (1, 1), (239, 1)),
        beyond=1,
        seen=5,
        recent_s=(0.0, 59.9, 60.0, 14_399.0, 14_400.0),
    )


@given(st.lists(IDLE_S, max_size=80))
def test_a_history_survives_a_restart_and_stays_bounded(idles_s: list[float]) -> None:
    history = History()
    for idle_s in idles_s:
        history = seen(history, idle_s)
    assert decode_json(encode_json(history), History, what="history") == history
    assert history.within + history.beyond == history.seen == len(idles_s)
    assert history.recent_s == tuple(idles_s)[-RECENT:]


def test_old_habits_fade() -> None:
    history = seen(History(counts=((5, MOST_COUNTED),), seen=MOST_COUNTED), 600.0)
    assert (history.counts, history.seen) == (((5, MOST_COUNTED // 2),), MOST_COUNTED + 1)


@pytest.mark.parametrize("idle_s", [-1.0, float("nan")])
def test_an_idle_time_that_is_none_is_refused(idle_s: float) -> None:
    with pytest.raises(ValueError, match="idle_s must be 0 or more"):
        seen(History(), idle_s)


@pytest.mark.parametrize(
    "fields",
    [{"counts": [[7, 1], [7, 1]]}, {"counts": [[240, 1]]}, {"beyond": -1}, {"more": 1}],
)
def test_a_history_that_makes_no_sense_is_not_read(fields: dict[str, object]) -> None:
    with pytest.raises(DocumentError):
        decode_json(msgspec.json.encode(fields), History, what="history")
