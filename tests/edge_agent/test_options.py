"""Which plan suits a link, and when it is worth changing over."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.options import DEVICE_ONLY, HYSTERESIS, Options, Way
from planner.plans import PlanDocument
from protos.messages import Estimate


def on(up_bps: float, **known: float) -> Estimate:
    """What is known on a link of *up_bps* with the planned round trip."""
    return Estimate(**{"up_bps": up_bps, "rtt_s": 0.005, **known})


@pytest.fixture(scope="module")
def options(plan_document: PlanDocument) -> Options:
    return Options.of(plan_document)


def test_a_plans_work_and_what_the_device_would_need_to_finish_alone(options: Options) -> None:
    assert dict(options.ways) == {
        "device-only": Way(kind="edge", head_s=0.040),
        "plan-1": Way(kind="split", head_s=0.010, tail_s=0.030),
        "cloud-jpeg": Way(kind="cloud", head_s=0.0, tail_s=0.040),
    }


def test_before_anything_is_measured_the_planners_choice_is_followed(options: Options) -> None:
    assert (options.initial, options.best("device-only", Estimate())) == ("plan-1", "plan-1")


@pytest.mark.parametrize(
    ("up_bps", "expected"), [(1e4, "device-only"), (4e5, "plan-1"), (1e7, "cloud-jpeg")]
)
def test_each_link_has_its_plan(options: Options, up_bps: float, expected: str) -> None:
    assert options.best("plan-1", on(up_bps)) == expected


def test_a_breakpoint_must_be_passed_by_the_hysteresis(options: Options) -> None:
    """The split's range ends where 14 ms + 5 + 1024 bytes meet 6 ms + 5 + 6000 bytes."""
    breakpoint_bps = (6000 - 1024) / (0.014 + 0.005 - 0.011)
    above, below = breakpoint_bps * (1 + HYSTERESIS), breakpoint_bps / (1 + HYSTERESIS)
    for active, up_bps, expected in (
        ("plan-1", 0.999 * above, "plan-1"),
        ("plan-1", 1.001 * above, "cloud-jpeg"),
        ("cloud-jpeg", 1.001 * below, "cloud-jpeg"),
        ("cloud-jpeg", 0.999 * below, "plan-1"),
    ):
        assert options.best(active, on(up_bps)) == expected


@given(st.lists(st.floats(min_value=1e3, max_value=1e8), max_size=60))
def test_to_change_and_change_back_takes_a_swing_of_the_hysteresis_squared(
    plan_document: PlanDocument, estimates: list[float]
) -> None:
    options = Options.of(plan_document)
    active, changes = "plan-1", list[tuple[str, str, float]]()
    for up_bps in estimates:
        best = options.best(active, on(up_bps))
        if best != active:
            changes.append((active, best, up_bps))
        active = best
    for (before, after, at_bps), (left, back, then_bps) in pairwise(changes):
        assert after == left
        if back == before:
            swing = max(at_bps / then_bps, then_bps / at_bps)
            assert swing >= (1 + HYSTERESIS) ** 2 * (1 - 1e-9)


def test_another_round_trip_than_the_planned_one_is_priced_anew(options: Options) -> None:
    assert options.best("plan-1", on(1e6, rtt_s=0.5)) == "device-only"


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, "plan-1"),
        ({"wait_s": 0.1}, "device-only"),
        ({"remote_s": 0.1}, "device-only"),
        ({"remote_s": 0.1, "local_s": 0.1}, "plan-1"),
        ({"local_s": 0.1, "wait_s": 0.05}, "plan-1"),
        ({"pace": 4.0}, "cloud-jpeg"),
    ],
)
def test_what_was_learnt_counts_a_cloud_that_waits_software_and_a_slow_device(
    options: Options, known: dict[str, float], expected: str
) -> None:
    """At 400 kB/s the split takes 21.6 ms, the device alone 40 and the picture 26."""
    assert options.best("plan-1", on(4e5, **known)) == expected


