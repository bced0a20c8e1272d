"""A model beyond one instance's limits, as a chain of stages over several instances.

The instances are equal, so a model's ops take as long on one as on another: what is chosen is how
few stages hold it, and of so many those between which the least has to move; or, for a stream,
those whose slowest one is least.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.errors import NoFeasiblePlan, PlannerError
from planner.footprint import held
from planner.graph import Op
from planner.model import Model
from planner.plans import Certificate
from planner.profiles import Profile
from planner.solve import stages as programme
from planner.solve.staged import Objective, Staged, slowest_s, total_s, use_of
from planner.stagings import SCHEMA, Aim, Stage, StageOp, Staging
from planner.ways import check_profile, op_seconds
from planner.words import show_bytes, show_s
from planner.work import work_of

TIME_LIMIT_S = 30.0
"""For all programmes of one staging; what was proved by then is its certificate."""

_OBJECTIVES: Mapping[Aim, Objective] = {"latency": total_s, "throughput": slowest_s}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What an invocation of one stage takes beside its ops: ``fixed_s``, and each byte both ways.

    A tensor that is passed on goes out of an instance and into another one, and counts twice.
    """

    fixed_s: float
    per_byte_s: float

    def __post_init__(self) -> None:
        if not all(0 <= each < math.inf for each in (self.fixed_s, self.per_byte_s)):
            raise ValueError(f"a transfer's seconds must be 0 or more and finite, got {self}")


LOCAL = Transfer(fixed_s=5e-4, per_byte_s=9e-10)
"""To an instance on the same machine and back, over a Unix socket, with moving the bytes from one
message into the next: 0.38 to 0.43 ms at 4 kB each way, 1.1 to 2.3 at 600 kB, 5.5 to 6.3 at 3 MB,
19 to 25 at 12 MB (medians of 50, two runs, 2 busy cores, 2026-11)."""


def stages(
    model: Model,
    profile: Profile | None,
    *,
    max_memory_bytes: float,
    max_execution_s: float = math.inf,
    transfer: Transfer,
    objective: Aim = "latency",
    least: int = 1,
    whole_s: float | None = None,
) -> Staging:
    """The fewest stages that instances can hold and run, and among those the best.

    Args:
        model: what :func:`planner.read` returned.
        profile: its profile on such an instance; without one the ops share *whole_s* by their
            multiply-adds, or by the bytes that they touch where those are not known.
        max_memory_bytes: the most that a stage's weights and tensors may take, which is what an
            instance may have less what it takes before it loads a model.
        max_execution_s: the most that a stage's ops may take.
        transfer: what it takes to hand an instance a request and take its reply.
        objective: ``latency`` is of one invocation; ``throughput`` makes the slowest stage least,
            which is what a stream waits for.
        least: how many stages there shall be, where more of them let a stream run faster.
        whole_s: what the whole model takes, where there is no profile.

    Raises:
        NoFeasiblePlan: an op alone exceeds a limit, which is named; or ops that must run together.
        PlannerError: the profile is of another model, or times matter and there are none.
    """
    if not max_memory_bytes > 0 or not max_execution_s > 0 or least < 1:
        raise PlannerError(
            f"stages of {max_memory_bytes:g} bytes and {max_execution_s:g} s, at least {least}: "
            "all three must be above 0"
        )
    timed = profile is not None or whole_s is not None
    if not timed and (math.isfinite(max_execution_s) or objective == "throughput"):
        raise PlannerError(
            f"how long the ops of {model.name} take is not known: profile it, or say what all of "
            "it takes"
        )
    problem = _problem(model, profile, whole_s or 0.0, max_memory_bytes, max_execution_s, transfer)
    _each_fits(model, problem)
    aim = _OBJECTIVES[objective]
    found = programme.solve(problem, aim, least=least, time_limit_s=TIME_LIMIT_S)
    if found is None:
        raise _nothing(model, problem, least)
    return Staging(
        schema=SCHEMA,
        model=model.name,
        digest=model.digest,
        objective=objective,
        sources=model.source,
        answers=model.answers,
        inputs=tuple(info.name for info in model.inputs),
        outputs=tuple(info.name for info in model.outputs),
        stages=tuple(
            Stage(
                ops=tuple(_op(model.graph.ops[i]) for i in use.ops),
                inputs=use.inputs,
                outputs=use.outputs,
                run_s=use.run_s,
                moved_s=use.moved_s,
                moved_bytes=use.moved_bytes,
                weight_bytes=use.weight_bytes,
                peak_bytes=use.peak_bytes,
            )
            for use in found.uses
        ),
        total_s=total_s(found.uses),
        slowest_s=slowest_s(found.uses),
        fewest=found.fewest,
        certificate=Certificate(
            method="integer programme", unit="s", cost=aim(found.uses), bound=found.bound
        ),
    )


def _op(op: Op) -> StageOp:
    return StageOp(name=op.name, inputs=op.inputs, outputs=op.outputs)


