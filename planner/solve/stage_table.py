"""Stages as an integer programme, solved by HiGHS through scipy.

Each op has one binary node per hop between stages: whether it has run before that hop. These are
the chains of nodes of :mod:`planner.solve.tiers`, whose minimum cut knows no limits; here what a
stage holds and how long it runs is bounded by rows beside them. What is alive while an op runs is
linear in them: a tensor that a later op of any stage reads stays until that op has run, or, where
that op is in another stage, until its own stage ends; one that no later op reads is alive only if
it leaves. So the answer is exact; HiGHS's own bound is its certificate.

Source: Ishikawa 2003 (the chains); Huangfu and Hall 2018 (HiGHS).
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.optimize import LinearConstraint, OptimizeResult
from scipy.sparse import csr_array

from planner.solve.integer import least
from planner.solve.staged import Objective, Staged, total_s

Row = Mapping[int, float]
Term = tuple[Row, float]
"""Coefficients of the variables, and the constant beside them."""


class Table:
    """The programme of one number of stages, two or more."""

    def __init__(self, problem: Staged, stages: int) -> None:
        self.problem, self.stages = problem, stages
        graph = problem.graph
        self._ops = len(graph.ops)
        self.binaries = self._ops * (stages - 1)
        self.count = self.binaries
        self._rows: list[Row] = []
        self._low: list[float] = []
        self._high: list[float] = []
        # HiGHS's tolerances are absolute: seconds and bytes are brought to the order of one.
        moved_s = problem.per_byte_s * sum(problem.sizes.values())
        self.unit_s = math.fsum((*problem.seconds, problem.fixed_s * stages, moved_s)) or 1.0
        self._in: dict[tuple[str, int], int] = {}
        self._out: dict[tuple[str, int], int] = {}
        self._order()
        self._moves()
        self._memory()
        self._times()

    def run(
        self, objective: Objective, time_limit_s: float, most: float, *, first: bool = False
    ) -> OptimizeResult:
        """Solve it: least by *objective* and at most *most*; *first* is content with any answer."""
        epigraph = self.count
        rows, low, high = list(self._rows), list(self._low), list(self._high)
        costs = [self._seconds(stage) for stage in range(self.stages)]
        if objective is total_s:
            total: dict[int, float] = {}
            for cost, _ in costs:
                for at, value in cost.items():
                    total[at] = total.get(at, 0.0) + value
            costs = [(total, math.fsum(constant for _, constant in costs))]
        for cost, constant in costs:
            rows.append({**cost, epigraph: -1.0})
            low.append(-np.inf)
            high.append(-constant)
        target = np.zeros(self.count + 1)
        target[epigraph] = 0.0 if first else 1.0
        whole = np.zeros(self.count + 1)
        whole[: self.binaries] = 1
        upper = np.full(self.count + 1, np.inf)
        upper[: self.binaries] = 1
        upper[epigraph] = most / self.unit_s
        return least(
            target,
            LinearConstraint(_matrix(rows, self.count + 1), low, high),
            integrality=whole,
            bounds=(np.zeros(self.count + 1), upper),
            time_limit_s=time_limit_s,
        )

    def read(self, values: np.ndarray) -> tuple[int, ...]:
        """The stage of each op that the variables stand for."""
        hops = self.stages - 1
        ran = values[: self.binaries].reshape(self._ops, hops) > 0.5
        return tuple(int(hops - row.sum()) for row in ran)

    def _done(self, op: int, stage: int) -> tuple[dict[int, float], float]:
        """Whether an op has run by the end of a stage, as coefficients and a constant."""
        if stage < 0:
            return {}, 0.0
        if stage >= self.stages - 1:
            return {}, 1.0
        return {op * (self.stages - 1) + stage: 1.0}, 0.0

    def _here(self, op: int, stage: int) -> tuple[dict[int, float], float]:
        """Whether an op runs in a stage."""
        by, one = self._done(op, stage)
        before, other = self._done(op, stage - 1)
        return {**by, **{at: -value for at, value in before.items()}}, one - other

    def _new(self) -> int:
        self.count += 1
        return self.count - 1

    def _add(self, *terms: tuple[float, Term], low: float = -np.inf, high: float = np.inf) -> None:
        """*low* <= the sum of factor times term <= *high*."""
        row: dict[int, float] = {}
        constant = 0.0
        for factor, (each, one) in terms:
            for at, value in each.items():
                row[at] = row.get(at, 0.0) + factor * value
            constant += factor * one
        self._rows.append(row)
        self._low.append(low - constant)
        self._high.append(high - constant)

    def _order(self) -> None:
        graph = self.problem.graph
        for stage in range(self.stages - 1):
            for i, op in enumerate(graph.ops):
                done = (1.0, self._done(i, stage))
                self._add((-1.0, self._done(i, stage + 1)), done, high=0.0)
                for maker in {graph.producer[n] for n in op.inputs if n in graph.producer}:
                    self._add(done, (-1.0, self._done(maker, stage)), high=0.0)
            for a, b in self.problem.together:
                self._add((1.0, self._done(a, stage)), (-1.0, self._done(b, stage)), low=0, high=0)
        for stage in range(self.stages):
            self._add(*((1.0, self._here(i, stage)) for i in range(self._ops)), low=1.0)

    def _moves(self) -> None:
        """What goes into a stage, and what leaves one."""
        graph = self.problem.graph
        for name in dict.fromkeys((*graph.consumers, *graph.answers)):
            if not self.problem.size(name):
                continue
            maker, readers = graph.producer.get(name), graph.consumers.get(name, ())
            for stage in range(self.stages):
                made = ({}, 0.0) if maker is None else self._here(maker, stage)
                if readers:
                    self._in[name, stage] = enters = self._new()
                for reader in readers:
                    read = self._here(reader, stage)
                    self._add((1.0, ({enters: 1.0}, 0.0)), (-1.0, read), (1.0, made), low=0.0)
                if maker is None:
                    continue
                self._out[name, stage] = leaves = self._new()
                if self.problem.leaves(name):
                    self._add((1.0, ({leaves: 1.0}, 0.0)), (-1.0, made), low=0.0)
                else:
                    for reader in readers:
                        read = self._here(reader, stage)
                        self._add((1.0, ({leaves: 1.0}, 0.0)), (-1.0, made), (1.0, read), low=0.0)
            if maker is not None:
                self._crossing(name, maker, readers)

    def _crossing(self, name: str, maker: int, readers: tuple[int, ...]) -> None:
        """Rows that follow from the others for whole numbers, and hold fractions tighter."""
        left = {self._out[name, stage]: 1.0 for stage in range(self.stages)}
        for hop in range(self.stages - 1):
            later = range(hop + 1, self.stages)
            entered = {self._in[name, s]: 1.0 for s in later if (name, s) in self._in}
            for reader in readers:
                crosses = (-1.0, self._done(maker, hop)), (1.0, self._done(reader, hop))
                self._add((1.0, (left, 0.0)), *crosses, low=0.0)
                self._add((1.0, (entered, 0.0)), *crosses, low=0.0)

    def _memory(self) -> None:
        """A stage's weights and inputs beside what is alive while each op of the order runs.

        A row of an op of another stage asks for no more than those of this stage's own ops.
        """
        most = self.problem.most_bytes
        if math.isinf(most):
            return
        unit = max(most, 1.0)
        for stage in range(self.stages):
            fixed = ({self._new(): 1.0}, 0.0)
            inputs = [
                (-self.problem.size(name) / unit, ({at: 1.0}, 0.0))
                for (name, s), at in self._in.items()
                if s == stage
            ]
            self._add((1.0, fixed), *self._weights(stage, unit), *inputs, low=0.0)
            for alive in self._alive(stage, unit):
                self._add((1.0, alive), (1.0, fixed), high=most / unit)

    def _weights(self, stage: int, unit: float) -> Iterator[tuple[float, Term]]:
        """Minus a stage's weights, each once."""
        holders: dict[str, list[int]] = {}
        for i, mine in enumerate(self.problem.weights):
            for name in mine:
                holders.setdefault(name, []).append(i)
        for name, ops in holders.items():
            held = self._here(ops[0], stage)
            if len(ops) > 1:
                held = ({self._new(): 1.0}, 0.0)
                for i in ops:
                    self._add((1.0, held), (-1.0, self._here(i, stage)), low=0.0)
            yield -self.problem.weights[ops[0]][name] / unit, held

    def _alive(self, stage: int, unit: float) -> Iterator[Term]:
        """What a stage has made and still holds while each op of the order runs."""
        problem = self.problem
        ends: dict[int, list[str]] = {}
        for name, at in problem.until.items():
            if problem.size(name):
                ends.setdefault(at, []).append(name)
        before: Term = ({}, 0.0)
        for i, op in enumerate(problem.graph.ops):
            alive: Term = ({self._new(): 1.0}, 0.0)
            made = sum(map(problem.size, op.outputs)) / unit
            gone: list[tuple[float, Term]] = []
            for name in ends.get(i - 1, ()):
                share = problem.size(name) / unit
                gone.append((share, self._here(problem.graph.producer[name], stage)))
                if (name, stage) in self._out:
                    gone.append((-share, ({self._out[name, stage]: 1.0}, 0.0)))
            self._add((1.0, alive), (-1.0, before), (-made, self._here(i, stage)), *gone, low=0.0)
            yield alive
            before = alive

    def _times(self) -> None:
        problem = self.problem
        if math.isinf(problem.most_s):
            return
        for stage in range(self.stages):
            terms = [
                (s / problem.most_s, self._here(i, stage)) for i, s in enumerate(problem.seconds)
            ]
            self._add(*terms, high=1.0)

    def _seconds(self, stage: int) -> tuple[dict[int, float], float]:
        """What a stage takes."""
        problem, unit = self.problem, self.unit_s
        row: dict[int, float] = {}
        constant = problem.fixed_s / unit
        for i, seconds in enumerate(problem.seconds):
            here, one = self._here(i, stage)
            constant += one * seconds / unit
            for at, value in here.items():
                row[at] = row.get(at, 0.0) + value * seconds / unit
        for moves in (self._in, self._out):
            for (name, s), at in moves.items():
                if s == stage:
                    row[at] = problem.per_byte_s * problem.size(name) / unit
        return row, constant


def _matrix(rows: Sequence[Row], columns: int) -> csr_array:
    lines = [at for at, row in enumerate(rows) for _ in row]
    places = [column for row in rows for column in row]
    values = [value for row in rows for value in row.values()]
    return csr_array((values, (lines, places)), shape=(len(rows), columns), dtype=float)
