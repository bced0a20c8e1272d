"""The threshold of a cascade, and an honest account of it. Pure."""

import math
from dataclasses import dataclass

import numpy as np

from planner.cascade.document import Cascade, Score
from planner.cascade.points import Measured, Point, point, points
from planner.errors import PlannerError

LEAST_SAMPLES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """The model that answers first, or the large one itself where an early output of it does.

    ``answer`` is the tensor that the confidence is taken from, ``score`` says how, and ``seconds``
    is what it takes.
    """

    name: str
    digest: str
    answer: str
    score: Score
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """The plan for what the small model is not sure of, and what it costs from there on.

    ``seconds`` and ``upload_bytes`` are per request that follows it, without the small model's own
    time: the plan's whole latency, or where an early output answers, what is left of it then.
    ``alone_s`` is the plan's latency without any cascade, by default ``seconds``.
    """

    plan: str
    seconds: float
    upload_bytes: float
    alone_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCascade:
    """There is none worth having; ``reason`` says why, in words for people."""

    reason: str


def choose(
    measured: Measured,
    small: Small,
    rest: Rest,
    *,
    accuracy_drop: float,
    seed: int = 0,
) -> Cascade | NoCascade:
    """The threshold of least expected latency within the accuracy budget.

    The samples are parted at random. The threshold is chosen on one half and everything that is
    said of it measured on the other, which it has not seen: chosen and judged on the same samples
    it would look better than it is.

    Args:
        measured: what :func:`planner.cascade.measuring.measure_cascade` found.
        small: the small model, with its seconds on the device.
        rest: the plan for the rest.
        accuracy_drop: the most accuracy that may be lost against the large model, 0 to 1.
        seed: parts the samples.

    Returns:
        The cascade; or why there is none: too few samples, no threshold within the budget on the
        first half, over the budget on the second, or no time to be gained.

    Raises:
        PlannerError: *accuracy_drop* is no share, or a cost is negative or not finite.
    """
    if not 0 <= accuracy_drop <= 1:
        raise PlannerError(f"an accuracy drop of {accuracy_drop} is none: give 0 to 1")
    alone_s = rest.seconds if rest.alone_s is None else rest.alone_s
    costs = (small.seconds, rest.seconds, rest.upload_bytes, alone_s)
    if not all(0 <= cost < float("inf") for cost in costs):
        raise PlannerError(f"a cascade's costs must be finite and not below 0, got {costs}")
    if len(measured) < LEAST_SAMPLES:
        return NoCascade(
            reason=f"{len(measured)} samples are too few to choose a threshold on one half and "
            f"judge it on the other: give at least {LEAST_SAMPLES}"
        )
    order = np.random.default_rng(seed).permutation(len(measured))
    half = len(order) // 2
    found = _quickest(points(measured.at(order[:half])), accuracy_drop)
    if found is None:
        return NoCascade(
            reason=f"{small.name} may never answer: even where it is surest, more than "
            f"{accuracy_drop:.2%} of accuracy is lost"
        )
    told = point(measured.at(order[half:]), found.threshold)
    latency_s = small.seconds + (1 - told.share) * rest.seconds
    if told.drop > accuracy_drop:
        return NoCascade(
            reason=f"{small.name} may not answer: on samples that its threshold was not chosen on, "
            f"{told.drop:.2%} of accuracy is lost, more than {accuracy_drop:.2%}"
        )
    if latency_s >= alone_s:
        return NoCascade(
            reason=f"{small.name} is not worth asking: it is sure of {told.share:.0%}, and "
            f"{latency_s * 1e3:.1f} ms on average are no less than {alone_s * 1e3:.1f} ms"
        )
    return Cascade(
        small=small.name,
        digest=small.digest,
        answer=small.answer,
        score=small.score,
        threshold=told.threshold,
        share_on_device=told.share,
        expected_latency_s=latency_s,
        expected_upload_bytes=(1 - told.share) * rest.upload_bytes,
        metric="accuracy" if measured.labelled else "agreement",
        accuracy=told.accuracy,
        drop=told.drop,
        drop_high=told.drop_high,
        samples=told.samples,
        small_s=small.seconds,
        plan=rest.plan,
    )


def _quickest(every: tuple[Point, ...], accuracy_drop: float) -> Point | None:
    """The lowest threshold down to which one answer fewer is lost than the budget allows.

    The latency is ``small + (1 - share) * rest``, so it falls with the share, whatever the costs.
    That one answer pays for the choice: without it, the lowest threshold that fits these samples
    would be over the budget on others about every second time. Where the budget is below one
    answer, none may be lost.

    Source: Angelopoulos et al. 2024, "Conformal risk control" (arXiv:2208.02814), theorem 1: with
    ``(lost + 1) / (samples + 1)`` within the budget, so is the expected loss on a new sample.
    """
    found = None
    for each in every:
        allowed = max(math.floor(accuracy_drop * (each.samples + 1)) - 1, 0)
        if each.lost - each.gained > allowed:
            break
        found = each
    return found
