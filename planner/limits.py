"""What a plan must keep to, and which limit it is that leaves none."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.errors import NoFeasiblePlan, PlannerError
from planner.objectives import World
from planner.rates import Rates
from planner.solve import program
from planner.solve.mincut import min_cut
from planner.solve.problem import Chosen, Problem
from planner.solve.program import Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a plan may take; infinite where nothing is said.

    ``latency_s`` is held by ``quantile`` of the requests: with 0.95 the plan must keep it at the
    bandwidth that the link exceeds 95 % of the time, and with all of the link's jitter. ``usd`` is
    per request, ``tensors`` the most that may cross.
    """

    latency_s: float = math.inf
    quantile: float = 0.5
    energy_j: float = math.inf
    usd: float = math.inf
    device_bytes: float = math.inf
    tensors: float = math.inf

    def __post_init__(self) -> None:
        for name in ("latency_s", "energy_j", "usd", "device_bytes", "tensors"):
            value = getattr(self, name)
            if math.isnan(value) or value < 0:
                raise PlannerError(f"the limit {name} is {value}: it must be 0 or more")
        if not 0 < self.quantile < 1:
            raise PlannerError(
                f"the latency's quantile is {self.quantile}: it must lie between 0 and 1, as 0.95"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One of the limits as the solver takes it, with its words for people."""

    what: str
    most: float
    show: Callable[[float], str]
    of: Callable[[Measured], float]
    rates: Rates | None = None
    device_bytes: float = math.inf
    tensors: float = math.inf

    def __str__(self) -> str:
        return f"{self.what} at most {self.show(self.most)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A head with its codecs, its value, what nothing can be less than, and by which method."""

    chosen: Chosen
    value: float
    bound: float
    resolution: float
    exact_cut: bool


def limits_of(limits: Limits, world: World) -> tuple[Limit, ...]:
    """The limits that say anything, each as a price list where it is one.

    Raises:
        PlannerError: energy is limited, and the device's power or radio is not known.
    """
    out: list[Limit] = []
    link = world.link

    def add(what: str, most: float, rates: Rates, show: Callable[[float], str]) -> None:
        out.append(Limit(what=what, most=most, show=show, of=rates.of, rates=rates))

    if math.isfinite(limits.latency_s):
        plain = limits.quantile == 0.5
        up_bps = link.up_bps if plain else link.bandwidth_at(1 - limits.quantile)
        rates = world.latency().at(up_bps)
        if not plain:
            rates += Rates(trip=link.jitter_s)
        of = "" if plain else f" for {limits.quantile:.4g} of the requests"
        add(f"latency{of}", limits.latency_s, rates, lambda s: f"{s * 1e3:.4g} ms")
    if math.isfinite(limits.energy_j):
        add("energy", limits.energy_j, world.energy().at(link.up_bps), lambda j: f"{j:.4g} J")
    if math.isfinite(limits.usd):
        money = world.cost().at(link.up_bps)
        add("money", limits.usd, money, lambda usd: f"{usd * 1e6:.4g} USD a million")
    if math.isfinite(limits.device_bytes):
        out.append(
            Limit(
                what="device memory",
                most=limits.device_bytes,
                show=lambda n: f"{n / 1e6:.4g} MB",
                of=lambda chosen: chosen.device_bytes,
                device_bytes=limits.device_bytes,
            )
        )
    if math.isfinite(limits.tensors):
        out.append(
            Limit(
                what="boundary tensors",
                most=limits.tensors,
                show=lambda n: f"{n:.0f}",
                of=lambda chosen: len(chosen.crossing),
                tensors=limits.tensors,
            )
        )
    return tuple(out)


def choose(problem: Problem, rates: Rates, limits: Sequence[Limit]) -> Choice | None:
    """The head that costs least by *rates* within *limits*, None where there is none.

    The minimum cut knows no limits; where its head keeps them it is the answer, and else an
    integer programme finds the best that does.
    """
    try:
        prices, both = problem.prices(rates)
        found = min_cut(problem.graph, prices)
    except ValueError:
        return None
    chosen = problem.chosen(found.head, rates)
    together = combined(limits)
    if chosen is not None and together.kept_by(chosen):
        return Choice(
            chosen=chosen,
            value=rates.of(chosen),
            bound=found.cut_value + both,
            resolution=found.resolution,
            exact_cut=True,
        )
    return choose_slowest(problem, (rates,), limits)


def choose_slowest(
    problem: Problem, stages: Sequence[Rates], limits: Sequence[Limit]
) -> Choice | None:
    """The head whose largest cost by any of *stages* is least, within *limits*."""
    answer = program.solve(problem, stages, combined(limits))
    if answer is None:
        return None
    return Choice(
        chosen=answer.chosen,
        value=answer.value,
        bound=answer.bound,
        resolution=0.0,
        exact_cut=False,
    )


def combined(limits: Sequence[Limit]) -> program.Limits:
    return program.Limits(
        rates=tuple((limit.rates, limit.most) for limit in limits if limit.rates is not None),
        device_bytes=min((limit.device_bytes for limit in limits), default=math.inf),
        tensors=min((limit.tensors for limit in limits), default=math.inf),
    )


def broken(limits: Sequence[Limit], chosen: Measured) -> str:
    """Why *chosen* does not keep to the limits, empty where it does."""
    for limit in limits:
        if not combined([limit]).kept_by(chosen):
            return f"{limit.what} would be {limit.show(limit.of(chosen))}, over the limit"
    return ""


def none_left(problem: Problem, rates: Rates, limits: Sequence[Limit]) -> NoFeasiblePlan:
    """Say which limit leaves no plan, and what would."""
    if choose(problem, rates, ()) is None:
        return NoFeasiblePlan(
            "no plan is left: what must stay on the device and what is pinned exclude each other; "
            "release one of them"
        )
    for limit in limits:
        others = [other for other in limits if other is not limit]
        without = choose(problem, limit.rates or rates, others)
        if without is not None:
            kept = f" beside {' and '.join(map(str, others))}" if others else ""
            return NoFeasiblePlan(
                f"no plan keeps {limit}{kept}: {limit.show(limit.of(without.chosen))} would do"
            )
    least = []
    for limit in limits:
        alone = choose(problem, limit.rates or rates, ())
        least.append(f"{limit} ({limit.show(limit.of(alone.chosen))} alone)" if alone else "")
    return NoFeasiblePlan(
        f"no plan keeps all limits, nor all but one of them: {'; '.join(filter(None, least))}; "
        "allow more of at least two"
    )
