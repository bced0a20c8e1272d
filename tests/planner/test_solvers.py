"""Each solver against the list of everything, on graphs small enough to list."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.rates import Rates
from planner.solve import program, tiers
from planner.solve.chain import best_prefix
from planner.solve.mincut import cost_of, min_cut
from planner.solve.problem import Chosen, Problem
from planner.solve.program import Limits
from planner.solve.throughput import best_mixture, slowest_s
from testbed.bench.reference import (
    by_every_placement,
    every_plan,
    random_case,
    random_latency,
    random_problem,
    random_tier_prices,
)

seeds = st.integers(0, 2**32).map(random.Random)
ENERGY = Rates(device=3.0, cloud=0.1, up=2e-4, down=1e-4, trip=0.05)


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(2, 4))
def test_ops_are_placed_on_any_number_of_tiers_as_by_trying_all(
    rng: random.Random, count: int
) -> None:
    graph, _ = random_case(rng, 5)
    prices = random_tier_prices(rng, graph, count)
    found = tiers.place(graph, prices)
    assert found.cost == pytest.approx(by_every_placement(graph, prices), abs=found.resolution)
    assert found.cost == pytest.approx(tiers.cost_of(graph, prices, found.tiers))
    assert abs(found.cost - found.cut_value) <= found.resolution


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_the_codec_of_each_tensor_is_chosen_inside_the_cut(rng: random.Random) -> None:
    problem, rates = random_problem(rng, 5), random_latency(rng)
    prices, both = problem.prices(rates)
    found = min_cut(problem.graph, prices)
    best = min(rates.of(each) for each in every_plan(problem))
    assert found.cost + both == pytest.approx(best, abs=found.resolution)
    chosen = problem.chosen(found.head, rates)
    assert chosen is not None
    assert rates.of(chosen) == pytest.approx(best, abs=found.resolution)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_under_limits_the_programme_finds_what_listing_all_finds(rng: random.Random) -> None:
    problem, rates = random_problem(rng, 5), random_latency(rng)
    limits = Limits(
        rates=((ENERGY, rng.choice([0.05, 0.1, 0.2, 0.4])),),
        device_bytes=rng.choice([30, 60, 100, 200, math.inf]),
        tensors=rng.choice([1, 2, math.inf]),
    )
    allowed = [rates.of(each) for each in every_plan(problem) if limits.kept_by(each)]
    found = program.solve(problem, [rates], limits)
    if found is None:
        assert not allowed
        return
    assert limits.kept_by(found.chosen)
    assert found.value == pytest.approx(min(allowed), abs=1e-6)
    assert found.bound <= found.value + 1e-6


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_the_slowest_stage_is_least_and_no_mixture_of_all_plans_is_faster(
    rng: random.Random,
) -> None:
    problem = random_problem(rng, 4)
    stages = [Rates(device=1.0, stay=0.01, trip=0.02), Rates(up=1e-4), Rates(cloud=1.0)]
    every = list(every_plan(problem))
    single = program.solve(problem, stages, Limits())
    assert single is not None
    assert single.value == pytest.approx(min(slowest_s(stages, e) for e in every), abs=1e-6)

    mixed = best_mixture(stages, lambda rates: _best(problem, rates))
    # With every plan listed as a column, the same programme can find nothing better.
    listed = best_mixture(stages, lambda rates: min(every, key=rates.of))
    assert mixed.seconds == pytest.approx(listed.seconds, rel=1e-5, abs=1e-7)
    assert mixed.seconds <= single.value + 1e-6
    assert mixed.bound == pytest.approx(mixed.seconds, rel=1e-5, abs=1e-7)
    assert len(mixed.shares) <= len(stages)
    assert sum(share for _, share in mixed.shares) == pytest.approx(1.0)


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_the_chain_scan_is_the_best_prefix_and_never_better_than_the_cut(
    rng: random.Random,
) -> None:
    graph, prices = random_case(rng, 7)
    found = best_prefix(graph, prices)
    prefixes = [cost_of(graph, prices, frozenset(range(n))) for n in range(len(graph.ops) + 1)]
    assert found.cost == pytest.approx(min(prefixes))
    assert found.cost == pytest.approx(found.cut_value)
    exact = min_cut(graph, prices)
    assert exact.cost <= found.cost + exact.resolution


def test_a_limit_that_no_head_keeps_is_no_answer() -> None:
    problem = random_problem(random.Random(1), 5)  # noqa: S311  graphs, not secrets
    assert program.solve(problem, [ENERGY], Limits(rates=((ENERGY, 0.0),), tensors=0)) is None


def test_rates_below_zero_infinite_or_nan_are_refused() -> None:
    for value in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="the rate up must be at least 0"):
            Rates(up=value)


def test_as_many_tiers_as_hops_and_one_more_are_needed() -> None:
    with pytest.raises(ValueError, match="2 tiers need 1 hops"):
        tiers.TierPrices(run=((0.0,), (0.0,)), crossing=(), answer=(), round_trip=())


def _best(problem: Problem, rates: Rates) -> Chosen:
    chosen = problem.chosen(min_cut(problem.graph, problem.prices(rates)[0]).head, rates)
    assert chosen is not None
    return chosen
