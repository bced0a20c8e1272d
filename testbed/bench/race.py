"""Measuring many alternatives fairly: rounds, from which the hopeless are left out.

In each round every alternative that is left is measured once, one after the other, so that a noisy
moment hits none alone. Who is far behind the best after a round is not measured again: the time
goes to those between which it is close.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean, median

MARGIN = 1.25

Times = Mapping[str, Sequence[Sequence[float]]]
"""By alternative, for each round the seconds at each place."""


def race(
    names: Sequence[str],
    measure: Callable[[str], Sequence[float]],
    *,
    kept: Collection[str] = (),
    rounds: int,
) -> Times:
    """Measure *names* in *rounds*.

    Args:
        names: the alternatives.
        measure: measures one of them once: seconds at each place, the same places in every round.
        kept: never left out.
        rounds: how often each that stays is measured.
    """
    times: dict[str, list[Sequence[float]]] = {name: [] for name in names}
    left = list(names)
    for _ in range(rounds):
        for name in left:
            times[name].append(measure(name))
        best = min(typical(times[name]) for name in left)
        left = [n for n in left if n in kept or typical(times[n]) <= MARGIN * best]
        left = [*left[1:], left[0]]  # none is always the first, or always after the same
    return times


def typical(rounds: Sequence[Sequence[float]]) -> float:
    """The median over the rounds at each place, and the mean over the places."""
    return fmean(at_places(rounds))


def at_places(rounds: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The median over the rounds at each place."""
    return tuple(median(column) for column in zip(*rounds, strict=True))
