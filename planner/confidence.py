"""How little a few samples say: upper confidence bounds for what was measured on them.

Every bound is one-sided: with the given confidence the truth is no higher.
"""

import math
from collections.abc import Sequence

CONFIDENCE = 0.95


def highest_share(count: int, of: int, confidence: float = CONFIDENCE) -> float:
    """Upper bound of a share that was seen *count* times in *of*: exact, never too low.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case
    of the binomial", Biometrika 26 (1934): the quantile of Beta(count + 1, of - count).
    """
    from scipy.special import betaincinv  # 0.3 s to import, and the device never asks

    if not 0 <= count <= of or of < 1:
        raise ValueError(f"{count} of {of} is no share")
    return 1.0 if count == of else float(betaincinv(count + 1, of - count, confidence))


def lowest_share(count: int, of: int, confidence: float = CONFIDENCE) -> float:
    """Lower bound of a share, from the same source as :func:`highest_share`."""
    return 1.0 - highest_share(of - count, of, confidence)


def highest_drop(lost: int, gained: int, of: int, confidence: float = CONFIDENCE) -> float:
    """Upper bound of (lost - gained) / of, the loss of accuracy on the same samples; at least 0.

    The bounds of the two shares hold together with *confidence* when each is given half of the
    error (Bonferroni), so their difference does.
    """
    if gained == 0:
        return highest_share(lost, of, confidence)
    each = (1 + confidence) / 2
    return max(highest_share(lost, of, each) - lowest_share(gained, of, each), 0.0)


def highest_mean_share(mean: float, of: int, confidence: float = CONFIDENCE) -> float:
    """Upper bound of a mean of *of* shares between 0 and 1, whatever their distribution.

    Never too low; where each share is 0 or 1 it is a little above :func:`highest_share`, and the
    same where all are 0.

    Source: Hoeffding, "Probability inequalities for sums of bounded random variables", JASA 58
    (1963), theorem 1: ``of * kl(mean, bound) = ln(1 / (1 - confidence))``.
    """
    if not 0 <= mean <= 1 or of < 1:
        raise ValueError(f"{mean} is no mean of {of} shares")
    allowed = math.log(1 / (1 - confidence)) / of
    low, high = mean, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _divergence(mean, middle) > allowed:
            high = middle
        else:
            low = middle
    return high


def highest_mean(values: Sequence[float], confidence: float = CONFIDENCE) -> float:
    """Upper bound of the mean of values between 0 and 1; 1 where there is only one value.

    Approximate: it takes the mean of the samples for normally distributed.

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    from scipy.special import stdtrit

    count = len(values)
    if count < 2:
        return 1.0
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    reach = float(stdtrit(count - 1, confidence)) * math.sqrt(variance / count)
    return min(mean + reach, 1.0)


def _divergence(p: float, q: float) -> float:
    """Kullback and Leibler's, in nats, from a coin that shows heads with *p* to one with *q*."""
    head = p * math.log(p / q) if p > 0 else 0.0
    tail = (1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0
    return head + tail
