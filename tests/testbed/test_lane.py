"""One direction of a link, exactly: every time here is computed, none is measured."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.traces import PACKET_BYTES, Trace
from testbed.conditions import Pace, Rate
from testbed.lane import Lane

A, B, C = 1, 2, 3
DRAINED_S = 1e9


def a_lane(
    rate: Rate = 1000.0, *, delay_s: float = 0.0, jitter_s: float = 0.0, outage: bool = False
) -> Lane[str]:
    """A lane that begins at 0 s and carries 1000 bytes a second."""
    return Lane(a_pace(rate, delay_s, jitter_s, outage=outage), 0.0, Random(7))  # noqa: S311


def a_pace(
    rate: Rate = 1000.0, delay_s: float = 0.0, jitter_s: float = 0.0, *, outage: bool = False
) -> Pace:
    return Pace(rate=rate, delay_s=delay_s, jitter_s=jitter_s, outage=outage)


def timetable(lane: Lane[str]) -> list[tuple[float, str]]:
    """Run the lane dry: when each payload arrives, called exactly when it asks to be."""
    arrivals = []
    while (next_s := lane.next_s) is not None:
        arrivals += [(round(next_s, 9), parcel.payload) for parcel in lane.advance(next_s)]
    return arrivals


def test_bytes_take_their_number_over_the_bandwidth_and_then_the_delay() -> None:
    lane = a_lane(delay_s=0.5)
    lane.offer(2.0, A, 3000, "x")
    assert timetable(lane) == [(5.5, "x")]


def test_600_kb_over_lte_take_0_82_seconds() -> None:
    """The figure that the demonstration rests on: 5.85 Mbps, 25 ms one way."""
    lane = a_lane(731_250.0, delay_s=0.025)
    for _ in range(400):
        lane.offer(0.0, A, 1500, "x")
    assert timetable(lane)[-1] == (round(600_000 / 731_250 + 0.025, 9), "x")


def test_what_is_queued_waits_for_what_is_ahead_and_an_idle_transmitter_saves_nothing_up() -> None:
    lane = a_lane()
    lane.offer(0.0, A, 1000, "first")
    lane.offer(0.5, A, 1000, "second")
    lane.offer(10.0, A, 1000, "after a pause")
    assert timetable(lane) == [(1.0, "first"), (2.0, "second"), (11.0, "after a pause")]


def test_a_late_call_delivers_late_but_does_not_slow_the_link_down() -> None:
    lane = a_lane()
    for name in ("1", "2", "3"):
        lane.offer(0.0, A, 1000, name)
    assert [parcel.payload for parcel in lane.advance(2.7)] == ["1", "2"]
    assert lane.next_s == 3.0


def test_flows_take_turns_and_each_keeps_its_order() -> None:
    lane = a_lane()
    lane.offer(0.0, C, 1000, "c1")
    for name in ("a1", "a2", "a3"):
        lane.offer(0.0, A, 1000, name)
    lane.offer(0.0, B, 1000, "b1")
    lane.offer(0.0, C, 500, "c2")
    assert timetable(lane) == [
        (1.0, "c1"),
        (2.0, "a1"),
        (3.0, "b1"),
        (3.5, "c2"),
        (4.5, "a2"),
        (5.5, "a3"),
    ]


def test_a_new_bandwidth_holds_for_the_rest_of_what_is_being_sent() -> None:
    lane = a_lane()
    lane.offer(0.0, A, 1000, "x")
    lane.set(0.5, a_pace(100.0))
    assert timetable(lane) == [(5.5, "x")]


def test_a_new_delay_lets_nothing_overtake() -> None:
    lane = a_lane(delay_s=10.0)
    lane.offer(0.0, A, 1000, "far")
    assert lane.advance(1.0) == []
    lane.set(1.0, a_pace(delay_s=0.0))
    lane.offer(1.0, A, 1000, "near")
    assert timetable(lane) == [(11.0, "far"), (11.0, "near")]


def test_in_an_outage_time_stands_still_on_the_link() -> None:
    """One payload is in flight, one half sent, one queued, and one comes during the outage."""
    lane = a_lane(delay_s=2.0)
    lane.offer(0.0, A, 1000, "flying")
    lane.offer(0.0, A, 1000, "half sent")
    lane.offer(0.0, A, 1000, "queued")
    lane.set(1.5, a_pace(delay_s=2.0, outage=True))
    lane.offer(50.0, B, 1000, "during")
    assert (lane.next_s, lane.advance(99.0)) == (None, [])
    lane.set(101.5, a_pace(delay_s=2.0))
    assert timetable(lane) == [
        (103.0, "flying"),
        (104.0, "half sent"),
        (105.0, "queued"),
        (106.0, "during"),
    ]


def test_an_outage_may_begin_with_the_lane_and_other_changes_may_come_during_it() -> None:
    lane = a_lane(outage=True)
    lane.offer(0.0, A, 1000, "x")
    lane.set(5.0, a_pace(500.0, outage=True))
    lane.set(10.0, a_pace(500.0))
    assert timetable(lane) == [(12.0, "x")]


def test_backlog_counts_what_has_not_left_the_transmitter() -> None:
    lane = a_lane(delay_s=5.0)
    lane.offer(0.0, A, 1000, "1")
    lane.offer(0.0, A, 500, "2")
    before = lane.backlog(A)
    lane.advance(1.0)
    assert (before, lane.backlog(A), lane.backlog(B), lane.sent_bytes) == (1500, 500, 0, 1000)


def test_a_dropped_flow_takes_no_more_of_the_link_than_what_is_being_sent() -> None:
    lane = a_lane(delay_s=5.0)
    for name in ("1", "2", "3"):
        lane.offer(0.0, A, 1000, name)
    lane.offer(0.0, B, 1000, "b")
    lane.advance(1.5)
    lane.drop(A)
    assert (timetable(lane), lane.backlog(A)) == ([(7.0, "2"), (8.0, "b")], 0)


TRACE = Trace((0, 10, 10, 30))


def test_a_trace_lets_one_packet_through_at_each_opportunity_and_starts_again() -> None:
    lane = a_lane(TRACE)
    for name in "123456":
        lane.offer(0.0, A, PACKET_BYTES, name)
    # 0, 10, 10, 30; then 30 + 0, 30 + 10
    assert timetable(lane) == [
        (0.0, "1"),
        (0.01, "2"),
        (0.01, "3"),
        (0.03, "4"),
        (0.03, "5"),
        (0.04, "6"),
    ]


def test_small_packets_share_an_opportunity_and_a_large_one_goes_on_in_the_next() -> None:
    lane = a_lane(Trace((10, 20, 30)))
    lane.offer(0.0, A, 500, "small")
    lane.offer(0.0, A, 1000, "fits beside it")
    lane.offer(0.0, A, 1600, "over")
    lane.offer(0.0, A, 1400, "rest")
    assert timetable(lane) == [
        (0.01, "small"),
        (0.01, "fits beside it"),
        (0.03, "over"),
        (0.03, "rest"),
    ]


def test_an_opportunity_that_finds_nothing_to_send_is_lost() -> None:
    lane = a_lane(Trace((10, 20, 30)))
    lane.offer(0.011, A, 100, "x")
    lane.offer(0.031, A, 100, "y")
    assert timetable(lane) == [(0.02, "x"), (0.04, "y")]


def test_a_trace_runs_on_through_an_outage_and_a_change_of_delay() -> None:
    lane = a_lane(Trace((10, 1000)))
    lane.set(0.5, a_pace(Trace((10, 1000)), delay_s=0.1))
    lane.set(0.6, a_pace(Trace((10, 1000)), delay_s=0.1, outage=True))
    lane.set(0.7, a_pace(Trace((10, 1000)), delay_s=0.1))
    lane.offer(0.7, A, 100, "x")
    assert timetable(lane) == [(1.1, "x")]


def test_a_signal_of_no_size_waits_for_an_opportunity_too() -> None:
    lane = a_lane(Trace((10, 1000)))
    lane.offer(0.5, A, 0, "hello")
    assert (timetable(lane), lane.sent_bytes) == ([(1.0, "hello")], 0)


@pytest.mark.parametrize(("rate", "quantum"), [(1e3, 1500), (731_250.0, 2925), (1e9, 65_536)])
def test_a_turn_is_four_milliseconds_of_the_link_within_bounds(rate: float, quantum: int) -> None:
    assert a_lane(rate).quantum_bytes == quantum


offers = st.lists(
    st.tuples(st.integers(0, 50), st.sampled_from([A, B, C]), st.integers(0, 4000)), max_size=30
)
rates = st.one_of(
    st.floats(100, 1e6),
    st.lists(st.integers(0, 500), min_size=1, max_size=5)
    .map(lambda times: sorted([*times, 500]))
    .map(lambda times: Trace(tuple(times))),
)


@given(offers=offers, rate=rates, jitter_s=st.floats(0, 2), late=st.lists(st.floats(0, 200)))
def test_nothing_is_lost_reordered_within_a_flow_or_faster_than_the_link(
    offers: list[tuple[int, int, int]], rate: Rate, jitter_s: float, late: list[float]
) -> None:
    """Whatever is offered, and whenever we look."""
    lane = a_lane(rate, delay_s=1.0, jitter_s=jitter_s)
    sent = []
    for number, (at_s, flow, size) in enumerate(sorted(offers)):
        lane.offer(float(at_s), flow, size, str(number))
        sent.append((flow, str(number)))
    arrived = []
    for look_s in sorted(late):
        arrived += lane.advance(50 + look_s)
    arrived += lane.advance(DRAINED_S)
    for flow in (A, B, C):
        assert [p.payload for p in arrived if p.flow == flow] == [n for f, n in sent if f == flow]
    assert lane.sent_bytes == sum(size for _, _, size in offers)


@given(sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=20), cut_s=st.floats(0, 10))
def test_an_outage_shifts_what_is_left_by_its_length(sizes: list[int], cut_s: float) -> None:
    plain, cut = a_lane(delay_s=0.5), a_lane(delay_s=0.5)
    for lane in (plain, cut):
        for number, size in enumerate(sizes):
            lane.offer(0.0, A, size, str(number))
    before = [parcel.payload for parcel in cut.advance(cut_s)]
    cut.set(cut_s, a_pace(delay_s=0.5, outage=True))
    cut.set(cut_s + 100, a_pace(delay_s=0.5))
    expected = [(at_s + 100, payload) for at_s, payload in timetable(plain)[len(before) :]]
    assert [payload for _, payload in timetable(plain)] == []
    got = timetable(cut)
    assert [payload for _, payload in got] == [payload for _, payload in expected]
    assert [at_s for at_s, _ in got] == pytest.approx([at_s for at_s, _ in expected], abs=1e-6)
