"""The best head under limits, as an integer programme solved by HiGHS through scipy.

One binary per op (1: on the device), one per way of each tensor, one for the use of the link. An
op on the device needs its makers there; a tensor made on the device with a reader in the cloud
takes one of its ways. Objective and limits are linear, so the answer is exact; HiGHS's own bound is
its certificate.

Source: Huangfu and Hall 2018 (HiGHS); closures as in :mod:`planner.solve.mincut`.
"""

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import LinearConstraint, OptimizeResult
from scipy.sparse import csr_array

from planner.rates import Rates, Use
from planner.solve.integer import least
from planner.solve.problem import Chosen, Problem
from planner.solve.way import Way

TIME_LIMIT_S = 30.0
"""Per programme; what was found by then is returned with its gap."""

_SLACK = 1e-6
_INFEASIBLE = 2
"""HiGHS's status, as scipy's ``milp`` reports it."""


Cost = tuple[dict[int, float], float]
"""Coefficients of the variables, and the constant beside them."""


class Measured(Use, Protocol):
    """What limits are held against: a plan's use, its bytes on the device, what crosses."""

    @property
    def device_bytes(self) -> int: ...

    @property
    def crossing(self) -> Sized: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a head must keep to.

    ``rates`` pairs a price list with the most that a head may cost by it; ``device_bytes`` bounds
    the head's weights and what is alive beside them; ``tensors`` how many may cross.
    """

    rates: tuple[tuple[Rates, float], ...] = ()
    device_bytes: float = math.inf
    tensors: float = math.inf

    def kept_by(self, chosen: Measured) -> bool:
        return (
            all(rates.of(chosen) <= most * (1 + _SLACK) for rates, most in self.rates)
            and chosen.device_bytes <= self.device_bytes
            and len(chosen.crossing) <= self.tensors
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The best head found and its value; nothing costs less than *bound*."""

    chosen: Chosen
    value: float
    bound: float


def solve(
    problem: Problem,
    objective: Sequence[Rates],
    limits: Limits,
    *,
    time_limit_s: float = TIME_LIMIT_S,
) -> Answer | None:
    """The head whose largest cost by any of *objective* is least, within *limits*.

    One objective is minimised; with several the largest is, which for device, link and cloud as
    stages of a pipeline is the slowest stage.

    Returns:
        None where no head keeps to the limits.

    Raises:
        TimeoutError: nothing was found within *time_limit_s*.
    """
    table = Table(problem)
    found = table.run([table.row(rates) for rates in objective], limits, time_limit_s)
    if found is None:
        return None
    chosen = table.read(found.values)
    value = max(rates.of(chosen) for rates in objective)
    return Answer(chosen=chosen, value=value, bound=min(found.bound, value))


@dataclass(frozen=True, slots=True)
class Solved:
    """The variables' values, and the largest cost's; nothing is below *bound*."""

    values: np.ndarray
    value: float
    bound: float


class Unsolved(TimeoutError):
    """Nothing was found in time; what was proved by then is that nothing is below ``bound``."""

    def __init__(self, time_limit_s: float, bound: float) -> None:
        super().__init__(f"no plan within the limits was found in {time_limit_s:g} s")
        self.bound = bound


