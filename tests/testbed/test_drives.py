"""Drives that are made up, and how long bytes take along one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.traces import PACKET_BYTES, Trace, read_trace, write_trace
from testbed.drives import MIDDLE_BPS, carried_s, drive


def test_a_seed_is_a_drive_and_a_file_of_it_reads_back(tmp_path: Path) -> None:
    write_trace(drive(1), tmp_path / "a.up")
    assert read_trace(tmp_path / "a.up") == drive(1)
    assert drive(1) != drive(2)


@pytest.mark.parametrize("seed", range(5))
def test_a_drive_spans_a_factor_of_ten_around_its_middle_and_is_as_long_as_asked(
    seed: int,
) -> None:
    found = drive(seed, seconds=300)
    low, middle, high = (found.quantile_bps(q) for q in (0.05, 0.5, 0.95))
    assert found.period_s == 300
    assert 4 < high / low < 80
    assert MIDDLE_BPS / 3 < middle < MIDDLE_BPS * 3


@pytest.mark.parametrize(("seconds", "middle_bps"), [(0, 1e6), (10, 0.0), (10, float("inf"))])
def test_no_drive_is_made_of_nothing(seconds: int, middle_bps: float) -> None:
    with pytest.raises(ValueError, match="a drive takes"):
        drive(1, seconds=seconds, middle_bps=middle_bps)


def test_bytes_wait_for_the_next_packets_over_the_end_of_the_trace() -> None:
    """Opportunities at 10, 20 and 100 ms, and again at 110, 120 and 200."""
    trace = Trace((10, 20, 100))
    packets = [carried_s(trace, 0.0, n * PACKET_BYTES) for n in (1, 2, 3, 4, 7)]
    assert packets == pytest.approx([0.010, 0.020, 0.100, 0.110, 0.210])
    assert carried_s(trace, 0.015, 1) == pytest.approx(0.005)
    assert carried_s(trace, 0.150, PACKET_BYTES + 1) == pytest.approx(0.060)


@given(st.floats(min_value=0, max_value=1e4), st.integers(min_value=1, max_value=10**7))
def test_at_a_steady_rate_bytes_take_their_size_over_the_rate(at_s: float, nbytes: int) -> None:
    """A packet every 10 ms; the last one in part, and up to 10 ms until the first."""
    steady = Trace(tuple(range(10, 1010, 10)))
    packets = -(-nbytes // PACKET_BYTES)
    assert (packets - 1) * 0.010 - 1e-6 <= carried_s(steady, at_s, nbytes) <= packets * 0.010 + 1e-6
