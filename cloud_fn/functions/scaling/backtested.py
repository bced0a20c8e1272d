"""The back-tested policy: per function, the window that would have cost least on its own log.

Every fixed keep-alive and every window of a histogram is among the candidates. A short log says
little: to its own idle times are added a few that are spread as those of all other functions, which
matter less the more it has of its own (a Dirichlet prior).
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
import numpy as np

from cloud_fn.functions.scaling.expected import CELLS, Floats, best_window, counted
from cloud_fn.functions.scaling.history import History
from cloud_fn.functions.scaling.window import Window

DEFAULT_PRICE = 1e-12
"""Cold starts per byte and second: one is worth 1 GB for 17 minutes. A choice, not a measurement:
it holds until a budget is given and a log is there."""

_DEFAULT_HAZARD = 0.02
"""Per minute, before anything is known of any function."""


def _unknown() -> tuple[float, ...]:
    chances = [_DEFAULT_HAZARD * (1 - _DEFAULT_HAZARD) ** minute for minute in range(CELLS - 1)]
    return (*chances, 1 - sum(chances))


_Chances = Annotated[
    tuple[Annotated[float, msgspec.Meta(ge=0, le=1)], ...],
    msgspec.Meta(min_length=CELLS, max_length=CELLS),
]


class Learned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the logs of all functions say; chosen anew now and then by ``choose``.

    ``price`` is that of a byte for a second, in cold starts: one for all functions, so that the
    memory goes where it saves most. ``first`` and ``later`` are the chances of the bins for a
    function's first idle time and for those after it; ``weight`` is how many idle times of its own
    they are worth.
    """

    schema: Literal["isthmus.learned/1"] = "isthmus.learned/1"
    price: Annotated[float, msgspec.Meta(ge=0)] = DEFAULT_PRICE
    weight: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    first: _Chances = msgspec.field(default_factory=_unknown)
    later: _Chances = msgspec.field(default_factory=_unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackTestedPolicy:
    """The cheapest window by the function's own history, for an instance of ``size_bytes``."""

    learned: Learned = field(default_factory=Learned)
    size_bytes: int = 1 << 27
    name: str = "back-tested"

    def window(self, history: History, /) -> Window:
        counts = counted(history)
        prior = self.learned.later if history.seen else self.learned.first
        chances = expected_chances(counts[None, :], np.asarray(prior), self.learned.weight)[0]
        return best_window(chances, self.learned.price * self.size_bytes)


def expected_chances(counts: Floats, prior: Floats, weight: float) -> Floats:
    """The chances of the bins of the next idle time.

    Args:
        counts: of the idle times so far, shape ``(rows, 241)``.
        prior: chances, shape ``(241,)`` or ``(rows, 241)``.
        weight: how many idle times the prior is worth.
    """
    chances: Floats = (counts + weight * prior) / (counts.sum(axis=1, keepdims=True) + weight)
    return chances