def _problem(
    model: Model,
    profile: Profile | None,
    whole_s: float,
    max_memory_bytes: float,
    max_execution_s: float,
    transfer: Transfer,
) -> Staged:
    graph = model.graph
    measured = {} if profile is None else {size.name: size.raw_bytes for size in profile.tensors}
    sizes = {name: measured.get(name, info.nbytes) for name, info in graph.tensors.items()}
    known = {name: nbytes for name, nbytes in sizes.items() if nbytes is not None}
    mine = held(model.proto)
    weights = tuple(mine.get(op.name, {}) for op in graph.ops)
    if profile is None:
        seconds = _shares(model, weights, known, whole_s)
    else:
        check_profile(model, profile, "the instances' profile")
        seconds = op_seconds(graph, profile, "the instances' profile", "tail")
    steps = [op for op in graph.ops if op.is_step]  # a piece holds what its steps read and make
    late = [name for op in steps if op.after_network for name in op.inputs]
    return Staged(
        graph=graph,
        seconds=seconds,
        sizes=known,
        weights=weights,
        most_bytes=max_memory_bytes,
        most_s=max_execution_s,
        fixed_s=transfer.fixed_s,
        per_byte_s=transfer.per_byte_s,
        kept=frozenset((*late, *(name for op in steps for name in op.outputs))) & {*graph.producer},
        together=_together(model, known),
    )


def _shares(
    model: Model,
    weights: Sequence[Mapping[str, int]],
    sizes: Mapping[str, int],
    whole_s: float,
) -> tuple[float, ...]:
    """*whole_s* by the ops' multiply-adds, or by the bytes that they read and make."""
    parts: Sequence[int] | None = work_of(model)
    if parts is None or not sum(parts):
        parts = [
            sum(mine.values()) + sum(sizes.get(name, 0) for name in (*op.inputs, *op.outputs))
            for op, mine in zip(model.graph.ops, weights, strict=True)
        ]
    every = sum(parts) or 1
    return tuple(whole_s * part / every for part in parts)


def _together(model: Model, sizes: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    """Ops that must share a stage: what is between them cannot travel, or is of unknown size.

    An op that depends on no input has nothing that would start it elsewhere: it goes with whoever
    reads it first.
    """
    graph = model.graph
    pairs = [
        (maker, reader)
        for name, maker in graph.producer.items()
        if not graph.info(name).crosses or name not in sizes
        for reader in graph.consumers.get(name, ())
    ]
    begun = set(graph.sources)
    for i, op in enumerate(graph.ops):
        if begun.intersection(op.inputs):
            begun.update(op.outputs)
            continue
        readers = [j for name in op.outputs for j in graph.consumers.get(name, ())]
        first = next((j for j, each in enumerate(graph.ops) if set(each.inputs) & begun), i)
        pairs.append((i, min(readers, default=first)))
    return tuple(dict.fromkeys((a, b) for a, b in pairs if a != b))


def _each_fits(model: Model, problem: Staged) -> None:
    """Refuse a model with an op that no instance can hold or run, whatever runs beside it."""
    alone = [use_of(problem, [i]) for i in range(len(model.graph.ops))]
    if all(use.fits(problem) for use in alone):
        return
    largest = max(alone, key=lambda use: use.nbytes)
    if largest.nbytes > problem.most_bytes:
        op = model.graph.ops[largest.ops[0]]
        need, most, what = show_bytes(largest.nbytes), show_bytes(problem.most_bytes), "memory"
    else:
        slowest = max(alone, key=lambda use: use.run_s)
        op = model.graph.ops[slowest.ops[0]]
        need, most, what = show_s(slowest.run_s), show_s(problem.most_s), "time"
    raise NoFeasiblePlan(
        f"no staging of {model.name} is possible: the op {op.name!r} ({op.kind}) alone needs "
        f"{need} of {what}, and an instance may have {most}: allow it {need} or more"
    )


def _nothing(model: Model, problem: Staged, least: int) -> NoFeasiblePlan:
    """Every op alone would fit, but some cannot be parted, or there are too few of them."""
    graph = model.graph
    if least > len(graph.ops) - len(problem.together):
        return NoFeasiblePlan(
            f"{model.name} cannot be parted into {least} stages: it has {len(graph.ops)} ops, of "
            f"which {len(problem.together)} must run with another: ask for fewer"
        )
    if not problem.together:
        return NoFeasiblePlan(
            f"no staging of {model.name} in {least} stages or more was found in "
            f"{TIME_LIMIT_S:g} s: ask for fewer, or allow an instance more"
        )
    a, b = max(problem.together, key=lambda pair: use_of(problem, sorted(pair)).nbytes)
    return NoFeasiblePlan(
        f"no staging of {model.name} was found: ops such as {graph.ops[a].name!r} and "
        f"{graph.ops[b].name!r} must run together, as what is between them cannot travel: allow an "
        "instance more memory or time"
    )
