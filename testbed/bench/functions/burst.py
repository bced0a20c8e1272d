"""Many cold starts at once: the time until the last has answered."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np

from testbed.bench.functions import usage
from testbed.bench.functions.gateway import Called, Gateway, check, request
from testbed.bench.functions.generated import Generated
from testbed.errors import TestbedError

ISTHMUS = "Isthmus"


class Bursting(Protocol):
    """A way that can start many at once."""

    name: str

    def burst(self, model: Generated, count: int) -> float:
        """Seconds until the last of *count* has answered."""


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` at once: seconds until the last answer, and how many had none, with one reason."""

    way: str
    count: int
    last_s: float
    failed: int = 0
    reason: str = ""


def names(model: Generated, count: int) -> list[str]:
    """The names under which *model* is published for a burst: each is a function of its own."""
    return [f"{model.name}-burst-{number}" for number in range(count)]


def run(
    model: Generated,
    wanted: np.ndarray,
    gateway: Gateway,
    others: Sequence[Bursting],
    *,
    count: int,
    say: Callable[[str], None],
) -> tuple[Burst, ...]:
    """From 0 to *count* instances of *model*, which is published under :func:`names`."""
    say(f"starting {count} at once")
    gateway.await_idle()
    bodies = [(name, request(model, name)) for name in names(model, count)]
    usage.settle()
    began = time.perf_counter()
    answers = gateway.ask_at_once(bodies)
    seconds = time.perf_counter() - began
    failed = [each for each in answers if isinstance(each, TestbedError)]
    for each in answers:
        if isinstance(each, Called):
            check(model.name, each.answer, wanted)
    rows = [
        Burst(
            way=ISTHMUS,
            count=count,
            last_s=round(seconds, 3),
            failed=len(failed),
            reason=str(failed[0]) if failed else "",
        )
    ]
    for way in others:
        usage.settle()
        rows.append(Burst(way=way.name, count=count, last_s=round(way.burst(model, count), 3)))
    return tuple(rows)
