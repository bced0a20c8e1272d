"""The choice and the table for requests that are sent while the device still works.

The minimum cut adds up what a plan takes. Where sending ahead hides some of that, a plan that takes
more in all can answer sooner; an integer programme (:mod:`planner.solve.makespan`) looks for one,
or proves that there is none, at the link's bandwidth and wherever the table changes over.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.limits import Choice, Limit, combined
from planner.objectives import Objective
from planner.solve.makespan import TIME_LIMIT_S, soonest
from planner.solve.problem import Chosen, Problem
from planner.tables import LineTable, Row, drawn

EVEN = 1e-6
"""Plans whose values differ by less than this share are as good as each other."""

MOST_PROBES = 8
"""So many places of the table are looked at, each by one programme."""

PROBE_S = 0.5
"""The longest that such a programme may take; the one at the link may take longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sooner:
    """The choice at the link, and the rows of the table, with what sending ahead saves."""

    choice: Choice
    rows: tuple[Row, ...]


def latency_s(goal: Objective, chosen: Chosen, up_bps: float) -> float:
    """Seconds until the answer: what all takes together, but for what sending ahead hides."""
    return goal.of(chosen, up_bps) - chosen.hidden_s(up_bps)


def sooner(
    problem: Problem,
    goal: Objective,
    limits: Sequence[Limit],
    choice: Choice,
    table: LineTable,
    up_bps: float,
) -> Sooner:
    """The best plans with what sending ahead saves, from those that are best without it.

    Args:
        problem: the model between device and cloud.
        goal: latency.
        limits: what a plan must keep to, without counting on sending ahead.
        choice: the best at *up_bps* where all is sent at the end.
        table: the best at every bandwidth, likewise.
        up_bps: the link's bandwidth, bytes per second.
    """
    if problem.message_s is None:
        return Sooner(choice=choice, rows=table.rows)
    search = _Search(problem, goal, limits, [choice.chosen, *(row[2] for row in table.rows)])
    bound = search.probe(up_bps)
    best = search.best(up_bps)
    rows = search.rows(table, up_bps)
    probed = set[float]()
    for _ in range(MOST_PROBES):
        ends = [low for low, _, _ in rows[1:] if low not in probed]
        if not ends:
            break
        probed.add(ends[0])
        count = len(search.known)
        search.probe(ends[0], PROBE_S)
        if len(search.known) > count:
            rows = search.rows(table, up_bps)
    if best == choice.chosen and not best.hidden_s(up_bps):
        return Sooner(choice=choice, rows=rows)
    value = latency_s(goal, best, up_bps)
    found = Choice(
        chosen=best, value=value, bound=min(bound, value), resolution=0.0, exact_cut=False
    )
    return Sooner(choice=found, rows=rows)


class _Search:
    """The plans that are known, and those that programmes find beside them."""

    def __init__(
        self,
        problem: Problem,
        goal: Objective,
        limits: Sequence[Limit],
        known: Sequence[Chosen],
    ) -> None:
        self.known: list[Chosen] = []
        for each in known:
            if each not in self.known:
                self.known.append(each)
        self._lines = len(self.known)
        self._problem = problem
        self._goal = goal
        self._limits = combined(limits)

    def best(self, up_bps: float) -> Chosen:
        return min(self.known, key=lambda each: self._value(each, up_bps))

    def probe(self, up_bps: float, time_limit_s: float = TIME_LIMIT_S) -> float:
        """Look for a plan that is better at *up_bps*; nothing is below what is returned."""
        least = self._value(self.best(up_bps), up_bps)
        found = soonest(
            self._problem,
            self._goal.at(up_bps),
            self._limits,
            below=least * (1 - EVEN),
            time_limit_s=time_limit_s,
        )
        if found.chosen is not None and self._value(found.chosen, up_bps) < least * (1 - EVEN):
            self.known.append(found.chosen)
        return found.bound

    def rows(self, table: LineTable, up_bps: float) -> tuple[Row, ...]:
        """The table over the known plans: *table* itself where nothing is sent ahead."""
        if len(self.known) == self._lines and not any(each.chunks for each in self.known):
            return table.rows
        return drawn(self.known, self._value, up_bps)

    def _value(self, chosen: Chosen, up_bps: float) -> float:
        return latency_s(self._goal, chosen, up_bps)
