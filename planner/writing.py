"""From what the solvers found to the plan document."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from planner.costs import Costs
from planner.judging import Verdicts
from planner.limits import Choice, Limit, broken
from planner.model import Model
from planner.objectives import UNITS, Name, World
from planner.plans import (
    SCHEMA,
    Certificate,
    LinkFigures,
    Mixture,
    Plan,
    PlanDocument,
    Range,
    Share,
)
from planner.reasons import gain_of, reason_for
from planner.solve import throughput
from planner.solve.problem import Chosen
from planner.tables import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The choice, the table in order of bandwidth, and the mixture for frames in flight."""

    limits: tuple[Limit, ...]
    choice: Choice
    table: tuple[Row, ...]
    mixture: throughput.Mixture | None
    table_gap: float = 0.0

    @property
    def every(self) -> list[Chosen]:
        shares = self.mixture.shares if self.mixture else ()
        rows = (chosen for _, _, chosen in self.table)
        return [self.choice.chosen, *rows, *(chosen for chosen, _ in shares)]


def write(
    model: Model,
    costs: Costs,
    found: Found,
    others: Sequence[Plan],
    verdicts: Verdicts,
    objective: Name,
) -> PlanDocument:
    """Name every plan once, price it at the link, and say why the choice is the choice.

    A plan that crosses as a baseline does goes by the baseline's name.
    """
    link = costs.world.link
    names = {plan.crossing: plan.id for plan in others}
    plans = {plan.id: _within(plan, found.limits) for plan in others}

    def name(chosen: Chosen) -> str:
        plan = costs.plan_of(chosen)
        id_ = names.get(plan.crossing, plan.id)
        if id_ not in plans or chosen == found.choice.chosen:
            plans[id_] = msgspec.structs.replace(plan, id=id_)
        return id_

    choice = name(found.choice.chosen)
    table = tuple(
        Range(from_bps=low, to_bps=high, plan=name(chosen)) for low, high, chosen in found.table
    )
    mixture = None
    if found.mixture is not None:
        mixture = Mixture(
            shares=tuple(
                Share(plan=name(chosen), share=share) for chosen, share in found.mixture.shares
            ),
            fps=_per_s(found.mixture.seconds),
            most_fps=_per_s(found.mixture.bound),
        )
    every = [
        msgspec.structs.replace(
            priced(plan, costs.world, stream=objective == "throughput"),
            drop=verdicts.drop(plan.crossing),
        )
        for plan in plans.values()
    ]
    value = {plan.id: _value(plan, costs, objective) for plan in every}
    chosen = next(plan for plan in every if plan.id == choice)
    rest = [plan for plan in every if plan.id != choice and not plan.refused]
    return PlanDocument(
        schema=SCHEMA,
        model=model.name,
        digest=model.digest,
        objective=objective,
        link=LinkFigures(
            name=link.name, up_bps=link.up_bps, down_bps=link.down_bps, rtt_s=link.rtt_s
        ),
        choice=choice,
        runner_up=min(rest, key=lambda plan: value[plan.id], default=chosen).id,
        certificate=Certificate(
            method="minimum cut" if found.choice.exact_cut else "integer programme",
            unit=UNITS[objective],
            cost=found.choice.value,
            bound=max(found.choice.bound, 0.0),
            resolution=found.choice.resolution,
        ),
        plans=tuple(every),
        baselines=tuple(plan.id for plan in others),
        table=table,
        table_gap=found.table_gap,
        reason=reason_for(
            chosen, every, value, objective=objective, unit=UNITS[objective], mixture=mixture
        ),
        gain=gain_of(chosen, every, value),
        limits=tuple(map(str, found.limits)),
        load=costs.world.load,
        mixture=mixture,
    )


def _within(plan: Plan, limits: Sequence[Limit]) -> Plan:
    """*plan*, refused where it breaks a limit."""
    if plan.refused:
        return plan
    return msgspec.structs.replace(plan, refused=broken(limits, plan))


def priced(plan: Plan, world: World, *, stream: bool) -> Plan:
    """*plan* with its energy and money at the link, and for a stream its frames per second."""
    up_bps = world.link.up_bps
    energy = world.busy_w is not None and world.radio is not None
    slowest = throughput.slowest_s(world.stages(up_bps), plan) if stream else 0.0
    return msgspec.structs.replace(
        plan,
        energy_j=world.energy().of(plan, up_bps) if energy else None,
        usd=world.cost().of(plan, up_bps),
        fps=_per_s(slowest) if stream else None,
    )


def _value(plan: Plan, costs: Costs, objective: Name) -> float:
    """What the objective makes of *plan* at the link: less is better."""
    world = costs.world
    if objective == "throughput":
        return throughput.slowest_s(world.stages(world.link.up_bps), plan)
    value = world.objective(objective).of(plan, world.link.up_bps)
    return value - (plan.hidden_s(world.link.up_bps) if objective == "latency" else 0.0)


def _per_s(seconds: float) -> float:
    return 1 / seconds if seconds > 0 else 0.0
