"""The head whose answer comes soonest when it sends while it works, as an integer programme.

Device and link are two machines in a row, so that the last byte is across at the largest, over all
chunks k, of the device's work up to chunk k and the link's from it on (Johnson 1954). Each of these
is linear in what runs where and what crosses how, so the least makespan is the least of a largest:
the programme of :mod:`planner.solve.program`, with two rows a tensor, for its first slice and its
last. Few of them matter. They are added when an answer breaks them (row generation; Dantzig,
Fulkerson and Johnson 1954), and the answer that breaks none is the best.

A tensor that may be sent in slices is a candidate both so, with what the messages cost, and whole.
What a stage's message costs is left out, so that the bound holds whichever tensors share one; the
value is that of the chunks that are really sent.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.rates import Rates
from planner.solve.problem import Chosen, Problem
from planner.solve.program import Cost, Limits, Table, Unsolved
from planner.solve.way import Way

TIME_LIMIT_S = 4.0
_EVEN = 1e-6
"""Relative: rows that are broken by less are kept."""


@dataclass(frozen=True, slots=True)
class Soonest:
    """The head found, None where none is below what was asked for; nothing is below *bound*."""

    chosen: Chosen | None
    bound: float


def soonest(
    problem: Problem,
    rates: Rates,
    limits: Limits,
    *,
    below: float,
    time_limit_s: float = TIME_LIMIT_S,
) -> Soonest:
    """The head of least makespan, if one is below *below*.

    Args:
        problem: with what a message costs.
        rates: latency at one bandwidth: 1 per second of device and cloud.
        limits: what the head must keep to.
        below: seconds that it must stay below; what is known to be reachable.
        time_limit_s: after which the bound is what was proved by then, 0 at the worst.
    """
    model = _Rows(problem, rates)
    costs = dict(model.first())
    until_s = time.perf_counter() + time_limit_s
    bound = 0.0
    while (left_s := until_s - time.perf_counter()) > 0:
        try:
            found = model.table.run(list(costs.values()), limits, left_s, most=below)
        except Unsolved as error:
            bound = max(bound, min(error.bound, below))
            break
        if found is None:
            return Soonest(None, below)
        bound = max(bound, min(found.bound, below))
        chosen = model.table.read(found.values)
        broken = {
            key: cost
            for key, cost in model.of(chosen)
            if key not in costs and _value(cost, found.values) > found.value * (1 + _EVEN)
        }
        if not broken:
            return Soonest(model.plain(chosen), bound)
        costs |= broken
    return Soonest(None, bound)


_Key = tuple[str, bool]
"""A tensor, and whether the link is never idle from its first slice on, or from its last."""


class _Rows:
    def __init__(self, problem: Problem, rates: Rates) -> None:
        self._message_s = problem.message_s or 0.0
        ways = {name: self._either(each) for name, each in problem.ways.items()}
        self.table = Table(replace(problem, ways=ways, message_s=None))
        self._problem = problem
        self._rates = rates
        producer = problem.graph.producer
        names = sorted(problem.graph.consumers, key=lambda name: producer.get(name, -1))
        self._place = {name: place for place, name in enumerate(names)}

    def plain(self, chosen: Chosen) -> Chosen:
        """*chosen* in the problem's own ways, which are sent in slices wherever that is sooner."""
        ways = {
            name: next(way for way in self._problem.ways[name] if way.codec == each.codec)
            for name, each in chosen.crossing.items()
        }
        return self._problem.use(chosen.head, ways)

    def _either(self, ways: Sequence[Way]) -> tuple[Way, ...]:
        """Each way whole, and in slices where it has them."""
        parted = [
            replace(way, encode_s=way.encode_s + (way.slices - 1) * self._message_s)
            for way in ways
            if way.slices > 1
        ]
        return (*(replace(way, slices=1) for way in ways), *parted)

    def first(self) -> Iterator[tuple[_Key, Cost]]:
        """The link busy from the very first tensor on, and the device to its last op."""
        names = list(self._place)
        yield ("", False), self._row("", first=False)
        if names:
            yield (names[0], True), self._row(names[0], first=True)

    def of(self, chosen: Chosen) -> Iterator[tuple[_Key, Cost]]:
        """The rows that hold for what *chosen* sends."""
        for name in chosen.crossing:
            for first in (True, False):
                yield (name, first), self._row(name, first=first)

    def _row(self, name: str, *, first: bool) -> Cost:
        """The device's work up to a slice of *name* (all, where it is empty), the link's from it.

        A request that stays on the device is no slower than any row says: none counts more than all
        of its work.
        """
        rates = self._rates
        here = self._place[name] if name else len(self._place)

        def price(other: str, way: Way) -> float:
            place = self._place[other]
            encode_s, link_s = rates.device * way.encode_s, rates.up * way.nbytes
            decode_s = rates.cloud * way.decode_s
            if place < here:
                return decode_s + encode_s
            if place > here:
                return decode_s + link_s
            if first:
                return decode_s + self._first_slice_s(way) + link_s
            return decode_s + encode_s + rates.up * (way.nbytes // way.slices)

        maker = self._problem.graph.producer.get(name, -1) if name else math.inf
        return self.table.row(rates, upto=maker, price=price)

    def _first_slice_s(self, way: Way) -> float:
        """Until it is encoded: the messages come after."""
        plain_s = way.encode_s - (way.slices - 1) * self._message_s
        return self._rates.device * max(plain_s, 0.0) / way.slices


def _value(cost: Cost, values: np.ndarray) -> float:
    row, constant = cost
    return constant + math.fsum(values[j] * c for j, c in row.items())
