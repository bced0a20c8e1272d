"""A recorded link replayed through estimator and choice: plans change at breakpoints only."""

from dataclasses import dataclass
from math import inf
from pathlib import Path

import msgspec
import pytest

from edge_agent.adapt import LinkEstimate, observed, probed
from edge_agent.options import HYSTERESIS, Options
from planner.plans import Plan, PlanDocument, Range
from planner.traces import Trace, read_trace, write_trace
from protos.messages import Estimate
from testbed.drives import carried_s, drive

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "links" / "ATT-LTE-driving-2016.up"
RTT_S = 0.05
SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One decision: the estimate, the plan before it and the plan after it."""

    up_bps: float
    before: str
    after: str


@pytest.fixture(scope="module")
def document(plan_document: PlanDocument) -> PlanDocument:
    """The three plans at ten times their times and bytes, with their exact table.

    400 ms on the device; 140 + 50 ms and 10 kB; 60 + 50 ms and 60 kB.
    """

    def tenfold(plan: Plan) -> Plan:
        crossing = tuple(
            msgspec.structs.replace(each, bytes=10 * each.bytes) for each in plan.crossing
        )
        return msgspec.structs.replace(
            plan, crossing=crossing, device_s=10 * plan.device_s, cloud_s=10 * plan.cloud_s
        )

    first, second = 10_240 / (0.400 - 0.190), 49_760 / (0.190 - 0.110)
    return msgspec.structs.replace(
        plan_document,
        plans=tuple(tenfold(plan) for plan in plan_document.plans),
        link=msgspec.structs.replace(plan_document.link, rtt_s=RTT_S),
        table=(
            Range(from_bps=0.0, to_bps=first, plan="device-only"),
            Range(from_bps=first, to_bps=second, plan="plan-1"),
            Range(from_bps=second, to_bps=inf, plan="cloud-jpeg"),
        ),
    )


@pytest.fixture(scope="module", params=["made up", "recorded"])
def trace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A drive in Mahimahi's format; the recorded one where it lies beside the repository."""
    path = RECORDED
    if request.param == "made up":
        path = tmp_path_factory.mktemp("drive") / "made-up.up"
        write_trace(drive(7), path)
    elif not path.is_file():
        pytest.skip(f"{path.name} does not lie beside the repository")
    return read_trace(path)


def replay(document: PlanDocument, trace: Trace) -> list[Moment]:
    """Answer requests one after the other, as the agent does: measure, estimate, decide."""
    options = Options.of(document)
    active, now_s = options.initial, 0.0
    estimate, moments = probed(LinkEstimate(), RTT_S, now_s), list[Moment]()
    while now_s < SECONDS:
        plan = document.plan(active)
        now_s += plan.busy_s
        if plan.remote:
            away_s = carried_s(trace, now_s, plan.upload_bytes) + RTT_S + plan.served_s
            now_s += away_s
            estimate = observed(
                estimate,
                sends=((away_s, plan.upload_bytes),),
                answer_bytes=0,
                cloud_s=plan.served_s,
                at_s=now_s,
            )
        up_bps = estimate.bandwidth_bps(now_s, assumed_bps=document.link.up_bps)
        assert up_bps is not None
        after = options.best(active, Estimate(up_bps=up_bps, rtt_s=RTT_S))
        moments.append(Moment(up_bps=up_bps, before=active, after=after))
        active = after
    return moments


def test_along_a_drive_plans_change_at_the_tables_own_breakpoints_and_nowhere_else(
    document: PlanDocument, trace: Trace
) -> None:
    """A change goes to what the table names at that estimate, from a range left for good."""
    ranges = {each.plan: each for each in document.table}
    for moment in replay(document, trace):
        left = ranges[moment.before]
        beyond = (
            moment.up_bps >= left.to_bps * (1 + HYSTERESIS)
            or moment.up_bps * (1 + HYSTERESIS) < left.from_bps
        )
        named = document.at(moment.up_bps, RTT_S).id
        assert moment.after == (named if beyond else moment.before)


def test_along_a_drive_plans_change_and_no_oftener_than_the_link_passes_breakpoints(
    document: PlanDocument, trace: Trace
) -> None:
    """No more than the estimate passes breakpoints by the hysteresis, one way and the other."""
    moments = replay(document, trace)
    changes = [moment for moment in moments if moment.after != moment.before]
    passed = 0
    order = [each.plan for each in document.table]
    for upper in document.table[1:]:
        above = order.index(document.choice) >= order.index(upper.plan)
        for moment in moments:
            if not above and moment.up_bps >= upper.from_bps * (1 + HYSTERESIS):
                above, passed = True, passed + 1
            elif above and moment.up_bps * (1 + HYSTERESIS) < upper.from_bps:
                above, passed = False, passed + 1
    assert 2 <= len(changes) <= passed
    assert len(changes) < len(moments) / 5
