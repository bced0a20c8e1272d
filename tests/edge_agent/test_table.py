"""The plan table drawn anew for what was found."""

from itertools import pairwise
from math import inf

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.table import fixed_s, named, named_within, redrawn
from planner.chunks import Chunk
from planner.plans import Crossing, Plan, PlanDocument, Range
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


SECONDS = st.floats(min_value=0, max_value=1)


@st.composite
def a_plan_in_chunks(draw: st.DrawFn, number: int) -> Plan:
    """Up to five tensors, each a chunk; of some plans they are sent together."""
    ready_s = draw(st.lists(SECONDS, max_size=5))
    chunks = tuple(
        Chunk(
            tensor=str(place),
            device_s=device_s,
            encode_s=draw(SECONDS) / 10,
            bytes=draw(st.integers(1, 10**6)),
        )
        for place, device_s in enumerate(ready_s)
    )
    return Plan(
        id=f"p{number}",
        crossing=tuple(
            Crossing(tensor=each.tensor, codec="raw", bytes=each.bytes) for each in chunks
        ),
        ops_on_device=1,
        ops=2,
        device_s=sum(ready_s),
        encode_s=sum(each.encode_s for each in chunks) * draw(SECONDS),
        decode_s=0.0,
        cloud_s=draw(SECONDS),
        download_bytes=draw(st.integers(0, 1000)),
        overhead_s=draw(SECONDS) / 100,
        chunks=chunks if draw(st.booleans()) else (),
    )


@st.composite
def in_chunks(draw: st.DrawFn) -> tuple[Plan, ...]:
    return tuple(draw(a_plan_in_chunks(n)) for n in range(draw(st.integers(1, 6))))


def cost_s(plan: Plan, document: PlanDocument, known: Estimate, up_bps: float) -> float:
    pace = 1.0 if known.pace is None else known.pace
    hidden_s = plan.hidden_s(up_bps, pace=pace)
    return fixed_s(plan, document, known) + plan.upload_bytes / up_bps - hidden_s


@settings(max_examples=300)
@given(in_chunks(), ESTIMATES, st.lists(st.floats(min_value=1, max_value=12), min_size=20))
def test_with_chunks_too_the_table_names_what_costs_least(
    plan_document: PlanDocument,
    plans: tuple[Plan, ...],
    known: Estimate,
    decades: list[float],
) -> None:
    document = msgspec.structs.replace(plan_document, plans=plans)
    table = redrawn(document, known)
    for decade in decades:
        costs = {plan.id: cost_s(plan, document, known, 10**decade) for plan in plans}
        least_s = min(costs.values())
        assert costs[named(table, 10**decade)] <= least_s + 1e-9 * max(1.0, abs(least_s))
    assert (table[0].from_bps, table[-1].to_bps) == (0.0, inf)
    for below, above in pairwise(table):
        assert below.to_bps == above.from_bps
        assert below.plan != above.plan


def test_the_table_of_plans_with_chunks_changes_where_their_latencies_are_the_same(
    plan_document: PlanDocument,
) -> None:
    """10 kB in two halves, each after 0.1 s of work; 10 kB after 0.14 s; or 0.5 s here."""
    halves = Plan(
        id="halves",
        crossing=tuple(Crossing(tensor=name, codec="raw", bytes=5000) for name in "ab"),
        ops_on_device=1,
        ops=2,
        device_s=0.2,
        encode_s=0.0,
        decode_s=0.0,
        cloud_s=0.0,
        download_bytes=0,
        chunks=tuple(Chunk(tensor=name, device_s=0.1, encode_s=0.0, bytes=5000) for name in "ab"),
    )
    once = msgspec.structs.replace(halves, id="once", device_s=0.14, chunks=())
    here = msgspec.structs.replace(halves, id="here", crossing=(), device_s=0.5, chunks=())
    document = msgspec.structs.replace(plan_document, plans=(here, once, halves))
    away_s = document.link.rtt_s
    # over x, seconds per byte: 0.1 + 10,000 x + round trip = 0.5; 0.2 + 5000 x = 0.14 + 10,000 x
    first, second = 10_000 / (0.5 - 0.1 - away_s), 5000 / (0.2 - 0.14)
    assert redrawn(document, Estimate()) == (
        a_range(0.0, first, "here"),
        a_range(first, second, "halves"),
        a_range(second, inf, "once"),
    )


def test_which_plans_are_named_near_a_bandwidth(plan_document: PlanDocument) -> None:
    table = plan_document.table
    assert named_within(table, 45_000.0, 49_000.0) == {"device-only"}
    assert named_within(table, 45_000.0, 55_000.0) == {"device-only", "plan-1"}
    assert named_within(table, 1e3, 1e12) == {"device-only", "plan-1", "cloud-jpeg"}
