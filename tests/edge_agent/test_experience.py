"""What a model's requests teach: waits, pace, and the software's own time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.adapt import STALE_S
from edge_agent.experience import (
    FASTEST,
    MAX_WAIT_S,
    REPORTED,
    SAMPLES,
    SLOWEST,
    WAITS,
    Experience,
    Spent,
    answered,
    ran,
    waited,
)
from protos.timing import Waits


def after(*waits_s: float, at_s: float = 0.0, reported: Waits | None = None) -> Experience:
    found = Experience()
    for wait_s in waits_s:
        found = waited(found, wait_s, at_s, reported)
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


def test_a_device_that_has_asked_once_believes_what_it_is_told_of_others() -> None:
    """900 of 1,000 requests wait 0.2 s, and 100 also 1 s for a start; one of those is left out."""
    busy = Waits(requests=1000, queue_s=0.2, cold_chance=0.1, cold_s=1.0)
    assert after(0.0, reported=busy).wait_s(0.0) == pytest.approx(0.2 + 99 / 999 * 1.0)


def test_its_own_answers_count_for_more_the_more_there_are() -> None:
    quiet = Waits(requests=1000)
    few, many = after(*(0.3,) * 6, reported=quiet), after(*(0.3,) * (WAITS + 9), reported=quiet)
    assert few.wait_s(0.0) == pytest.approx(5 * 0.3 / (5 + REPORTED))
    assert many.wait_s(0.0) == pytest.approx(19 * 0.3 / (19 + REPORTED))


@pytest.mark.parametrize("requests", [1, 2, 3])
def test_one_cold_start_changes_nothing_where_the_gateway_counts_it_too(requests: int) -> None:
    """The first device that asks is all that the gateway can report of."""
    told = Waits(requests=requests, queue_s=0.002, cold_chance=1 / requests, cold_s=1.5)
    own = (1.5, *(0.002,) * (requests - 1))
    expected = None if requests == 1 else pytest.approx(0.002)
    assert after(*own, reported=told).wait_s(0.0) == expected


def test_a_report_of_few_requests_counts_as_so_many() -> None:
    told = Waits(requests=3, queue_s=0.9)
    assert after(0.0, 0.0, reported=told).wait_s(0.0) == pytest.approx(2 * 0.9 / 3)


def test_an_answer_that_reports_nothing_leaves_the_device_its_own() -> None:
    found = waited(after(0.1, 0.1, reported=Waits(requests=9, queue_s=9.0)), 0.1, 0.0)
    assert found.wait_s(0.0) == pytest.approx(0.1)


def test_a_wait_that_is_not_renewed_is_thought_shorter_and_shorter() -> None:
    """Else a cloud that was busy once would never be tried again."""
    found = after(0.4, 0.4, at_s=100.0, reported=Waits(requests=9, queue_s=0.4))
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
    st.builds(
        Waits,
        requests=st.integers(0, 1 << 62),
        queue_s=st.floats(0, 1e300),
        cold_chance=st.floats(0, 1),
        cold_s=st.floats(0, 1e300),
    ),
)
def test_whatever_is_seen_the_figures_stay_within_their_bounds(
    seen: list[tuple[float, float]], later_s: float, reported: Waits
) -> None:
    found = Experience()
    for wait_s, took_s in seen:
        found = waited(found, wait_s, 0.0, reported)
        found = ran(found, predicted_s=0.1, took_s=took_s, whole_s=0.2)
        found = answered(found, Spent(took_s=wait_s, work_s=took_s), remote=True)
    assert 0 <= (found.wait_s(later_s) or 0.0) <= MAX_WAIT_S
    assert FASTEST <= found.pace <= SLOWEST
    assert len(found.waits_s) <= WAITS
    assert max(len(found.paces), len(found.sent)) <= SAMPLES
