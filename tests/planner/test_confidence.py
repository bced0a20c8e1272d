"""Bounds from few samples, against what they are defined by."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.confidence import (
    highest_drop,
    highest_mean,
    highest_mean_share,
    highest_share,
    lowest_share,
)


def seen_at_most(count: int, of: int, share: float) -> float:
    """The chance of seeing *count* or fewer in *of*, where *share* is the truth."""
    return math.fsum(
        math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(count + 1)
    )


@settings(deadline=None)  # the first call imports SciPy
@given(of=st.integers(1, 60), data=st.data())
def test_a_share_above_the_bound_would_hardly_have_shown_so_little(
    of: int, data: st.DataObject
) -> None:
    """Clopper and Pearson: at the bound, so few are seen in exactly 5 % of all cases."""
    count = data.draw(st.integers(0, of - 1))
    assert seen_at_most(count, of, highest_share(count, of)) == pytest.approx(0.05)


def test_no_change_in_a_few_samples_proves_little() -> None:
    """The rule of three: about 3 / n."""
    assert highest_share(0, 20) == pytest.approx(1 - 0.05 ** (1 / 20))
    assert highest_share(0, 20) > 0.13
    assert highest_share(20, 20) == 1.0
    assert lowest_share(0, 20) == 0.0


def test_a_drop_counts_what_was_gained_only_where_something_was() -> None:
    assert highest_drop(3, 0, 50) == highest_share(3, 50)
    both = highest_share(3, 50, 0.975) - lowest_share(10, 50, 0.975)
    assert highest_drop(3, 10, 50) == pytest.approx(max(both, 0.0))
    assert highest_drop(10, 3, 50) == pytest.approx(
        highest_share(10, 50, 0.975) - lowest_share(3, 50, 0.975)
    )


@settings(deadline=None)
@given(of=st.integers(1, 60), data=st.data())
def test_the_bound_for_any_shares_holds_for_those_of_0_and_1_too(
    of: int, data: st.DataObject
) -> None:
    """It knows less than the exact one, and is never below it; with nothing seen they are one."""
    count = data.draw(st.integers(0, of))
    assert highest_mean_share(count / of, of) >= highest_share(count, of) - 1e-9
    assert highest_mean_share(0.0, of) == pytest.approx(highest_share(0, of), abs=1e-9)


def test_a_mean_of_one_value_could_be_anything_and_of_equal_ones_is_that_value() -> None:
    assert highest_mean([0.2]) == 1.0
    assert highest_mean([0.2] * 10) == pytest.approx(0.2)
    # t of 4 degrees of freedom at 95 % is 2.132 (Student's own table)
    assert highest_mean([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(
        0.3 + 2.132 * math.sqrt(0.025 / 5), abs=1e-4
    )


@pytest.mark.parametrize(("count", "of"), [(-1, 3), (4, 3), (0, 0)])
def test_what_is_no_share_is_refused(count: int, of: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        highest_share(count, of)
