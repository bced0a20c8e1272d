"""How sure a model is of its answer."""

from typing import assert_never

import numpy as np

from planner.cascade.document import Score
from protos.tensors import Array


def confidence(score: Score, values: Array) -> float:
    """The confidence that a cascade's threshold is compared with; higher is surer.

    Args:
        score: ``softmax`` and ``margin`` take one score per class, logits or probabilities (which
            are taken as they are); ``score`` takes what ``top_k`` made.
        values: the tensor, with any axes of 1.

    Returns:
        The best probability, between 0 and 1; the best less the second; or the best score. NaN
        becomes minus infinity: a model whose scores are no numbers is sure of nothing.

    Sources: the best probability: Hendrycks and Gimpel 2017, "A baseline for detecting
    misclassified and out-of-distribution examples"; the margin as the sign for asking a larger
    network: Park et al. 2015, "Big/LITTLE deep neural network for ultra low power inference".
    """
    flat = values.astype(np.float64).ravel()
    if not flat.size or not np.isfinite(flat).all():
        return -np.inf
    match score:
        case "score":
            return float(flat[0])
        case "softmax":
            return float(_probabilities(flat).max())
        case "margin":
            best = np.sort(_probabilities(flat))[::-1]
            return float(best[0] - best[1]) if best.size > 1 else float(best[0])
    assert_never(score)


def _probabilities(scores: Array) -> Array:
    if scores.min() >= 0 and abs(scores.sum() - 1.0) < 1e-3:
        return scores
    shifted = np.exp(scores - scores.max())
    return np.asarray(shifted / shifted.sum())
