"""The planner's question and answer: which cut, over which link, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from planner.costs import Costs
from planner.errors import NoFeasiblePlan, PlannerError
from planner.links import Link
from planner.model import Model
from planner.plans import SCHEMA, Certificate, LinkFigures, Plan, PlanDocument, Range
from planner.profiles import Profile
from planner.solve.frontier import Stretch, frontier
from planner.solve.mincut import Solution, min_cut
from planner.steps import SOURCE

LOSSLESS = ("raw", "raw+zstd")
SLOWEST_BPS, FASTEST_BPS = 0.05e6 / 8, 1000e6 / 8
"""The table's ends, bytes per second: 0.05 to 1000 Mbps, and the choice's own if further out."""


@dataclass(frozen=True, slots=True)
class _Priced:
    """A plan as a line over ``1/bandwidth``."""

    plan: Plan
    fixed_s: float
    slope: float


def plan(
    model: Model,
    device: Profile,
    cloud: Profile,
    link: Link,
    *,
    codecs: Sequence[str] = LOSSLESS,
    raw_input_may_leave: bool = True,
    slo_s: float | None = None,
) -> PlanDocument:
    """The cut of least latency at *link*'s bandwidth, with its certificate and the plan table.

    Args:
        model: what :func:`planner.read` returned.
        device: the model's profile on the device.
        cloud: its profile in the cloud.
        link: what lies between them.
        codecs: what a tensor may cross with; only codecs that change no answer by default.
        raw_input_may_leave: whether the sensor's own message may be sent.
        slo_s: a latency that the plan must meet.

    Raises:
        PlannerError: the profiles are not of this model.
        NoFeasiblePlan: nothing meets *slo_s*.
    """
    for which, profile in (("device", device), ("cloud", cloud)):
        if profile.digest != model.digest:
            raise PlannerError(
                f"the {which}'s profile is of {profile.model} with other bytes than this "
                f"{model.name}: profile this model again"
            )
    kept = () if raw_input_may_leave else model.source
    costs = Costs(model.graph, device, cloud, link, codecs, accepted=codecs)
    costs.keep(kept)
    solution = min_cut(model.graph, costs.prices(link.up_bps))
    stretches = _table(model, costs, link)
    best = costs.plan(solution.head, link.up_bps)
    plans = {best.id: best}
    for stretch in stretches:
        plans.setdefault(stretch.line.plan.id, stretch.line.plan)
    wide = Costs(model.graph, device, cloud, link, (*codecs, "jpeg:90"), accepted=codecs)
    wide.keep(kept)
    baselines = _baselines(model, wide, link)
    known = {p.crossing: p.id for p in baselines}
    rename = {p.id: known[p.crossing] for p in plans.values() if p.crossing in known}
    every = [*baselines, *(p for p in plans.values() if p.id not in rename)]
    choice = rename.get(best.id, best.id)
    total = {p.id: p.total_s(link.up_bps, link.rtt_s, link.down_bps) for p in every}
    if slo_s is not None and total[choice] > slo_s:
        raise NoFeasiblePlan(
            f"no cut meets {slo_s * 1e3:.0f} ms over {link.name}: the best needs "
            f"{total[choice] * 1e3:.0f} ms; allow that or a faster link"
        )
    others = [p for p in every if p.id != choice and not p.refused]
    runner_up = min(others, key=lambda p: total[p.id], default=best).id
    return PlanDocument(
        schema=SCHEMA,
        model=model.name,
        digest=model.digest,
        objective="latency",
        link=LinkFigures(
            name=link.name, up_bps=link.up_bps, down_bps=link.down_bps, rtt_s=link.rtt_s
        ),
        choice=choice,
        runner_up=runner_up,
        certificate=_certificate(solution, costs.software_s),
        plans=tuple(every),
        baselines=tuple(p.id for p in baselines),
        table=_ranges(stretches, rename),
        reason=_reason(next(p for p in every if p.id == choice), every, total),
    )


def _table(model: Model, costs: Costs, link: Link) -> tuple[Stretch[_Priced], ...]:
    def best(x: float) -> _Priced:
        found = costs.plan(min_cut(model.graph, costs.prices(1 / x)).head, 1 / x)
        return _Priced(
            found,
            found.fixed_s(rtt_s=link.rtt_s, down_bps=link.down_bps),
            float(found.upload_bytes),
        )

    fast, slow = max(FASTEST_BPS, link.up_bps), min(SLOWEST_BPS, link.up_bps)
    return frontier(best, 1 / fast, 1 / slow)


def _ranges(stretches: Sequence[Stretch[_Priced]], rename: dict[str, str]) -> tuple[Range, ...]:
    ids = [rename.get(s.line.plan.id, s.line.plan.id) for s in stretches]
    return tuple(
        Range(from_bps=1 / stretch.high, to_bps=1 / stretch.low, plan=id_)
        for stretch, id_ in reversed(list(zip(stretches, ids, strict=True)))
    )


def _baselines(model: Model, costs: Costs, link: Link) -> list[Plan]:
    """The honest others: all on the device, and the cloud alone with each form of the input."""
    graph = model.graph
    out = [costs.plan(frozenset(range(len(graph.ops))), link.up_bps, id_="device-only")]

    def cloud_only(id_: str, tensors: Sequence[str], codec: str) -> None:
        head, _ = graph.needed(tensors, ())
        found = frozenset(head)
        possible = all(costs.way(name, codec) for name in tensors)
        if possible and set(graph.boundary(found)) == set(tensors):
            out.append(costs.plan(found, link.up_bps, id_=id_, codec=codec))

    if SOURCE in model.source and model.steps:
        uint8 = [
            op.outputs[0]
            for op in graph.ops
            if op.is_step and graph.info(op.outputs[0]).datatype == "UINT8"
        ]
        rest = [name for name in model.source if name != SOURCE]
        cloud_only("cloud-fp32", [info.name for info in model.inputs], "raw")
        cloud_only("cloud-uint8", [uint8[-1], *rest], "raw")
        cloud_only("cloud-jpeg", [*model.source], "raw")
        if not rest:
            cloud_only("cloud-jpeg90", [uint8[-1]], "jpeg:90")
    else:
        cloud_only("cloud-only", [*model.source], "raw")
    return out


def _certificate(solution: Solution, software_s: float) -> Certificate:
    return Certificate(
        cost_s=solution.cost + software_s,
        cut_value_s=solution.cut_value + software_s,
        resolution_s=solution.resolution,
    )


def _reason(choice: Plan, every: Sequence[Plan], total: dict[str, float]) -> str:
    """One or two sentences: what was chosen, and against what."""
    single = [p for p in every if p.kind != "split" and p.id != choice.id and not p.refused]
    other = min(single, key=lambda p: total[p.id], default=None)
    against = ""
    if other is not None and total[choice.id] > 0:
        against = f"; {other.id} would take {total[other.id] / total[choice.id]:.2f}x as long"
    if choice.kind == "split":
        names = ", ".join(c.tensor for c in choice.crossing)
        return f"split: {choice.upload_bytes / 1e3:.0f} kB cross at {names}{against}"
    best_split = min(
        (total[p.id] for p in every if p.kind == "split" and not p.refused), default=math.inf
    )
    split = (
        f"; the best split on the table would take {best_split / total[choice.id]:.2f}x as long"
        if math.isfinite(best_split) and total[choice.id] > 0
        else "; no split is best at any bandwidth on the table"
    )
    if choice.kind == "edge":
        return (
            f"do not split: the device alone needs {total[choice.id] * 1e3:.0f} ms, "
            f"less than sending anything{against}{split}"
        )
    names = ", ".join(c.tensor for c in choice.crossing)
    what = "the message as it came" if names == SOURCE else names
    return (
        f"do not split: {what} ({choice.upload_bytes / 1e3:.0f} kB) is in the cloud sooner than "
        f"the device could do more{against}{split}"
    )