def test_a_table_for_another_objective_is_followed_as_it_is(plan_document: PlanDocument) -> None:
    """What energy costs is not known here."""
    options = Options.of(msgspec.structs.replace(plan_document, objective="energy"))
    found = [options.best("plan-1", on(bps, wait_s=9.0)) for bps in (1.0, 4e4, 4e5, 2e6, 1e12)]
    assert found == ["device-only", "device-only", "plan-1", "cloud-jpeg", "cloud-jpeg"]


def test_a_plan_that_was_refused_is_left_as_soon_as_it_is_not_pinned(
    plan_document: PlanDocument,
) -> None:
    plans = tuple(
        msgspec.structs.replace(plan, refused="too lossy") if plan.id == "cloud-jpeg" else plan
        for plan in plan_document.plans
    )
    options = Options.of(msgspec.structs.replace(plan_document, plans=plans))
    assert "cloud-jpeg" in options.ways
    assert options.best("cloud-jpeg", on(0.8e6)) == "plan-1"


def test_a_model_without_plans_runs_on_the_device() -> None:
    options = Options.device_only()
    assert (options.initial, options.best(DEVICE_ONLY, on(1e9))) == (DEVICE_ONLY, DEVICE_ONLY)
    assert options.away_s(DEVICE_ONLY, on(1e9)) == 0.0


def test_without_a_cloud_only_what_needs_none_is_left(options: Options) -> None:
    local = options.local()
    assert (list(local.ways), local.initial) == (["device-only"], "device-only")


def test_how_long_a_request_is_away(options: Options) -> None:
    """6000 bytes at 1 MB/s, a round trip of 5 ms, 6 ms of work in the cloud, 3 of waiting."""
    assert options.away_s("cloud-jpeg", on(1e6, wait_s=0.003)) == pytest.approx(0.020)
    assert options.away_s("cloud-jpeg", Estimate()) == pytest.approx(0.011 + 6000 / 731_250)


def test_what_a_plan_in_chunks_saves_depends_on_the_link_and_on_the_devices_pace(
    forked_document: PlanDocument,
) -> None:
    """With 0.5 ms for each message more it saves nothing where a kilobyte takes less."""
    plan = forked_document.plan("chunked")
    plan = msgspec.structs.replace(plan, encode_s=plan.encode_s - 0.001)
    document = msgspec.structs.replace(
        forked_document, plans=(forked_document.plan("device-only"), plan)
    )
    options = Options.of(document)
    assert options.hides("chunked", Estimate())
    assert options.hides("chunked", on(1e5))
    assert not options.hides("chunked", on(1e9))
    assert not options.hides("chunked", on(1.5e6, pace=2.0))
    assert options.hides("chunked", on(1.5e6, pace=0.5))
    assert not options.hides("device-only", on(1e5))
    assert not Options.device_only().hides(DEVICE_ONLY, on(1e5))


def test_how_long_a_request_that_is_sent_in_chunks_is_away(forked_document: PlanDocument) -> None:
    """Head 33 ms; at 20 kB/s 512, 512 and 1024 bytes from 11, 12 and 33 ms on are across at 113.4.

    At half the pace the head takes 66 ms, and they are across at 124.4.
    """
    options = Options.of(forked_document)
    assert options.ways["chunked"] == Way(kind="split", head_s=pytest.approx(0.033), tail_s=0.030)  # type: ignore[arg-type]
    away_s = 0.005 + 0.004
    found = [
        options.away_s("chunked", on(2e4)),
        options.away_s("chunked", on(2e4), chunked=True),
        options.away_s("chunked", on(2e4, pace=2.0), chunked=True),
        options.away_s("chunked", on(1e9), chunked=True),
    ]
    expected = [2048 / 2e4, 0.1134 - 0.033, 0.1244 - 0.066, 1024 / 1e9]
    assert found == [pytest.approx(away_s + upload_s) for upload_s in expected]
