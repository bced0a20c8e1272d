"""Are the solvers exact: random graphs against every plan that there is."""

import random
from collections.abc import Callable

import msgspec

from planner.objectives import Objective
from planner.rates import Rates
from planner.solve import program, tiers
from planner.solve.makespan import soonest
from planner.solve.mincut import cost_of, min_cut
from planner.solve.program import Limits
from planner.solve.throughput import best_mixture, slowest_s
from planner.sooner import latency_s
from testbed.bench.reference import (
    by_brute_force,
    by_every_placement,
    every_plan,
    random_case,
    random_latency,
    random_problem,
    random_tier_prices,
    sent_ahead,
)

MOST_OPS = {2: 9, 3: 7, 4: 6}
"""As many ops as can be listed exhaustively, by the number of tiers."""

CODEC_OPS, STAGE_OPS, AHEAD_OPS = 6, 5, 4
_NEAR = 2e-6
_BYTES_S = 1e-5
"""Slices are whole bytes, and the bound counts their last one as if it were the smallest."""


class Exactness(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of question: how many cases, and how many came out wrong.

    ``recosted_differently`` are those whose answer, priced again from the prices alone, is not the
    value that the solver claims.
    """

    question: str
    cases: int
    wrong: int
    recosted_differently: int


def run(cases: int, say: Callable[[str], None]) -> tuple[Exactness, ...]:
    """*cases* random graphs in all, as many for each question."""
    each = max(1, -(-cases // len(_QUESTIONS)))
    rng = random.Random(0)  # noqa: S311  graphs, not secrets
    out = []
    for question, ask in _QUESTIONS.items():
        say(f"checking {each} random graphs against all their plans: {question}")
        wrong = apart = 0
        for _ in range(each):
            is_wrong, is_apart = ask(rng)
            wrong, apart = wrong + is_wrong, apart + is_apart
        out.append(
            Exactness(question=question, cases=each, wrong=wrong, recosted_differently=apart)
        )
    return tuple(out)


def _two_tiers(rng: random.Random) -> tuple[bool, bool]:
    graph, prices = random_case(rng, MOST_OPS[2])
    found = min_cut(graph, prices)
    again = cost_of(graph, prices, found.head)
    return (
        abs(found.cost - by_brute_force(graph, prices)) > found.resolution,
        abs(again - found.cut_value) > found.resolution,
    )


def _tiers(count: int) -> Callable[[random.Random], tuple[bool, bool]]:
    def ask(rng: random.Random) -> tuple[bool, bool]:
        graph, _ = random_case(rng, MOST_OPS[count])
        prices = random_tier_prices(rng, graph, count)
        found = tiers.place(graph, prices)
        again = tiers.cost_of(graph, prices, found.tiers)
        return (
            abs(found.cost - by_every_placement(graph, prices)) > found.resolution,
            abs(again - found.cut_value) > found.resolution,
        )

    return ask


def _codecs(rng: random.Random) -> tuple[bool, bool]:
    problem, rates = random_problem(rng, CODEC_OPS), random_latency(rng)
    prices, both = problem.prices(rates)
    found = min_cut(problem.graph, prices)
    chosen = problem.chosen(found.head, rates)
    best = min(rates.of(plan) for plan in every_plan(problem))
    again = rates.of(chosen) if chosen else -1.0
    return (
        abs(again - best) > found.resolution,
        abs(again - found.cut_value - both) > found.resolution,
    )


def _limits(rng: random.Random) -> tuple[bool, bool]:
    problem, rates = random_problem(rng, STAGE_OPS), random_latency(rng)
    energy = Rates(device=3.0, cloud=0.1, up=2e-4, down=1e-4, trip=0.05)
    limits = Limits(
        rates=((energy, rng.choice([0.05, 0.1, 0.2, 0.4])),),
        device_bytes=rng.choice([30.0, 60.0, 100.0, 200.0]),
        tensors=rng.choice([1.0, 2.0, 9.0]),
    )
    allowed = [rates.of(plan) for plan in every_plan(problem) if limits.kept_by(plan)]
    found = program.solve(problem, [rates], limits)
    if found is None or not allowed:
        return (found is not None or bool(allowed), False)
    return (
        abs(found.value - min(allowed)) > _NEAR,
        abs(rates.of(found.chosen) - found.bound) > _NEAR,
    )


def _streams(rng: random.Random) -> tuple[bool, bool]:
    problem = random_problem(rng, STAGE_OPS)
    stages = [Rates(device=1.0, stay=0.01, trip=0.02), Rates(up=1e-4), Rates(cloud=1.0)]
    every = list(every_plan(problem))
    single = program.solve(problem, stages, Limits())
    listed = best_mixture(stages, lambda rates: min(every, key=rates.of))

    def oracle(rates: Rates) -> object:
        return problem.chosen(min_cut(problem.graph, problem.prices(rates)[0]).head, rates)

    mixed = best_mixture(stages, oracle)  # type: ignore[arg-type]  # every head has ways here
    best = min(slowest_s(stages, plan) for plan in every)
    wrong = single is None or abs(single.value - best) > _NEAR
    return (
        wrong or abs(mixed.seconds - listed.seconds) > _NEAR,
        abs(mixed.seconds - mixed.bound) > _NEAR,
    )


def _ahead(rng: random.Random) -> tuple[bool, bool]:
    problem = sent_ahead(rng, random_problem(rng, AHEAD_OPS), 0.0)
    fixed = Rates(device=1.0, cloud=1.0, down=1e-6, trip=rng.randint(0, 50) / 1000)
    goal, up_bps = Objective(fixed=fixed, pace=Rates(up=1.0)), 1e6
    best = min(latency_s(goal, plan, up_bps) for plan in every_plan(problem))
    found = soonest(problem, goal.at(up_bps), Limits(), below=1.1 * best + 0.01)
    again = latency_s(goal, found.chosen, up_bps) if found.chosen else -1.0
    return abs(again - best) > _BYTES_S, abs(again - found.bound) > _BYTES_S


_QUESTIONS: dict[str, Callable[[random.Random], tuple[bool, bool]]] = {
    "two tiers": _two_tiers,
    "three tiers": _tiers(3),
    "four tiers": _tiers(4),
    "a codec for each tensor": _codecs,
    "within limits": _limits,
    "slowest stage and mixture": _streams,
    "sent while the head works": _ahead,
}
