"""Asking a pure function again when its instance was lost, and naming what was asked."""

import logging
from collections.abc import Callable

from cloud_fn.errors import DeadlinePassed, FunctionFailed, InstanceLost, InvalidRequest
from cloud_fn.functions import Answer

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often something is asked at most while its instances are lost."""


def until_answered(
    ask: Callable[[], Answer],
    *,
    where: str,
    attempts: int,
    deadline_s: float | None,
    clock: Callable[[], float],
) -> Answer:
    """Ask until there is an answer; after a loss at once, for another instance is there or starts.

    Args:
        ask: asks once.
        where: what is asked, as errors call it.
        attempts: how often at most, 1 or more.
        deadline_s: nothing is asked after it, on *clock*.
        clock: what the deadline is on.

    Raises:
        InvalidRequest | FunctionFailed | DeadlinePassed: what *ask* says.
        InstanceLost: as often as it may be asked.
    """
    for attempt in range(1, attempts + 1):
        if deadline_s is not None and clock() >= deadline_s:
            raise DeadlinePassed(f"{where} was not begun before the request's deadline")
        try:
            return ask()
        except InstanceLost as error:
            if attempt == attempts:
                raise InstanceLost(f"{where}, asked {attempt} times: {error}") from error
            log.warning("asked again: what=%r attempt=%d", where, attempt)
        except (InvalidRequest, FunctionFailed, DeadlinePassed) as error:
            raise type(error)(f"{where}: {error}") from error
    raise ValueError(f"attempts must be at least 1, got {attempts}")
