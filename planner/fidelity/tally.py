"""Counting what a crossing changed, sample by sample."""

import math
from dataclasses import dataclass, field

from planner.confidence import highest_drop, highest_mean, highest_mean_share, highest_share
from planner.fidelity.document import Effect
from planner.fidelity.views import Values, View


@dataclass(slots=True, kw_only=True)
class Tally:
    """The samples seen so far of one crossing."""

    view: View
    labelled: bool
    samples: int = 0
    right: int = 0
    lost: int = 0
    gained: int = 0
    agreements: list[float] = field(default_factory=list)
    cosines: list[float] = field(default_factory=list)

    def add(self, wanted: Values, got: Values, label: str | None) -> None:
        """Compare the answers *got* with the lossless ones *wanted*, and both with *label*."""
        self.samples += 1
        near = self.view.cosine(wanted, got)
        if near is not None:
            self.cosines.append(near)
        if not self.view.decisions:
            self.agreements.append(float(near == 1.0))
            return
        self.agreements.append(self.view.agreement(wanted, got))
        if self.labelled:
            final = self.view.decisions[self.view.final]
            was, is_ = final.of(wanted) == label, final.of(got) == label
            self.right += is_
            self.lost += was and not is_
            self.gained += is_ and not was

    def effect(self, crossing: tuple[tuple[str, str], ...]) -> Effect:
        """What has been counted, as the effect of *crossing*."""
        drop, high = self._drop()
        mean = math.fsum(self.cosines) / len(self.cosines) if self.cosines else None
        was_right = self.right - self.gained + self.lost
        return Effect(
            crossing=crossing,
            samples=self.samples,
            metric=self.view.metric,
            agreement=math.fsum(self.agreements) / self.samples,
            cosine=None if mean is None else min(max(mean, -1.0), 1.0),
            cosine_worst=min(self.cosines, default=None),
            accuracy=self.right / self.samples if self.labelled else None,
            reference_accuracy=was_right / self.samples if self.labelled else None,
            drop=drop,
            drop_high=max(drop, high),
        )

    def _drop(self) -> tuple[float, float]:
        count = self.samples
        if self.labelled:
            drop = max(self.lost - self.gained, 0) / count
            return drop, highest_drop(self.lost, self.gained, count)
        decisions = self.view.decisions
        if decisions and all(decision.single for decision in decisions):
            changed = count - sum(each == 1.0 for each in self.agreements)
            return changed / count, highest_share(changed, count)
        if decisions:
            drop = 1.0 - math.fsum(self.agreements) / count
            return drop, highest_mean_share(drop, count)
        apart = [min(1.0 - each, 1.0) for each in self.cosines]
        return math.fsum(apart) / count, highest_mean(apart)
