"""How a drive's changes of plan are judged, and shown."""

from datetime import UTC, datetime

import msgspec
import pytest

from planner.chunks import Chunk
from planner.plans import (
    Certificate,
    Crossing,
    LinkFigures,
    Plan,
    PlanDocument,
    Range,
)
from planner.traces import PACKET_BYTES, Trace
from protos.messages import Estimate, PlanChanged
from testbed.scenarios.show_trace import show
from testbed.scenarios.trace import Asked, Change, Fixed, TraceResult, _expected_s, _total_s, judge

BREAKPOINT_BPS = 50_000 / (0.400 - 0.150)


@pytest.fixture
def document() -> PlanDocument:
    """400 ms on the device, or 50 kB, 100 ms in the cloud and a round trip of 50."""

    def a_plan(id_: str, *crossing: Crossing, device_s: float, cloud_s: float) -> Plan:
        return Plan(
            id=id_,
            crossing=crossing,
            ops_on_device=0 if crossing else 9,
            ops=9,
            device_s=device_s,
            encode_s=0.0,
            decode_s=0.0,
            cloud_s=cloud_s,
            download_bytes=0,
        )

    picture = Crossing(tensor="x", codec="raw", bytes=50_000)
    return PlanDocument(
        schema="isthmus.plan/1",
        model="m",
        digest="0" * 64,
        objective="latency",
        link=LinkFigures(name="LTE", up_bps=1e6, down_bps=1e6, rtt_s=0.05),
        choice="far",
        runner_up="near",
        certificate=Certificate(method="minimum cut", unit="s", cost=0.2, bound=0.2),
        plans=(
            a_plan("near", device_s=0.4, cloud_s=0.0),
            a_plan("far", picture, device_s=0.0, cloud_s=0.1),
        ),
        baselines=(),
        table=(
            Range(from_bps=1.0, to_bps=BREAKPOINT_BPS, plan="near"),
            Range(from_bps=BREAKPOINT_BPS, to_bps=1e9, plan="far"),
        ),
        reason="a test",
    )


def a_change(before: str, after: str, up_bps: float, **known: float) -> PlanChanged:
    return PlanChanged(
        boot="b",
        ts=datetime(2026, 11, 24, tzinfo=UTC),
        model="m",
        before=before,
        plan=after,
        estimate=Estimate(up_bps=up_bps, **known),
    )


@pytest.mark.parametrize(
    ("change", "passed", "right"),
    [
        (a_change("near", "far", 1.2 * BREAKPOINT_BPS), True, True),
        (a_change("far", "near", BREAKPOINT_BPS / 1.2), True, True),
        (a_change("near", "far", 1.05 * BREAKPOINT_BPS), True, False),
        (a_change("far", "near", BREAKPOINT_BPS / 1.05), True, False),
        (a_change("near", "far", BREAKPOINT_BPS / 1.2), False, False),
        (a_change("far", "near", 1.2 * BREAKPOINT_BPS), False, False),
    ],
)
def test_a_change_is_right_that_goes_to_the_best_plan_and_passed_the_breakpoint_far_enough(
    document: PlanDocument,
    change: PlanChanged,
    passed: bool,  # noqa: FBT001  a parameter of the test
    right: bool,  # noqa: FBT001
) -> None:
    breakpoint_bps, is_right = judge(document, change)
    assert breakpoint_bps == (pytest.approx(BREAKPOINT_BPS) if passed else None)
    assert is_right == right


def test_the_breakpoint_is_that_of_the_table_at_what_the_device_had_learnt(
    document: PlanDocument,
) -> None:
    """The device takes twice as long and the cloud waits 100 ms: 0.8 s against 0.25 and 50 kB."""
    change = a_change("near", "far", 1.2 * BREAKPOINT_BPS, pace=2.0, wait_s=0.1)
    breakpoint_bps, right = judge(document, change)
    assert breakpoint_bps == pytest.approx(50_000 / 0.55)
    assert right


def test_a_plan_that_the_table_names_no_more_is_left_at_no_breakpoint(
    document: PlanDocument,
) -> None:
    assert judge(document, a_change("far", "near", 1e6, wait_s=9.0)) == (None, True)
    assert judge(document, a_change("near", "far", 1e6, wait_s=9.0))[1] is False


def test_a_change_that_names_no_bandwidth_proves_nothing(document: PlanDocument) -> None:
    change = msgspec.structs.replace(a_change("near", "far", 1e6), estimate=Estimate())
    assert judge(document, change) == (None, False)


