"""How long a function stays loaded after its last request, and who decides it."""

import math
from dataclasses import dataclass
from typing import Protocol

from cloud_fn.functions.scaling.history import History

LEAST_UNLOADED_S = 60.0
"""Idle times are known to the minute: to unload for less than one cannot be planned."""


@dataclass(frozen=True, slots=True)
class Window:
    """When a function is loaded, counted from the end of its last request.

    Where ``prewarm_s`` is 0 it stays loaded for ``keep_s``. Else it is unloaded at once, loaded
    again ``prewarm_s`` after that end, and then stays for ``keep_s``, which may be infinite.
    """

    prewarm_s: float
    keep_s: float

    def __post_init__(self) -> None:
        if not (0 <= self.prewarm_s < math.inf and self.keep_s >= 0):
            raise ValueError(
                f"prewarm_s={self.prewarm_s} and keep_s={self.keep_s} must be 0 or more, and a "
                "function is loaded again after some finite time"
            )

    @classmethod
    def between(cls, begin_s: float, end_s: float) -> "Window":
        """Loaded from *begin_s* to *end_s*; from the start where *begin_s* is below a minute."""
        if begin_s < LEAST_UNLOADED_S:
            return cls(0.0, end_s)
        return cls(begin_s, max(0.0, end_s - begin_s))

    @property
    def end_s(self) -> float:
        """When it is unloaded for good."""
        return self.prewarm_s + self.keep_s

    def is_cold(self, idle_s: float) -> bool:
        """Whether a request that comes after *idle_s* finds nothing loaded."""
        return not self.prewarm_s <= idle_s <= self.end_s

    def loaded_s(self, idle_s: float) -> float:
        """How long it was loaded while idle, if the next request comes after *idle_s*."""
        return max(0.0, min(idle_s, self.end_s) - self.prewarm_s)


class Policy(Protocol):
    """Says how long a function stays. Pure: equal histories, equal windows."""

    @property
    def name(self) -> str:
        """As it stands in a function's settings."""
        ...

    def window(self, history: History, /) -> Window: ...
