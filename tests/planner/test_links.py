"""What a person may write after --link, and what it means."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import LinkError
from planner.links import NAMED, Link, parse_link
from planner.traces import PACKET_BYTES, Trace, parse_trace, read_trace


def a_trace(folder: Path, name: str = "drive.up", lines: str = "0\n10\n10\n20\n") -> Path:
    path = folder / name
    path.write_text(lines)
    return path


def test_the_named_links_are_the_uplinks_that_the_papers_use() -> None:
    """Bytes per second inside; 1.1, 5.85 and 18.88 Mbps on paper."""
    assert {name: (link.up_bps, link.rtt_s) for name, link in NAMED.items()} == {
        "3G": (137_500.0, 0.1),
        "LTE": (731_250.0, 0.05),
        "WiFi": (2_360_000.0, 0.02),
    }


@pytest.mark.parametrize("text", ["lte", "LTE", " Lte "])
def test_a_name_may_be_written_in_any_case(text: str) -> None:
    assert parse_link(text) is NAMED["LTE"]


@pytest.mark.parametrize(
    ("text", "bps", "rtt_s", "jitter_s"),
    [
        ("5.85Mbps,50ms", 731_250.0, 0.05, 0.0),
        ("800 kbps, 0.2 s", 100_000.0, 0.2, 0.0),
        ("1Gbps,1ms,500us", 125_000_000.0, 0.001, 0.0005),
        ("8e3bps,1E2ms", 1_000.0, 0.1, 0.0),
    ],
)
def test_figures_are_bits_per_second_round_trip_and_jitter(
    text: str, bps: float, rtt_s: float, jitter_s: float
) -> None:
    assert parse_link(text) == Link(
        name=text.replace(" ", ""), up_bps=bps, down_bps=bps, rtt_s=rtt_s, jitter_s=jitter_s
    )


def test_a_trace_has_its_average_and_the_default_round_trip(tmp_path: Path) -> None:
    path = a_trace(tmp_path)
    assert parse_link(str(path)) == Link(
        name="drive.up",
        up_bps=4 * PACKET_BYTES / 0.020,
        down_bps=4 * PACKET_BYTES / 0.020,
        rtt_s=0.05,
        trace=path,
        down_trace=path,
    )


def test_a_trace_up_takes_the_trace_down_beside_it(tmp_path: Path) -> None:
    up, down = a_trace(tmp_path), a_trace(tmp_path, "drive.down", "30\n")
    link = parse_link(f"{up},80ms,2ms")
    assert (link.down_bps, link.rtt_s, link.jitter_s, link.down_trace) == (
        PACKET_BYTES / 0.030,
        0.08,
        0.002,
        down,
    )


def test_a_trace_may_have_commas_in_its_name(tmp_path: Path) -> None:
    path = a_trace(tmp_path, "monday,rain")
    assert parse_link(f"{path},20ms").rtt_s == 0.02


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "5G",
            (
                "link '5G' is no link: give 3G, LTE, WiFi, a bandwidth and round trip such as "
                "5.85Mbps,50ms, or the path of a Mahimahi trace"
            ),
        ),
        ("5.85Mbps", "link '5.85Mbps' lacks its round trip: write it as 5.85Mbps,50ms"),
        (
            "0Mbps,50ms",
            "link '0Mbps,50ms': its bandwidth is 0, and must be above 0 and finite",
        ),
        (
            "5Mbps,-1ms",
            "link '5Mbps,-1ms': its round trip is -1, and must be above 0 and finite",
        ),
        (
            "nanMbps,50ms",
            "link 'nanMbps,50ms': its bandwidth is nan, and must be above 0 and finite",
        ),
        (
            "5Mbps,50",
            "link '5Mbps,50': '50' is no round trip: give a number with us, ms or s, such as 50ms",
        ),
    ],
)
def test_the_error_names_what_was_found_and_what_is_allowed(text: str, sentence: str) -> None:
    with pytest.raises(LinkError) as caught:
        parse_link(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("", "link trace has no packet opportunity after 0 ms: it carries nothing"),
        ("0\n0\n", "link trace has no packet opportunity after 0 ms: it carries nothing"),
        ("5\n4\n", "link trace, line 2: 4 ms is before 5 ms above it"),
        (
            "5\n-4\n",
            (
                "link trace, line 2: '-4' is no whole number of milliseconds, "
                "one packet opportunity a line"
            ),
        ),
    ],
)
def test_a_broken_trace_is_refused_with_its_line(lines: str, sentence: str) -> None:
    with pytest.raises(LinkError) as caught:
        parse_trace(lines.encode())
    assert str(caught.value) == sentence


def test_a_trace_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="cannot be read: No such file or directory"):
        read_trace(tmp_path / "none")


@given(st.text(max_size=40))
def test_any_text_is_a_link_or_a_link_error(text: str) -> None:
    try:
        link = parse_link(text)
    except LinkError:
        return
    assert link.up_bps > 0


@given(
    st.lists(
        st.sampled_from([b"0", b"17", b"17", b"1e3", b"-1", b"", b"\xff", b"9" * 13, b" 20 "]),
        max_size=6,
    )
)
def test_any_bytes_are_a_trace_or_a_link_error(lines: list[bytes]) -> None:
    try:
        trace = parse_trace(b"\n".join(lines))
    except LinkError:
        return
    assert trace.average_bps > 0


@given(st.lists(st.integers(0, 10_000), min_size=1).map(sorted).filter(lambda times: times[-1] > 0))
def test_a_trace_reads_back_as_it_was_written(times: list[int]) -> None:
    written = "".join(f"{time}\n" for time in times).encode()
    assert parse_trace(written) == Trace(tuple(times))
