"""The link's estimate from what was seen."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_agent.adapt import (
    MAX_BPS,
    MAX_RTT_S,
    MIN_BPS,
    MIN_BYTES,
    NOISE_OF_RTT,
    NOISE_S,
    SAMPLES,
    STALE_S,
    LinkEstimate,
    observed,
    probed,
    restored,
)

ANY_TIME = st.floats(min_value=-1e3, max_value=1e6)


def test_nothing_is_known_before_anything_was_seen() -> None:
    assert (LinkEstimate().rtt_s, LinkEstimate().bandwidth_bps(0.0)) == (None, None)


def test_bandwidth_is_what_the_travel_took_beyond_the_round_trip_and_the_cloud() -> None:
    """100 kB in 0.05 + 0.1 + 0.2 s, of which the link's round trip is 0.05 and the cloud's 0.1."""
    estimate = observed(
        probed(LinkEstimate(), 0.05, 6.0),
        sends=((0.35, 90_000),),
        answer_bytes=10_000,
        cloud_s=0.1,
        at_s=7.0,
    )
    assert estimate.bandwidth_bps(7.0) == pytest.approx(500_000)


def test_one_stall_changes_nothing() -> None:
    bulk, probes = LinkEstimate(), LinkEstimate()
    for elapsed_s in (0.1, 0.1, 5.0, 0.1, 0.1):
        bulk = observed(bulk, sends=((elapsed_s, 10_000),), answer_bytes=0, cloud_s=0.0, at_s=0.0)
        probes = probed(probes, elapsed_s, 0.0)
    assert bulk.bandwidth_bps(0.0) == pytest.approx(100_000)
    assert probes.rtt_s == 0.1


def test_a_real_change_shows_after_half_of_the_samples() -> None:
    estimate = LinkEstimate(paces_s=(1e-5,) * SAMPLES)
    for _ in range(SAMPLES // 2 + 1):
        estimate = observed(estimate, sends=((1.0, 10_000),), answer_bytes=0, cloud_s=0.0, at_s=0.0)
    assert estimate.bandwidth_bps(0.0) == pytest.approx(10_000)


SECONDS = st.floats(min_value=0, max_value=3)


@given(
    st.lists(st.tuples(SECONDS, st.integers(MIN_BYTES, 10**6)), min_size=1, max_size=6),
    st.integers(0, 10**5),
    st.floats(min_value=MIN_BPS * 2, max_value=1e7),
    st.floats(min_value=0, max_value=1),
    SECONDS,
)
def test_of_a_request_in_chunks_the_estimate_is_what_a_link_did_that_carried_one_after_the_other(
    chunks: list[tuple[float, int]], answer_bytes: int, bps: float, rtt_s: float, cloud_s: float
) -> None:
    """Each is ready some time after the one before; then the round trip, the cloud, the answer."""
    ready_s = free_s = 0.0
    handed = []
    for after_s, nbytes in chunks:
        ready_s += after_s
        free_s = max(free_s, ready_s) + nbytes / bps
        handed.append((ready_s, nbytes))
    came_s = free_s + rtt_s + cloud_s + answer_bytes / bps
    estimate = observed(
        LinkEstimate(rtts_s=(rtt_s,)),
        sends=tuple((came_s - at_s, nbytes) for at_s, nbytes in handed),
        answer_bytes=answer_bytes,
        cloud_s=cloud_s,
        at_s=0.0,
    )
    least_s = max(NOISE_OF_RTT * rtt_s, NOISE_S)
    assume((chunks[-1][1] + answer_bytes) / bps > least_s)
    assert estimate.bandwidth_bps(0.0) == pytest.approx(bps, rel=1e-6)


IDLE_BEFORE = ((1.01, 100_000), (0.005, 1_000))
"""100 kB in at most a second, and after that a message too small to tell by, in 5 ms."""


@pytest.mark.parametrize(("known_bps", "expected_bps"), [(1e6, 1e6), (5e4, 101_000 / 1.01)])
def test_a_link_that_was_idle_before_a_small_message_is_found_no_slower_than_was_known(
    known_bps: float, expected_bps: float
) -> None:
    before = LinkEstimate(paces_s=(1 / known_bps,))
    after = observed(before, sends=IDLE_BEFORE, answer_bytes=0, cloud_s=0.0, at_s=1.0)
    assert max(1 / pace_s for pace_s in after.paces_s) == pytest.approx(expected_bps)
    assert (after == before) is (known_bps == expected_bps)


def test_of_a_link_of_which_nothing_is_known_even_a_bound_is_news() -> None:
    estimate = observed(LinkEstimate(), sends=IDLE_BEFORE, answer_bytes=0, cloud_s=0.0, at_s=0.0)
    assert estimate.bandwidth_bps(0.0) == pytest.approx(101_000 / 1.01)


def test_a_small_message_says_nothing_about_bandwidth() -> None:
    estimate = LinkEstimate(paces_s=(1e-5,))
    assert (
        observed(estimate, sends=((9.0, 100),), answer_bytes=0, cloud_s=0.0, at_s=1.0) == estimate
    )


def test_a_message_faster_than_the_round_trip_is_timed_by_its_noise() -> None:
    estimate = observed(
        probed(LinkEstimate(), 0.2, 0.0),
        sends=((0.1, 10_000),),
        answer_bytes=0,
        cloud_s=0.0,
        at_s=0.0,
    )
    assert estimate.bandwidth_bps(0.0) == pytest.approx(10_000 / 0.02)


def test_an_estimate_that_is_not_renewed_errs_upward_more_and_more() -> None:
    """What is never tried is never corrected: the estimate must come to suggest a try."""
    estimate = LinkEstimate(rtts_s=(0.05,), paces_s=(1e-4,), paced_at_s=100.0)
    ages = (0.0, STALE_S, 2 * STALE_S, 4 * STALE_S, 1e9)
    found = [estimate.bandwidth_bps(100.0 + age) for age in ages]
    assert found == [pytest.approx(each) for each in (1e4, 1e4, 2e4, 8e4, MAX_BPS)]


def test_a_sample_after_a_long_silence_stands_for_itself() -> None:
    """Those before it are of another time, and must not outvote the trial that was asked for."""
    estimate = LinkEstimate(paces_s=(1e-3,) * SAMPLES, paced_at_s=100.0)
    at_s = 100.0 + STALE_S + 0.1
    found = observed(estimate, sends=((0.1, 10_000),), answer_bytes=0, cloud_s=0.0, at_s=at_s)
    assert found == LinkEstimate(paces_s=(1e-5,), paced_at_s=at_s)


def test_a_link_that_was_never_measured_is_as_assumed_and_comes_to_be_tried_too() -> None:
    """A plan that was made for a poor link would otherwise stay on the device for ever."""
    unknown = LinkEstimate()
    assert unknown.bandwidth_bps(1e9, assumed_bps=1e4) == 1e4
    there = probed(probed(unknown, 0.05, 100.0), 0.05, 105.0)
    ages = (0.0, STALE_S, 2 * STALE_S)
    found = [there.bandwidth_bps(100.0 + age, assumed_bps=1e4) for age in ages]
    assert found == [pytest.approx(each) for each in (1e4, 1e4, 2e4)]


def test_a_link_that_came_back_keeps_its_round_trip_and_not_its_bandwidth() -> None:
    estimate = LinkEstimate(rtts_s=(0.1,), paces_s=(1e-4,))
    assert restored(estimate, 7.0) == LinkEstimate(rtts_s=(0.1,), paced_at_s=7.0)


@given(
    st.lists(st.tuples(st.integers(0, 1 << 40), ANY_TIME, ANY_TIME, ANY_TIME), max_size=20),
    st.floats(min_value=0, max_value=1e12),
)
def test_whatever_is_seen_the_estimate_stays_within_its_bounds(
    seen: list[tuple[int, float, float, float]], later_s: float
) -> None:
    estimate = LinkEstimate()
    for nbytes, elapsed_s, cloud_s, rtt_s in seen:
        estimate = probed(estimate, rtt_s, 0.0)
        estimate = observed(
            estimate, sends=((elapsed_s, nbytes),), answer_bytes=0, cloud_s=cloud_s, at_s=0.0
        )
        assert estimate.rtt_s is not None
        assert 0 <= estimate.rtt_s <= MAX_RTT_S
    bandwidth_bps = estimate.bandwidth_bps(later_s)
    assert bandwidth_bps is None or MIN_BPS * 0.999 <= bandwidth_bps <= MAX_BPS
    assert max(len(estimate.rtts_s), len(estimate.paces_s)) <= SAMPLES
