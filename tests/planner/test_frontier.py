"""The plan table is the exact lower envelope."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.solve.frontier import frontier


@dataclass(frozen=True)
class ALine:
    fixed_s: float
    slope: float

    def at(self, x: float) -> float:
        return self.fixed_s + self.slope * x


lines = st.lists(
    st.builds(ALine, st.integers(0, 1000).map(float), st.integers(0, 1000).map(float)),
    min_size=1,
    max_size=12,
)


@given(lines)
def test_the_table_is_nowhere_above_any_plan(pool: list[ALine]) -> None:
    table = frontier(lambda x: min(pool, key=lambda line: line.at(x)), (0.0, 10.0)).stretches
    assert table[0].low == 0.0
    assert table[-1].high == 10.0
    for before, after in itertools.pairwise(table):
        assert before.high == after.low
    for stretch in table:
        for x in (stretch.low, (stretch.low + stretch.high) / 2, stretch.high):
            best = min(line.at(x) for line in pool)
            assert stretch.line.at(x) == pytest.approx(best, rel=1e-6, abs=1e-6)


def test_three_plans_meet_at_their_own_breakpoints() -> None:
    steep, middle, flat = ALine(0.0, 4.0), ALine(2.0, 2.0), ALine(8.0, 0.0)
    pool = [steep, middle, flat]
    calls = []

    def best(x: float) -> ALine:
        calls.append(x)
        return min(pool, key=lambda line: line.at(x))

    table = frontier(best, (0.0, 10.0)).stretches
    assert [(s.low, s.high, s.line) for s in table] == [
        (0.0, 1.0, steep),
        (1.0, 3.0, middle),
        (3.0, 10.0, flat),
    ]
    assert len(calls) <= 2 + 2 * len(pool)


@given(pool=lines, most=st.integers(3, 8), through=st.floats(0.5, 9.5))
def test_with_few_calls_the_envelope_says_how_far_off_it_may_be(
    pool: list[ALine], most: int, through: float
) -> None:
    calls = []

    def best(x: float) -> ALine:
        calls.append(x)
        return min(pool, key=lambda line: line.at(x))

    found = frontier(best, (0.0, 10.0), through=through, most=most)
    assert len(calls) <= most
    for stretch in found.stretches:
        for x in (stretch.low, (stretch.low + stretch.high) / 2, stretch.high):
            least = min(line.at(x) for line in pool)
            assert stretch.line.at(x) * (1 - found.gap) <= least + 1e-6
    own = next(each for each in found.stretches if each.low <= through <= each.high)
    assert own.line.at(through) == pytest.approx(best(through).at(through))


def test_the_calls_go_where_they_matter_most() -> None:
    """A hundred lines that touch a parabola: a few calls are within a hundredth."""
    pool = [ALine(100 + p * p / 100, 20 - p / 5) for p in range(101)]
    gaps = {
        most: frontier(lambda x: min(pool, key=lambda line: line.at(x)), (0.0, 10.0), most=most).gap
        for most in (4, 8, 16, 400)
    }
    assert gaps[4] > gaps[8] > gaps[16] > gaps[400] == 0.0
    assert gaps[16] < 0.01
