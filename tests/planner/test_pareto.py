"""The front holds every plan that no other beats in both objectives, and no other."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.energy import RADIOS
from planner.links import parse_link
from planner.loads import Load
from planner.objectives import World
from planner.pareto import front
from planner.tariffs import Tariff
from testbed.bench.reference import every_plan, random_problem

WORLD = World(
    link=parse_link("0.08Mbps,20ms"),
    load=Load(),
    local_s=0.0,
    remote_s=0.0,
    busy_w=100.0,
    radio=RADIOS["WiFi"],
    tariff=Tariff(usd_per_s=1.0, usd_per_request=0.01),
)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32).map(random.Random))
def test_the_front_is_what_listing_all_plans_gives(rng: random.Random) -> None:
    problem = random_problem(rng, 4)
    up_bps = WORLD.link.up_bps
    latency, cost = WORLD.latency(), WORLD.cost()
    all_points = {(latency.of(e, up_bps), cost.of(e, up_bps)) for e in every_plan(problem)}
    expected = sorted(
        (a, b)
        for a, b in all_points
        if not any(x <= a and y <= b and (x < a - 1e-9 or y < b - 1e-9) for x, y in all_points)
    )
    found = [(point.first, point.second) for point in front(problem, WORLD, "latency", "cost")]
    assert found == sorted(found)
    for a, b in found:  # each is a plan that nothing beats
        assert any(math.isclose(a, x, rel_tol=1e-5) for x, _ in expected)
        assert any(math.isclose(b, y, rel_tol=1e-5, abs_tol=1e-9) for _, y in expected)
    seconds = [b for _, b in found]
    for _, b in expected:  # and none is passed over, but for those within a ten-thousandth
        assert any(abs(b - y) <= 3e-4 * max(b, y, 1e-3) for y in seconds)


def test_the_fronts_ends_are_the_two_best() -> None:
    problem = random_problem(random.Random(4), 5)  # noqa: S311  graphs, not secrets
    points = front(problem, WORLD, "latency", "energy")
    up_bps = WORLD.link.up_bps
    every = list(every_plan(problem))
    assert points[0].first == pytest.approx(min(WORLD.latency().of(e, up_bps) for e in every))
    assert points[-1].second == pytest.approx(min(WORLD.energy().of(e, up_bps) for e in every))
