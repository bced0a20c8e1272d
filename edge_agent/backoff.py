"""How long to wait before the next try: full jitter, so that a fleet does not come back as one."""

from collections.abc import Callable

FIRST_S, MOST_S = 0.5, 30.0


def full_jitter(attempt: int, random: Callable[[], float]) -> float:
    """Seconds before retry number *attempt* (from 0): anything up to twice the last limit.

    *random* gives numbers from 0 to 1. Source: Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015.
    """
    return random() * min(MOST_S, FIRST_S * 2.0 ** min(attempt, 16))
