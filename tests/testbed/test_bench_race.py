"""Measuring many alternatives fairly, and parts of a recorded link."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.links import Link
from planner.traces import PACKET_BYTES, Trace, read_trace
from testbed.bench.excerpts import excerpt, places, recent_bps
from testbed.bench.race import at_places, race, typical


def test_the_hopeless_are_measured_once_and_who_must_be_kept_is() -> None:
    seconds = {"quick": 1.0, "close": 1.2, "slow": 2.0, "kept": 3.0}
    asked: list[str] = []

    def measure(name: str) -> list[float]:
        asked.append(name)
        return [seconds[name]]

    times = race(list(seconds), measure, kept={"kept"}, rounds=4)
    assert {name: len(rounds) for name, rounds in times.items()} == {
        "quick": 4,
        "close": 4,
        "slow": 1,
        "kept": 4,
    }
    assert asked[4] != asked[0], "each round begins with another"


def test_a_noisy_round_changes_nothing() -> None:
    rounds = [[1.0, 4.0], [1.0, 4.0], [50.0, 4.0]]
    assert at_places(rounds) == (1.0, 4.0)
    assert typical(rounds) == 2.5


traces = st.lists(st.integers(1, 5000), min_size=1, max_size=60).map(
    lambda times: Trace(tuple(sorted(times)))
)


@given(trace=traces, start_s=st.floats(0, 20))
def test_an_excerpt_carries_what_the_trace_does_from_there_on(trace: Trace, start_s: float) -> None:
    period = trace.opportunities_ms[-1]
    part = excerpt(trace, start_s, period / 1000)
    origin = round(start_s * 1000) % period
    expected = sorted(
        time - origin if time >= origin else time + period - origin
        for time in trace.opportunities_ms
    )
    assert list(part.opportunities_ms[: len(expected)]) == expected


def test_what_a_link_carried_just_before_is_never_nothing() -> None:
    trace = Trace((100, 200, 300, 400, 10_000))
    assert recent_bps(trace, 1.0, 1.0) == 4 * PACKET_BYTES
    assert recent_bps(trace, 6.0, 1.0) == PACKET_BYTES


def test_places_are_spread_over_the_trace_and_written_beside_one_another(tmp_path: Path) -> None:
    trace = tmp_path / "drive.up"
    trace.write_text("".join(f"{time}\n" for time in range(10, 8001, 10)))
    link = Link(name="drive", up_bps=150e3, down_bps=150e3, rtt_s=0.05, trace=trace)
    found = places(link, 4, tmp_path / "places")
    assert [place.at_s for place in found] == [1.0, 3.0, 5.0, 7.0]
    for place in found:
        assert place.recent_bps == pytest.approx(150e3, rel=0.02)
        assert place.link.trace is not None
        assert read_trace(place.link.trace).opportunities_ms[0] in {0, 10}
    with pytest.raises(ValueError, match="has no trace"):
        places(Link(name="plain", up_bps=1e6, down_bps=1e6, rtt_s=0.05), 4, tmp_path)
