"""The plan table drawn anew for what was found."""

from math import inf

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.table import fixed_s, named, named_within, redrawn
from planner.plans import PlanDocument, Range
from protos.messages import Estimate

TIMES = st.none() | st.floats(min_value=0, max_value=10)
ESTIMATES = st.builds(
    Estimate,
    rtt_s=TIMES,
    wait_s=TIMES,
    local_s=TIMES,
    remote_s=TIMES,
    pace=st.floats(min_value=0.01, max_value=100),
)


def a_range(from_bps: float, to_bps: float, plan: str) -> Range:
    return Range(from_bps=pytest.approx(from_bps), to_bps=pytest.approx(to_bps), plan=plan)  # type: ignore[arg-type]


def test_with_nothing_known_every_breakpoint_is_where_two_plans_cost_the_same(
    plan_document: PlanDocument,
) -> None:
    """40 ms on the device; 19 ms and 1024 bytes; 11 ms and 6000 bytes."""
    first, second = 1024 / (0.040 - 0.019), 4976 / (0.019 - 0.011)
    assert redrawn(plan_document, Estimate()) == (
        a_range(0.0, first, "device-only"),
        a_range(first, second, "plan-1"),
        a_range(second, inf, "cloud-jpeg"),
    )


def test_a_cloud_that_keeps_waiting_longer_than_the_device_works_is_on_no_table(
    plan_document: PlanDocument,
) -> None:
    assert redrawn(plan_document, Estimate(wait_s=1.0)) == (a_range(0.0, inf, "device-only"),)


def test_a_refused_plan_is_on_no_table(plan_document: PlanDocument) -> None:
    plans = tuple(
        msgspec.structs.replace(plan, refused="too lossy") if plan.id == "plan-1" else plan
        for plan in plan_document.plans
    )
    document = msgspec.structs.replace(plan_document, plans=plans)
    assert {each.plan for each in redrawn(document, Estimate())} == {"device-only", "cloud-jpeg"}


@given(ESTIMATES, st.floats(min_value=1.0, max_value=1e10))
def test_the_table_names_what_costs_least(
    plan_document: PlanDocument, known: Estimate, up_bps: float
) -> None:
    """Against every plan's cost, at any figures and bandwidth."""
    table = redrawn(plan_document, known)
    costs = {
        plan.id: fixed_s(plan, plan_document, known) + plan.upload_bytes / up_bps
        for plan in plan_document.plans
    }
    assert costs[named(table, up_bps)] <= min(costs.values()) * (1 + 1e-9)
    assert table[0].from_bps == 0.0
    assert table[-1].to_bps == inf
    assert [each.to_bps for each in table[:-1]] == [each.from_bps for each in table[1:]]


def test_which_plans_are_named_near_a_bandwidth(plan_document: PlanDocument) -> None:
    table = plan_document.table
    assert named_within(table, 45_000.0, 49_000.0) == {"device-only"}
    assert named_within(table, 45_000.0, 55_000.0) == {"device-only", "plan-1"}
    assert named_within(table, 1e3, 1e12) == {"device-only", "plan-1", "cloud-jpeg"}
