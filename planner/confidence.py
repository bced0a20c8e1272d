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
