"""What a model's requests teach: waits, pace, and the software's own time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.adapt import STALE_S
from edge_agent.experience import (
    FASTEST,
    MAX_WAIT_S,
    SAMPLES,
    SLOWEST,
    WAITS,
    Experience,
    Spent,
    answered,
    ran,
    waited,
)


def after(*waits_s: float, at_s: float = 0.0) -> Experience:
    found = Experience()
    for wait_s in waits_s:
        found = waited(found, wait_s, at_s)
    return found


def test_nothing_is_known_before_anything_was_seen() -> None:
    found = Experience()
    assert (found.wait_s(0.0), found.pace, found.local_s, found.remote_s) == (None, 1.0, None, None)


def test_one_cold_start_changes_nothing() -> None:
    """The first request usually is one."""
    assert after(1.5).wait_s(0.0) is None
    assert after(1.5, 0.002, 0.002, 0.002).wait_s(0.0) == pytest.approx(0.002)


def test_frequent_cold_starts_count_by_their_share() -> None:
    """Five of twenty took 2 s: the four that are not the longest, over nineteen."""
    assert after(*(2.0, 0.0, 0.0, 0.0) * 5).wait_s(0.0) == pytest.approx(4 * 2.0 / 19)


def test_a_queue_counts_in_full() -> None:
    assert after(*(0.3,) * 4).wait_s(0.0) == pytest.approx(0.3)


def test_a_wait_that_is_not_renewed_is_thought_shorter_and_shorter() -> None:
    """Else a cloud that was busy once would never be tried again."""
    found = after(0.4, 0.4, at_s=100.0)
    ages = (0.0, STALE_S, 2 * STALE_S, 3 * STALE_S)
    assert [found.wait_s(100.0 + age) for age in ages] == [
        pytest.approx(each) for each in (0.4, 0.4, 0.2, 0.1)
    ]


def test_the_pace_is_a_median_and_parts_too_short_to_tell_do_not_count() -> None:
    found = Experience()
    for predicted_s, took_s in ((0.1, 0.2), (0.1, 0.9), (0.1, 0.3), (0.009, 0.9), (1e-5, 0.9)):
        found = ran(found, predicted_s=predicted_s, took_s=took_s, whole_s=0.1)
    assert found.paces == pytest.approx((2.0, 9.0, 3.0))
    assert found.pace == pytest.approx(3.0)


def test_the_software_takes_the_median_of_what_the_work_leaves() -> None:
    found = Experience()
    for local_s, remote_s in ((0.12, 0.01), (0.9, 0.02), (0.13, 0.5)):
        found = answered(found, Spent(took_s=local_s, work_s=0.1), remote=False)
        found = answered(found, Spent(took_s=remote_s, work_s=0.0), remote=True)
    assert (found.local_s, found.remote_s) == pytest.approx((0.03, 0.02))


@given(st.floats(min_value=0.02, max_value=50))
def test_a_plan_that_was_followed_is_expected_to_take_what_it_took_at_any_pace(
    pace: float,
) -> None:
    found = answered(Experience(), Spent(took_s=0.15, work_s=0.1), remote=False)
    found = ran(found, predicted_s=0.1, took_s=0.1 * pace, whole_s=0.1)
    assert found.local_s is not None
    assert found.pace * 0.1 + found.local_s == pytest.approx(0.15)


@given(
    st.lists(
        st.tuples(st.floats(min_value=-1e6, max_value=1e9), st.floats(min_value=0, max_value=1e9)),
        max_size=40,
    ),
    st.floats(min_value=0, max_value=1e12),
)
def test_whatever_is_seen_the_figures_stay_within_their_bounds(
    seen: list[tuple[float, float]], later_s: float
) -> None:
    found = Experience()
    for wait_s, took_s in seen:
        found = waited(found, wait_s, 0.0)
        found = ran(found, predicted_s=0.1, took_s=took_s, whole_s=0.2)
        found = answered(found, Spent(took_s=wait_s, work_s=took_s), remote=True)
    assert 0 <= (found.wait_s(later_s) or 0.0) <= MAX_WAIT_S
    assert FASTEST <= found.pace <= SLOWEST
    assert len(found.waits_s) <= WAITS
    assert max(len(found.paces), len(found.sent)) <= SAMPLES
