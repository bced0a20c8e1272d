"""A model over several equal instances, one stage after the other, as the solvers see it.

An op's stage is never before that of its inputs' makers. What a stage makes for another one goes
out of its instance once, to whoever runs the chain, and into each stage that reads it once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from planner.graph import Graph

SLACK = 1e-6
"""Relative: by so much a limit may be exceeded. Integer programmes are no finer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What each op takes, and what one stage may.

    ``seconds`` and ``weights`` (bytes of constants by name, counted once a stage) have an entry per
    op of the graph; ``sizes`` has the bytes of the tensors. ``kept`` tensors stay in memory from
    when they are made until their stage ends; a stage's inputs and what leaves it do anyway.
    ``together`` pairs ops, by their places, that must share a stage. A stage takes ``fixed_s`` and
    ``per_byte_s`` for each byte that goes in or out, beside its ops; ``most_s`` bounds the ops'
    seconds alone.
    """

    graph: Graph
    seconds: tuple[float, ...]
    sizes: Mapping[str, int]
    weights: tuple[Mapping[str, int], ...]
    most_bytes: float
    most_s: float = math.inf
    fixed_s: float = 0.0
    per_byte_s: float = 0.0
    kept: frozenset[str] = frozenset()
    together: tuple[tuple[int, int], ...] = ()
    until: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        last = len(self.graph.ops) - 1
        until = {
            name: max(self.graph.consumers.get(name, ()), default=maker)
            for name, maker in self.graph.producer.items()
        }
        until |= dict.fromkeys((*self.graph.answers, *self.kept), last)
        object.__setattr__(self, "until", until)

    def size(self, name: str) -> int:
        return self.sizes.get(name, 0)

    def leaves(self, name: str) -> bool:
        """Whether somebody outside wants the tensor, whatever the stages."""
        return name in self.graph.answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one stage holds, moves and takes."""

    ops: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run_s: float
    moved_s: float
    moved_bytes: int
    weight_bytes: int
    peak_bytes: int

    @property
    def seconds(self) -> float:
        return self.run_s + self.moved_s

    @property
    def nbytes(self) -> int:
        return self.weight_bytes + self.peak_bytes

    def fits(self, problem: Staged) -> bool:
        """Whether one instance may hold it and run it."""
        return self.nbytes <= problem.most_bytes * (1 + SLACK) and self.run_s <= problem.most_s * (
            1 + SLACK
        )


Objective = Callable[[Sequence[Use]], float]
"""What is to be least, of the stages in order."""


def total_s(uses: Sequence[Use]) -> float:
    """Seconds of one invocation."""
    return math.fsum(use.seconds for use in uses)


def slowest_s(uses: Sequence[Use]) -> float:
    """Seconds between two invocations of a stream, when every stage works at the same time."""
    return max(use.seconds for use in uses)


def measure(problem: Staged, stages: Sequence[int]) -> tuple[Use, ...] | None:
    """What each stage uses when op i runs in stage ``stages[i]``, told from the graph alone.

    None where an op would run before its inputs, a stage is empty, or ops are parted that belong
    together.
    """
    graph = problem.graph
    if any(
        stages[graph.producer[name]] > stages[i]
        for i, op in enumerate(graph.ops)
        for name in op.inputs
        if name in graph.producer
    ) or any(stages[a] != stages[b] for a, b in problem.together):
        return None
    groups = [[i for i, at in enumerate(stages) if at == stage] for stage in range(max(stages) + 1)]
    return tuple(use_of(problem, group) for group in groups) if all(groups) else None


def use_of(problem: Staged, group: Sequence[int]) -> Use:
    """What a stage of the ops *group*, in order, uses."""
    graph, mine = problem.graph, set(group)
    given = dict.fromkeys(name for i in group for name in graph.ops[i].inputs)
    inputs = [name for name in given if graph.producer.get(name, -1) not in mine]
    made = [name for i in group for name in graph.ops[i].outputs]
    outputs = [
        name
        for name in made
        if problem.leaves(name) or not mine.issuperset(graph.consumers.get(name, ()))
    ]
    stays = {*outputs, *(name for name in made if name in problem.kept)}
    weights: dict[str, int] = {}
    for i in group:
        weights |= problem.weights[i]
    held, alive, peak = sum(map(problem.size, inputs)), 0, 0
    for i in group:
        alive += sum(map(problem.size, graph.ops[i].outputs))
        peak = max(peak, alive)
        alive -= sum(
            problem.size(name)
            for name in dict.fromkeys((*graph.ops[i].inputs, *graph.ops[i].outputs))
            if graph.producer.get(name, -1) in mine
            and name not in stays
            and max((j for j in graph.consumers.get(name, ()) if j in mine), default=i) == i
        )
    moved = held + sum(map(problem.size, outputs))
    return Use(
        ops=tuple(group),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        run_s=math.fsum(problem.seconds[i] for i in group),
        moved_s=problem.fixed_s + problem.per_byte_s * moved,
        moved_bytes=moved,
        weight_bytes=sum(weights.values()),
        peak_bytes=held + peak,
    )
