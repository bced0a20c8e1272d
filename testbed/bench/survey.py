"""Every real model in three networks: the plan, what planning takes, and the field's methods."""

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from planner.costs import Costs, idle_world
from planner.graph import Graph, Op, TensorInfo
from planner.limits import choose
from planner.links import NAMED
from planner.model import Model
from planner.planning import LOSSLESS, plan
from planner.plans import PlanDocument
from planner.profiles import Profile
from planner.profiling import profile
from planner.solve.mincut import min_cut
from planner.solve.problem import Problem
from planner.solve.way import Way
from planner.sooner import sooner
from planner.tables import line_table
from testbed.bench import methods
from testbed.bench.reference import by_networkx
from testbed.bench.subjects import subject

DEVICE_SPEED = 0.1
RUNS = 8
REPEATS = 5
LOOKUPS = 2000
BIG_OPS = 10_000
BIG = "made up"


class Planning(msgspec.Struct, frozen=True, kw_only=True):
    """What planning one model takes: one cut with its prices, the table, a look-up, networkx.

    ``ahead_ms`` is the search for plans that are better because they are sent in chunks.
    """

    model: str
    ops: int
    cut_ms: float
    table_ms: float | None
    table_over_cut: float | None
    ahead_ms: float | None
    lookup_us: float | None
    networkx_ms: float | None
    networkx_over_cut: float | None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One model in one network; times in ms, the others as ratios over the plan."""

    model: str
    link: str
    choice: str
    kind: str
    kilobytes: float
    ms: float
    device_only: float
    cloud_only: float
    neurosurgeon: float
    dads: float
    dads_claims: float
    reason: str


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    planning: tuple[Planning, ...]
    answers: tuple[Answer, ...]
    same_as_networkx: bool


def run(names: Sequence[str], say: Callable[[str], None]) -> Survey:
    """Profile each model here, take the device as a tenth of it, and plan."""
    planning, answers, same = [], [], True
    for name in names:
        say(f"profiling and planning {name}")
        model, local = measured(name)
        device = local.scaled(DEVICE_SPEED)
        row, agrees = _planning(name, model, device, local)
        planning.append(row)
        same = same and agrees
        answers += [_answer(name, link, model, device, local) for link in NAMED]
    say(f"planning a made-up model of {BIG_OPS} ops")
    planning.append(_big())
    return Survey(planning=tuple(planning), answers=tuple(answers), same_as_networkx=same)


def measured(name: str, *, runs: int = RUNS) -> tuple[Model, Profile]:
    """A real model, with its steps where it has any, and its profile on this machine."""
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        one = subject(name, Path(folder))
        model = one.read()
    return model, profile(model, one.sample, runs=runs)


def _planning(name: str, model: Model, device: Profile, cloud: Profile) -> tuple[Planning, bool]:
    link = NAMED["LTE"]
    costs = Costs(model.graph, device, cloud, link, LOSSLESS)
    goal = costs.world.latency()
    cut = _median_s(lambda: choose(costs.problem, goal.at(link.up_bps), ()))
    table = _median_s(lambda: line_table(costs.problem, goal, (), link.up_bps))
    best = choose(costs.problem, goal.at(link.up_bps), ())
    assert best is not None  # nothing limits it
    lines = line_table(costs.problem, goal, (), link.up_bps)
    ahead = _median_s(lambda: sooner(costs.problem, goal, (), best, lines, link.up_bps))
    document = plan(model, device, cloud, link)
    prices, _ = costs.problem.prices(goal.at(link.up_bps))
    began = time.perf_counter()
    reference = by_networkx(model.graph, prices, unit_s=1e-6)
    networkx_s = time.perf_counter() - began
    found = min_cut(model.graph, prices)
    # networkx works in whole microseconds, an arc each.
    near = 1e-6 * (len(model.graph.ops) + 10) + found.resolution
    agrees = prices.stay > 0 or abs(found.cost - reference) <= near
    return (
        Planning(
            model=name,
            ops=len(model.graph.ops),
            cut_ms=round(cut * 1e3, 2),
            table_ms=round(table * 1e3, 2),
            table_over_cut=round(table / cut, 1),
            ahead_ms=round(ahead * 1e3, 2),
            lookup_us=round(_lookup_s(document) * 1e6, 2),
            networkx_ms=round(networkx_s * 1e3, 1),
            networkx_over_cut=round(networkx_s / cut, 1),
        ),
        agrees,
    )


def _lookup_s(document: PlanDocument) -> float:
    rng = np.random.default_rng(0)
    bandwidths = [float(b) for b in 10 ** rng.uniform(4, 8, LOOKUPS)]
    began = time.perf_counter()
    for up_bps in bandwidths:
        document.at(up_bps)
    return (time.perf_counter() - began) / LOOKUPS


def _answer(name: str, link_name: str, model: Model, device: Profile, cloud: Profile) -> Answer:
    link = NAMED[link_name]
    document = plan(model, device, cloud, link)
    costs = Costs(model.graph, device, cloud, link, LOSSLESS)
    sides = methods.single_sides(model, costs, link.up_bps)
    published = methods.dads(costs, link.up_bps)
    chain = methods.neurosurgeon(costs, link.up_bps)
    chosen = document.plan(document.choice)
    best = chosen.total_s(link.up_bps, link.rtt_s, link.down_bps)
    return Answer(
        model=name,
        link=link_name,
        choice=document.choice,
        kind=chosen.kind,
        kilobytes=round(chosen.upload_bytes / 1e3, 1),
        ms=round(best * 1e3, 2),
        device_only=round(methods.best_of(sides, edge=True) / best, 3),
        cloud_only=round(methods.best_of(sides, edge=False) / best, 3),
        neurosurgeon=round(chain.real_s / best, 3),
        dads=round(published.real_s / best, 3),
        dads_claims=round(published.claimed_s / best, 3),
        reason=document.reason,
    )


def _big() -> Planning:
    """A graph of residual blocks with random times and sizes."""
    rng = random.Random(1)  # noqa: S311  a graph, not a secret
    ops = []
    for i in range(BIG_OPS):
        near = f"t{i - 1}" if i else "x"
        far = f"t{max(0, i - 1 - rng.randint(1, 8))}" if i > 1 else "x"
        inputs = tuple(dict.fromkeys((near, far) if i % 4 == 0 else (near,)))
        ops.append(Op(name=f"op{i}", kind="Op", inputs=inputs, outputs=(f"t{i}",)))
    tensors = {
        name: TensorInfo(name=name, datatype="FP32", shape=(1,))
        for name in ("x", *(f"t{i}" for i in range(BIG_OPS)))
    }
    answers = (f"t{BIG_OPS - 1}",)
    graph = Graph(ops=tuple(ops), tensors=tensors, sources=("x",), answers=answers)
    problem = Problem(
        graph=graph,
        device_s=tuple(rng.uniform(0, 1e-3) for _ in ops),
        cloud_s=tuple(rng.uniform(0, 1e-4) for _ in ops),
        ways={
            name: (Way(codec="raw", nbytes=rng.randint(1000, 1_000_000), encode_s=0, decode_s=0),)
            for name in graph.consumers
        },
        answer_bytes=dict.fromkeys(answers, 1000),
        weight_bytes=(0,) * BIG_OPS,
        live_bytes=(0,) * BIG_OPS,
    )
    link = NAMED["LTE"]
    goal = idle_world(link).latency()
    cut = _median_s(lambda: choose(problem, goal.at(link.up_bps), ()), repeats=3)
    table = _median_s(lambda: line_table(problem, goal, (), link.up_bps), repeats=1)
    return Planning(
        model=BIG,
        ops=BIG_OPS,
        cut_ms=round(cut * 1e3, 1),
        table_ms=round(table * 1e3, 1),
        table_over_cut=round(table / cut, 1),
        ahead_ms=None,
        lookup_us=None,
        networkx_ms=None,
        networkx_over_cut=None,
    )


def _median_s(call: Callable[[], object], *, repeats: int = REPEATS) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return median(times)
