"""The planner's question and answer: which cut, over which link, and why."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import msgspec

from planner.baselines import baselines
from planner.costs import Costs, Rules
from planner.energy import RADIOS, Radio
from planner.errors import PlannerError
from planner.judging import Judge, Verdicts
from planner.limits import Limit, Limits, choose, choose_slowest, limits_of, none_left
from planner.links import Link
from planner.loads import Load
from planner.model import Model
from planner.objectives import UNITS, Name, World
from planner.pareto import front
from planner.plans import Plan, PlanDocument
from planner.profiles import Profile
from planner.rates import Rates
from planner.solve.problem import Chosen
from planner.solve.throughput import best_mixture
from planner.sooner import sooner
from planner.tables import line_table, stage_table
from planner.tariffs import LAMBDA_1_GB, Tariff
from planner.ways import check_profile
from planner.writing import Found, priced, write
from protos import codecs as wire_codecs

LOSSLESS = ("raw", "raw+zstd")
SHOWN = ("jpeg:90",)
"""The lossy baseline that is always shown, so that nobody wonders; a candidate only if judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Watts that the device's processor draws above idle while it works, and its radio.

    Without a radio the one that the link is named after is taken (3G, LTE, WiFi).
    """

    busy_w: float
    radio: Radio | None = None

    def __post_init__(self) -> None:
        if not 0 < self.busy_w < math.inf:
            raise PlannerError(f"the device's power is {self.busy_w} W: it must be above 0")


def plan(  # noqa: PLR0913  a question has this many parts, each with a default
    model: Model,
    device: Profile,
    cloud: Profile,
    link: Link,
    *,
    objective: Name = "latency",
    codecs: Sequence[str] = LOSSLESS,
    limits: Limits = Limits(),  # noqa: B008  frozen
    raw_input_may_leave: bool = True,
    on_device: Collection[str] = (),
    in_cloud: Collection[str] = (),
    judge: Judge | None = None,
    accuracy_drop: float = 0.0,
    load: Load = Load(),  # noqa: B008  frozen
    power: Power | None = None,
    tariff: Tariff = LAMBDA_1_GB,
) -> PlanDocument:
    """The best cut at *link*'s bandwidth, with its certificate and the plan table.

    >>> import onnx, planner, shutil, tempfile
    >>> from pathlib import Path
    >>> from onnx import helper
    >>> from planner.links import parse_link
    >>> from planner.model import sample_inputs
    >>> here = Path(tempfile.mkdtemp())
    >>> x, y = (helper.make_tensor_value_info(name, 1, [1, 4]) for name in "xy")
    >>> nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Exp", ["a"], ["y"])]
    >>> graph = helper.make_graph(nodes, "two", [x], [y])
    >>> onnx.save(helper.make_model(graph, ir_version=8), str(here / "two.onnx"))
    >>> model = planner.read(here / "two.onnx")
    >>> cloud = planner.profile(model, sample_inputs(model), runs=5)
    >>> document = planner.plan(model, cloud.scaled(0.1), cloud, parse_link("LTE"))
    >>> document.choice, document.reason[:12]
    ('device-only', 'do not split')
    >>> document.at(1e9, rtt_s=document.link.rtt_s).id
    'device-only'
    >>> shutil.rmtree(here)

    Args:
        model: what :func:`planner.read` returned.
        device: the model's profile on the device.
        cloud: its profile in the cloud.
        link: what lies between them.
        objective: what is to be least; for throughput, the slowest stage with frames in flight.
        codecs: what a tensor may cross with. A lossy codec that is named here is accepted as it is.
        limits: what the plan must keep to, at *link*'s own figures.
        raw_input_may_leave: whether the sensor's own message may be sent.
        on_device: names of ops that must run on the device.
        in_cloud: names of ops that must run in the cloud.
        judge: tells how much accuracy a lossy crossing costs, as measured; with it every codec of
            the profiles is a candidate, and each that the answer wants to use is judged first.
        accuracy_drop: the most accuracy that a judged crossing may cost.
        load: what the cloud's gateway reports of its queue and its cold starts.
        power: the device's power, which energy needs.
        tariff: the cloud's prices.

    Raises:
        PlannerError: the profiles are not of this model, or a figure that is needed is missing.
        NoFeasiblePlan: nothing keeps to the limits; the message names the limit and what would do.
    """
    _check(model, device, cloud, objective)
    if objective == "energy" or math.isfinite(limits.energy_j):
        _check_power(power, link)
    world = _world(device, link, load, power, tariff)
    every = tuple(dict.fromkeys((*codecs, *(rate.codec for rate in device.codecs))))
    usable = every if judge else tuple(codecs)
    verdicts = Verdicts(judge, accuracy_drop, accepted=codecs)
    wide = Costs(model.graph, device, cloud, world, Rules(codecs=(*every, *SHOWN)))
    kept = () if raw_input_may_leave else model.source
    rules = _rules(usable, kept, on_device, in_cloud)
    lossy = [c for c in every if wire_codecs.parse(c).lossy] if judge else SHOWN
    others = baselines(model, wide, lossy)
    bans = verdicts.bans([each.crossing for each in others])
    while True:
        costs = Costs(model.graph, device, cloud, world, replace(rules, banned=bans))
        found = _solve(costs, objective, limits_of(limits, world))
        grown = verdicts.bans([costs.plan_of(each).crossing for each in found.every])
        if grown == bans:
            break
        bans = grown
    known = [msgspec.structs.replace(p, refused=costs.refused(p.crossing)) for p in others]
    return write(model, costs, found, known, verdicts, objective)


def plan_front(  # noqa: PLR0913  as plan
    model: Model,
    device: Profile,
    cloud: Profile,
    link: Link,
    *,
    pair: tuple[Name, Name],
    codecs: Sequence[str] = LOSSLESS,
    limits: Limits = Limits(),  # noqa: B008  frozen
    raw_input_may_leave: bool = True,
    on_device: Collection[str] = (),
    in_cloud: Collection[str] = (),
    load: Load = Load(),  # noqa: B008  frozen
    power: Power | None = None,
    tariff: Tariff = LAMBDA_1_GB,
) -> tuple[Plan, ...]:
    """Every plan that no other beats in both objectives of *pair*, the best in the first first.

    The arguments are those of :func:`plan`; only codecs that are named may be used.

    Raises:
        PlannerError: the profiles are not of this model, or a figure that is needed is missing.
        NoFeasiblePlan: nothing keeps to the limits.
    """
    for name in pair:
        _check(model, device, cloud, name)
    if "energy" in pair or math.isfinite(limits.energy_j):
        _check_power(power, link)
    world = _world(device, link, load, power, tariff)
    kept = () if raw_input_may_leave else model.source
    rules = _rules(codecs, kept, on_device, in_cloud)
    costs = Costs(model.graph, device, cloud, world, rules)
    held = limits_of(limits, world)
    points = front(costs.problem, world, *pair, held)
    if not points:
        raise none_left(costs.problem, world.latency().at(link.up_bps), held)
    return tuple(priced(costs.plan_of(p.chosen), world, stream=True) for p in points)


def _rules(
    codecs: Sequence[str],
    kept: Collection[str],
    on_device: Collection[str],
    in_cloud: Collection[str],
) -> Rules:
    return Rules(
        codecs=tuple(codecs),
        accepted=frozenset(codecs),
        kept=frozenset(kept),
        on_device=frozenset(on_device),
        in_cloud=frozenset(in_cloud),
    )


def _world(device: Profile, link: Link, load: Load, power: Power | None, tariff: Tariff) -> World:
    return World(
        link=link,
        load=load,
        local_s=device.local_s,
        remote_s=device.remote_s,
        busy_w=power.busy_w if power else None,
        radio=(power.radio or RADIOS.get(link.name)) if power else None,
        tariff=tariff,
    )


def _check(model: Model, device: Profile, cloud: Profile, objective: Name) -> None:
    check_profile(model, device, "the device's profile")
    check_profile(model, cloud, "the cloud's profile")
    if objective not in UNITS:
        raise PlannerError(f"there is no objective {objective!r}: it is one of {', '.join(UNITS)}")


def _check_power(power: Power | None, link: Link) -> None:
    if power is None:
        raise PlannerError(
            "energy needs the device's power above idle, as measured at its plug: give "
            "--device-power 3.5W"
        )
    if power.radio is None and link.name not in RADIOS:
        raise PlannerError(
            f"energy needs the radio of the link {link.name}, and it has no radio that we know: "
            f"give --radio {'|'.join(RADIOS)}"
        )


def _solve(costs: Costs, objective: Name, limits: tuple[Limit, ...]) -> Found:
    problem, world = costs.problem, costs.world
    up_bps = world.link.up_bps
    goal = world.objective(objective)
    if objective != "throughput":
        choice = choose(problem, goal.at(up_bps), limits)
        if choice is None:
            raise none_left(problem, goal.at(up_bps), limits)
        lines = line_table(problem, goal, limits, up_bps)
        rows = lines.rows
        if objective == "latency":
            ahead = sooner(problem, goal, limits, choice, lines, up_bps)
            choice, rows = ahead.choice, ahead.rows
        return Found(limits=limits, choice=choice, table=rows, table_gap=lines.gap, mixture=None)
    stages = world.stages(up_bps)
    choice = choose_slowest(problem, stages, limits)
    if choice is None:
        raise none_left(problem, goal.at(up_bps), limits)

    def best(rates: Rates) -> Chosen:
        found = choose(problem, rates, limits)
        assert found is not None  # the choice keeps to the limits
        return found.chosen

    mixture = best_mixture(stages, best)
    candidates = [choice.chosen, *(chosen for chosen, _ in mixture.shares)]
    table = stage_table(problem, world, limits, candidates)
    return Found(limits=limits, choice=choice, table=table, mixture=mixture)
