"""Which lossy crossings cost too much accuracy, asked only of those that a plan would use."""

from collections.abc import Callable, Collection, Iterable, Sequence

from planner.errors import PlannerError
from planner.plans import Crossing
from protos import codecs

Pairs = tuple[tuple[str, str], ...]
"""(tensor, codec) of each lossy crossing of a plan."""

Judge = Callable[[Pairs], float | None]
"""The accuracy that these crossings cost together, 0.0 where no answer changes; None where it
cannot be told."""


class Verdicts:
    """Asks the judge once for each crossing, and remembers.

    Args:
        judge: None accepts nothing that was not accepted by name.
        budget: the most accuracy that a crossing may cost, 0 to 1.
        accepted: codecs that were named by the user and need no judge.

    Raises:
        PlannerError: the budget is no share.
    """

    def __init__(self, judge: Judge | None, budget: float, *, accepted: Collection[str]) -> None:
        if not 0 <= budget <= 1:
            raise PlannerError(
                f"the accuracy drop is {budget}: it must lie between 0 and 1, as 0.005"
            )
        self._judge = judge
        self._budget = budget
        self._accepted = frozenset(accepted)
        self._drops: dict[Pairs, float | None] = {}
        self._banned: set[tuple[str, str]] = set()

    def drop(self, crossing: Sequence[Crossing]) -> float | None:
        """What a crossing costs; None where nothing lossy crosses or nothing was measured."""
        return self._drops.get(self._pairs(crossing))

    def bans(self, crossings: Iterable[Sequence[Crossing]]) -> frozenset[tuple[str, str]]:
        """Judge *crossings*; returns all (tensor, codec) pairs that were found too costly so far.

        Where several lossy tensors are fine one by one and too much together, the costliest of them
        is banned: the plan is then the best among what is left, not among all combinations.
        """
        if self._judge is not None:
            for crossing in crossings:
                pairs = self._pairs(crossing)
                if pairs and not self._fine(pairs):
                    self._ban(pairs)
        return frozenset(self._banned)

    def _ban(self, pairs: Pairs) -> None:
        costly = [pair for pair in pairs if not self._fine((pair,))]
        if not costly:
            costly = [max(pairs, key=lambda pair: self._drops[pair,] or 0.0)]
        for tensor, codec in costly:
            plain = codec.removesuffix("+zstd")
            self._banned |= {(tensor, plain), (tensor, f"{plain}+zstd")}

    def _fine(self, pairs: Pairs) -> bool:
        if pairs not in self._drops:
            assert self._judge is not None
            self._drops[pairs] = self._judge(pairs)
        drop = self._drops[pairs]
        return drop is not None and drop <= self._budget

    def _pairs(self, crossing: Sequence[Crossing]) -> Pairs:
        return tuple(
            (each.tensor, each.codec)
            for each in crossing
            if codecs.parse(each.codec).lossy and each.codec not in self._accepted
        )
