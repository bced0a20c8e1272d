"""Which plan suits a link, and when it is worth changing over."""

import msgspec
import pytest

from edge_agent.options import DEVICE_ONLY, Options, Way
from planner.plans import PlanDocument


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
    assert (options.initial, options.best("device-only", None, None)) == ("plan-1", "plan-1")


@pytest.mark.parametrize(
    ("up_bps", "expected"), [(1e4, "device-only"), (4e5, "plan-1"), (1e7, "cloud-jpeg")]
)
def test_each_link_has_its_plan(options: Options, up_bps: float, expected: str) -> None:
    assert options.best("plan-1", up_bps, 0.005) == expected


def test_a_gain_within_the_hysteresis_is_not_worth_a_change(options: Options) -> None:
    """The split takes 20.0 ms and the picture 17.0 at 1 MB/s; 20.7 and 21.0 at 0.6."""
    assert options.best("plan-1", 1.01e6, 0.005) == "cloud-jpeg"
    assert options.best("cloud-jpeg", 0.6e6, 0.005) == "cloud-jpeg"
    assert options.best("cloud-jpeg", 0.3e6, 0.005) == "plan-1"


def test_another_round_trip_than_the_planned_one_is_priced_anew(options: Options) -> None:
    assert options.best("plan-1", 1e6, 0.5) == "device-only"


def test_a_plan_that_was_refused_is_left_as_soon_as_it_is_not_pinned(
    plan_document: PlanDocument,
) -> None:
    plans = tuple(
        msgspec.structs.replace(plan, refused="too lossy") if plan.id == "cloud-jpeg" else plan
        for plan in plan_document.plans
    )
    options = Options.of(msgspec.structs.replace(plan_document, plans=plans))
    assert "cloud-jpeg" in options.ways
    assert options.best("cloud-jpeg", 0.6e6, 0.005) == "plan-1"


def test_a_model_without_plans_runs_on_the_device() -> None:
    options = Options.device_only()
    assert (options.initial, options.best(DEVICE_ONLY, 1e9, 0.0)) == (DEVICE_ONLY, DEVICE_ONLY)
    assert options.away_s(DEVICE_ONLY, 1e9, 0.0) == 0.0


def test_without_a_cloud_only_what_needs_none_is_left(options: Options) -> None:
    local = options.local()
    assert (list(local.ways), local.initial) == (["device-only"], "device-only")


def test_how_long_a_request_is_away(options: Options) -> None:
    """6000 bytes at 1 MB/s, a round trip of 5 ms, 6 ms of work in the cloud."""
    assert options.away_s("cloud-jpeg", 1e6, 0.005) == pytest.approx(0.017)
    assert options.away_s("cloud-jpeg", None, None) == pytest.approx(0.011 + 6000 / 731_250)
