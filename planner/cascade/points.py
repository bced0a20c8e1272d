"""What each threshold would have done on the samples. Pure."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.confidence import highest_drop

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Both models on the same samples; every array has one entry per sample.

    ``confidence`` is the small model's. ``small_right``, ``rest_right`` and ``large_right`` say
    whether the answer is the wanted one: the small model's, that of the plan that the rest follows
    (which may cross with a lossy codec), and the large model's without any loss. Wanted is the
    label, and where there are none (``labelled`` is false) the large model's own answer, so that
    ``large_right`` is true throughout.
    """

    confidence: npt.NDArray[np.float64]
    small_right: Bools
    rest_right: Bools
    large_right: Bools
    labelled: bool

    def __post_init__(self) -> None:
        sizes = {array.shape for array in self._arrays()}
        if len(sizes) != 1 or len(self.confidence.shape) != 1:
            raise ValueError(f"the arrays of a cascade have different shapes: {sorted(sizes)}")
        if np.isnan(self.confidence).any():
            raise ValueError("a confidence is no number")

    def __len__(self) -> int:
        return len(self.confidence)

    def at(self, rows: npt.NDArray[np.intp]) -> "Measured":
        """Some of the samples."""
        confidence, small, rest, large = (array[rows] for array in self._arrays())
        return Measured(
            confidence=confidence,
            small_right=small,
            rest_right=rest,
            large_right=large,
            labelled=self.labelled,
        )

    def _arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return self.confidence, self.small_right, self.rest_right, self.large_right


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What one threshold does: the share of samples it keeps, and what becomes of the answers.

    ``lost`` counts the samples that the large model has right and the cascade has not, ``gained``
    the reverse.
    """

    threshold: float
    samples: int
    kept: int
    right: int
    lost: int
    gained: int

    @property
    def share(self) -> float:
        return self.kept / self.samples

    @property
    def accuracy(self) -> float:
        return self.right / self.samples

    @property
    def drop(self) -> float:
        """How far the accuracy is below the large model's, not below 0."""
        return max(self.lost - self.gained, 0) / self.samples

    @property
    def drop_high(self) -> float:
        """The drop's upper bound at 95 % confidence, from these samples."""
        return max(highest_drop(self.lost, self.gained, self.samples), self.drop)


def points(measured: Measured) -> tuple[Point, ...]:
    """One point for each threshold that makes a difference, highest first.

    A threshold is the confidence of the least sure sample that it still keeps; samples of equal
    confidence are kept together. Where that is minus infinity, the sample is never kept.
    """
    thresholds = np.unique(measured.confidence)[::-1]
    return tuple(point(measured, float(each)) for each in thresholds if np.isfinite(each))


def point(measured: Measured, threshold: float) -> Point:
    """What *threshold* does on these samples."""
    kept = measured.confidence >= threshold
    right = np.where(kept, measured.small_right, measured.rest_right)
    return Point(
        threshold=threshold,
        samples=len(measured),
        kept=int(kept.sum()),
        right=int(right.sum()),
        lost=int((measured.large_right & ~right).sum()),
        gained=int((~measured.large_right & right).sum()),
    )