class Table:
    """The variables and the constraints that every programme of one problem shares.

    Variable i is op i on the device, variable ``ops + j`` that tensor and way j of ``ways`` is
    used, ``trip`` that the link is.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        graph = problem.graph
        self.ops = len(graph.ops)
        self.ways: list[tuple[str, Way]] = [
            (name, way) for name in graph.consumers for way in _useful(problem.ways[name])
        ]
        self.trip = self.ops + len(self.ways)
        self._rows: list[dict[int, float]] = []
        self._low: list[float] = []
        self._high: list[float] = []
        self._structure()

    @property
    def count(self) -> int:
        """Variables: the last two are the fullest moment's bytes and the objective."""
        return self.trip + 3

    def run(
        self,
        costs: Sequence[Cost],
        limits: Limits,
        time_limit_s: float,
        *,
        most: float = math.inf,
    ) -> Solved | None:
        """Values whose largest cost is least, None where none keeps to *limits* or to *most*.

        Raises:
            Unsolved: nothing was found within *time_limit_s*.
        """
        # HiGHS's tolerances are absolute: the objective is brought to the order of one.
        scale = max(max(map(abs, (*row.values(), constant))) for row, constant in costs) or 1.0
        epigraph = self.count - 1
        target = np.zeros(self.count)
        rows, low, high = list(self._rows), list(self._low), list(self._high)
        for row, constant in costs:  # cost - T <= -constant
            rows.append({**{j: c / scale for j, c in row.items()}, epigraph: -1.0})
            low.append(-np.inf)
            high.append(-constant / scale)
        target[epigraph] = 1.0
        for row, held in self._limits(limits):
            rows.append(row)
            low.append(-np.inf)
            high.append(held)
        whole = np.ones(self.count)
        whole[-2:] = 0
        upper = np.ones(self.count)
        upper[-2:] = np.inf, most / scale
        lower = np.zeros(self.count)
        for i in range(self.ops):
            if math.isinf(self.problem.device_s[i]):
                upper[i] = 0
            if math.isinf(self.problem.cloud_s[i]):
                lower[i] = 1
        if np.any(lower > upper):
            return None
        found = least(
            target,
            LinearConstraint(_matrix(rows, self.count), low, high),
            integrality=whole,
            bounds=(lower, upper),
            time_limit_s=time_limit_s,
        )
        if found.x is None:
            if found.status == _INFEASIBLE:
                return None
            raise Unsolved(time_limit_s, _bound(found) * scale)
        bound = found.fun if found.mip_dual_bound is None else _bound(found)
        return Solved(found.x, float(found.fun) * scale, float(bound) * scale)

    def read(self, values: np.ndarray) -> Chosen:
        """The head and the codecs that the variables stand for."""
        head = frozenset(i for i in range(self.ops) if values[i] > 0.5)
        boundary = self.problem.boundary(head)
        taken: dict[str, Way] = {}
        for j, (name, way) in enumerate(self.ways, start=self.ops):
            if values[j] > 0.5 and name in boundary:
                taken.setdefault(name, way)
        return self.problem.use(head, {name: taken[name] for name in boundary})

    def _structure(self) -> None:
        graph = self.problem.graph
        of: dict[str, list[int]] = {name: [] for name in graph.consumers}
        for j, (name, _) in enumerate(self.ways, start=self.ops):
            of[name].append(j)
        for i, op in enumerate(graph.ops):
            for maker in {graph.producer[n] for n in op.inputs if n in graph.producer}:
                self._add({i: 1.0, maker: -1.0}, -np.inf, 0.0)
            self._add({self.trip: 1.0, i: 1.0}, 1.0, np.inf)
        # The link is used only if something runs beyond it.
        everything: dict[int, float] = dict.fromkeys(range(self.ops), 1.0)
        self._add({**everything, self.trip: 1.0}, -np.inf, float(self.ops))
        for name, readers in graph.consumers.items():
            ways = dict.fromkeys(of[name], 1.0)
            for reader in readers:
                made = {graph.producer[name]: -1.0} if name in graph.producer else {}
                least = 0.0 if made else 1.0
                self._add({**ways, reader: 1.0, **made}, least, np.inf)

    def _add(self, row: dict[int, float], low: float, high: float) -> None:
        self._rows.append(row)
        self._low.append(low)
        self._high.append(high)

    def row(
        self,
        rates: Rates,
        *,
        upto: float = math.inf,
        price: Callable[[str, Way], float] | None = None,
    ) -> Cost:
        """*rates* as coefficients of the variables, and the constant beside them.

        Args:
            rates: what each thing costs.
            upto: of the device's work only the ops up to this index count.
            price: of a tensor's way; by default what *rates* make of all of it.
        """
        problem = self.problem
        row: dict[int, float] = {}
        constant = rates.stay
        for i, (here, there) in enumerate(zip(problem.device_s, problem.cloud_s, strict=True)):
            cloud = 0.0 if math.isinf(there) else rates.cloud * there
            device = 0.0 if math.isinf(here) or i > upto else rates.device * here
            row[i] = device - cloud
            constant += cloud
        for j, (name, way) in enumerate(self.ways, start=self.ops):
            row[j] = way.price(rates) if price is None else price(name, way)
        for name, nbytes in problem.answer_bytes.items():
            if name in problem.graph.producer:
                row[problem.graph.producer[name]] -= rates.down * nbytes
                constant += rates.down * nbytes
        row[self.trip] = rates.trip - rates.stay
        return row, constant

    def _limits(self, limits: Limits) -> list[tuple[dict[int, float], float]]:
        out = []
        for rates, most in limits.rates:
            row, constant = self.row(rates)
            scale = max(most, 1e-12)
            out.append(({j: c / scale for j, c in row.items()}, (most - constant) / scale))
        if math.isfinite(limits.tensors):
            ways = range(self.ops, self.trip)
            out.append((dict.fromkeys(ways, 1.0), float(limits.tensors)))
        if math.isfinite(limits.device_bytes) and self.problem.weight_bytes:
            out += self._memory(limits.device_bytes)
        return out

    def _memory(self, most: float) -> list[tuple[dict[int, float], float]]:
        """The head's weights beside its fullest moment, which is a variable of its own."""
        scale, peak = max(most, 1.0), self.trip + 1
        live = self.problem.live_bytes or (0,) * self.ops
        rows = [({i: n / scale, peak: -1.0}, 0.0) for i, n in enumerate(live) if n]
        weights = {i: n / scale for i, n in enumerate(self.problem.weight_bytes) if n}
        return [*rows, ({**weights, peak: 1.0}, most / scale)]


def _bound(found: OptimizeResult) -> float:
    """What HiGHS proved that no answer is below; 0 where it proved nothing."""
    bound = found.mip_dual_bound
    return float(bound) if bound is not None and bound > 0 else 0.0


def _useful(ways: Sequence[Way]) -> tuple[Way, ...]:
    """Those that no other beats in bytes, in both times and in slices at once."""

    def beaten(way: Way, by: Way) -> bool:
        mine, others = _figures(way), _figures(by)
        return others != mine and all(o <= m for o, m in zip(others, mine, strict=True))

    kept = [way for way in ways if not any(beaten(way, other) for other in ways)]
    return tuple({_figures(way): way for way in reversed(kept)}.values())


def _figures(way: Way) -> tuple[float, ...]:
    return (way.nbytes, way.encode_s, way.decode_s, -way.slices)


def _matrix(rows: Sequence[dict[int, float]], columns: int) -> csr_array:
    lines = [at for at, row in enumerate(rows) for _ in row]
    places = [column for row in rows for column in row]
    values = [value for row in rows for value in row.values()]
    return csr_array((values, (lines, places)), shape=(len(rows), columns), dtype=float)
