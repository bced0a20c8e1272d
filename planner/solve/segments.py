"""Stages as stretches of one order of the ops: the best of them, by dynamic programming.

It is exact for a model that is a chain. Elsewhere stages that are no stretches of this order may be
fewer or better; what is found here is where the integer programme (:mod:`planner.solve.stages`)
begins.
"""

import math
from dataclasses import dataclass

import numpy as np

from planner.solve.staged import SLACK, Objective, Staged, total_s


@dataclass(frozen=True, slots=True)
class _Stretches:
    """The stretches that begin at one op and fit: where they end, and their seconds."""

    ends: np.ndarray
    seconds: np.ndarray


class Segments:
    """Every stretch of the graph's order that one instance can hold and run."""

    def __init__(self, problem: Staged) -> None:
        self._count = len(problem.graph.ops)
        parted = np.ones(self._count + 1, bool)
        for a, b in problem.together:
            parted[min(a, b) + 1 : max(a, b) + 1] = False
        self._from = [
            _stretches(problem, first, parted) if parted[first] else None
            for first in range(self._count)
        ]

    def fewest(self) -> int | None:
        """In how few stretches the model fits, None where in none."""
        count = np.full(self._count + 1, np.inf)
        count[0] = 0
        for first, found in enumerate(self._from):
            if found is not None:
                count[found.ends] = np.minimum(count[found.ends], count[first] + 1)
        return int(count[-1]) if math.isfinite(count[-1]) else None

    def best(self, stages: int, objective: Objective) -> tuple[int, ...] | None:
        """The stage of each op in the best *stages* stretches, None where it does not fit."""
        add = objective is total_s
        cost = np.full(self._count + 1, np.inf)
        cost[0] = 0.0
        came: list[np.ndarray] = []
        for _ in range(stages):
            after, source = np.full(self._count + 1, np.inf), np.full(self._count + 1, -1)
            for first, found in enumerate(self._from):
                if found is None or math.isinf(cost[first]):
                    continue
                both = (
                    cost[first] + found.seconds if add else np.maximum(cost[first], found.seconds)
                )
                better = both < after[found.ends]
                after[found.ends[better]] = both[better]
                source[found.ends[better]] = first
            cost = after
            came.append(source)
        if math.isinf(cost[-1]):
            return None
        out, end = [0] * self._count, self._count
        for stage in reversed(range(stages)):
            first = int(came[stage][end])
            out[first:end] = [stage] * (end - first)
            end = first
        return tuple(out)


def _stretches(problem: Staged, first: int, parted: np.ndarray) -> _Stretches:
    """Those that begin at *first*. A longer one holds no less, so the first too long ends them.

    In a stretch, a tensor that no later op reads is wanted by nobody outside either: what is alive
    while an op runs does not depend on where the stretch ends.
    """
    graph, until = problem.graph, problem.until
    ends: list[int] = []
    seconds: list[float] = []
    given: set[str] = set()
    weights: set[str] = set()
    weight_bytes = held = out = alive = peak = 0
    run_s = 0.0
    for i in range(first, len(graph.ops)):
        op = graph.ops[i]
        fresh = [
            name for name in op.inputs if graph.producer.get(name, -1) < first and name not in given
        ]
        given.update(fresh)
        held += sum(map(problem.size, fresh))
        weight_bytes += sum(n for name, n in problem.weights[i].items() if name not in weights)
        weights.update(problem.weights[i])
        run_s += problem.seconds[i]
        made = sum(map(problem.size, op.outputs))
        alive += made
        out += made
        peak = max(peak, alive)
        for name in dict.fromkeys((*op.inputs, *op.outputs)):
            if graph.producer.get(name, -1) < first:
                continue
            if until[name] == i:
                alive -= problem.size(name)
            if not problem.leaves(name) and max(graph.consumers.get(name, ()), default=i) == i:
                out -= problem.size(name)
        if weight_bytes + held + peak > problem.most_bytes * (1 + SLACK):
            break
        if run_s > problem.most_s * (1 + SLACK):
            break
        if parted[i + 1]:
            ends.append(i + 1)
            seconds.append(run_s + problem.fixed_s + problem.per_byte_s * (held + out))
    return _Stretches(np.array(ends, int), np.array(seconds))