@pytest.fixture
def ahead(document: PlanDocument) -> Plan:
    """150 ms of work, of which x is there after 50: two packets, and one of y."""
    return msgspec.structs.replace(
        document.plan("far"),
        id="ahead",
        device_s=0.150,
        crossing=(
            Crossing(tensor="x", codec="raw", bytes=2 * PACKET_BYTES),
            Crossing(tensor="y", codec="raw", bytes=PACKET_BYTES),
        ),
        chunks=(
            Chunk(tensor="x", device_s=0.050, encode_s=0.0, bytes=2 * PACKET_BYTES),
            Chunk(tensor="y", device_s=0.090, encode_s=0.010, bytes=PACKET_BYTES),
        ),
    )


EVERY_40_MS = Trace(tuple(range(40, 4001, 40)))


def test_what_a_plan_in_chunks_takes_is_when_the_last_is_across(
    document: PlanDocument, ahead: Plan
) -> None:
    """Packets of x leave at 80 and 120 ms, y at 160; whole, all leave at 160, 200 and 240."""
    rest_s = document.link.rtt_s + ahead.cloud_s
    assert _expected_s(ahead, document, Estimate(), EVERY_40_MS, 0.0) == pytest.approx(
        0.160 + rest_s
    )
    whole = msgspec.structs.replace(ahead, chunks=())
    assert _expected_s(whole, document, Estimate(), EVERY_40_MS, 0.0) == pytest.approx(
        0.240 + rest_s
    )


def test_chunks_that_hide_nothing_are_not_used_and_a_slower_device_makes_them_later(
    document: PlanDocument, ahead: Plan
) -> None:
    """At twice the time x is there after 100 ms: it leaves at 120 and 160, y at 320."""
    rest_s = document.link.rtt_s + ahead.cloud_s
    slow = Estimate(pace=2.0)
    assert _expected_s(ahead, document, slow, EVERY_40_MS, 0.0) == pytest.approx(0.320 + rest_s)
    late = tuple(msgspec.structs.replace(chunk, device_s=1.0) for chunk in ahead.chunks)
    dear = msgspec.structs.replace(ahead, chunks=late)
    assert _expected_s(dear, document, Estimate(), EVERY_40_MS, 0.0) == pytest.approx(
        0.240 + rest_s
    )
    scaled = ahead.total_s(1e4, 0.05) - rest_s - 0.150 - 3 * PACKET_BYTES / 1e4
    paced = _total_s(ahead, document, Estimate(up_bps=1e4, rtt_s=0.05, pace=2.0)) - rest_s
    assert scaled == pytest.approx(-0.100), "x alone takes longer than the rest of the work"
    assert paced == pytest.approx(2 * 0.150 + 3 * PACKET_BYTES / 1e4 - 2 * 0.100)


def a_result(*, right: bool = True) -> TraceResult:
    figures = Fixed(plan="near", median_ms=400.0, mean_ms=410.0)
    return TraceResult(
        model="m",
        trace="drive.up",
        device="slow",
        broker="mosquitto",
        table=(("near", 0.05), ("far", 1.6)),
        asked=tuple(
            Asked(
                at_s=at_s,
                trace_mbps=2.0,
                estimate_mbps=1.9,
                plan=plan,
                mode="edge",
                ms=400.0,
                right=True,
            )
            for at_s, plan in ((0.0, "near"), (0.4, "far"))
        ),
        changes=(
            Change(
                at_s=0.41,
                before="near",
                after="far",
                estimate_mbps=1.9,
                breakpoint_mbps=1.6,
                right=right,
            ),
        ),
        learnt=Estimate(),
        measured=figures,
        predicted=figures,
        alone=(figures,),
        left_running=(),
    )


def test_one_wrong_change_or_one_process_left_makes_it_wrong() -> None:
    assert a_result().all_right
    assert not a_result(right=False).all_right
    assert not msgspec.structs.replace(a_result(), left_running=("7 agent",)).all_right


def test_the_timeline_has_each_change_before_the_first_answer_that_it_brought_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(a_result(right=False))
    out = capsys.readouterr().out
    cells = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in out.splitlines()
        if "│" in line
    ]
    assert cells == [
        ["0.0", "2.00", "1.90", "near", "400", "right"],
        ["0.4", "", "1.90", "-> far", "", "breakpoint 1.60 Mbps, WRONG"],
        ["0.4", "2.00", "1.90", "far", "400", "right"],
    ]
    assert "changes of plan: 1, at a breakpoint of the table: 0" in out


def test_seconds_and_traces_that_cannot_be_are_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import isthmus

    assert isthmus.main(["testbed", "run", "trace", "--seconds", "0"]) == 2
    assert isthmus.main(["testbed", "run", "trace", "--trace", "nowhere.up"]) == 2
    assert capsys.readouterr().err == (
        "isthmus: --seconds is 0: give up to 3600, and more than 0\n"
        "isthmus: link trace nowhere.up cannot be read: No such file or directory\n"
    )
