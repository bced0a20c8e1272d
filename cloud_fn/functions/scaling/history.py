"""What is known of one function's past: how long it was idle between its requests."""

from itertools import pairwise
from typing import Annotated, Literal

import msgspec

BIN_S = 60.0
BINS = 240
"""One for each minute of four hours, as in Shahrad et al. (ATC'20)."""

RECENT = 48
"""So many of the last idle times are kept one by one, for forecasts."""

MOST_COUNTED = 10_000
"""Beyond so many idle times all counts are halved: old habits fade, and counts stay small."""

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Bin = tuple[Annotated[int, msgspec.Meta(ge=0, lt=BINS)], Annotated[int, msgspec.Meta(ge=1)]]


class History(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Idle times of one function; a new one comes from :func:`seen`.

    ``counts`` holds (minute, how often) in order and without zeros: an idle time of that many whole
    minutes. ``beyond`` counts those of four hours or more, ``seen`` all there ever were, and
    ``recent_s`` are the last of them, the newest at the end.
    """

    schema: Literal["isthmus.history/1"] = "isthmus.history/1"
    counts: tuple[_Bin, ...] = ()
    beyond: _Count = 0
    seen: _Count = 0
    recent_s: tuple[Annotated[float, msgspec.Meta(ge=0)], ...] = ()

    def __post_init__(self) -> None:
        minutes = [minute for minute, _ in self.counts]
        if any(a >= b for a, b in pairwise(minutes)):
            raise ValueError(f"the minutes of counts must rise, got {minutes}")
        if len(self.recent_s) > RECENT:
            raise ValueError(f"recent_s holds {len(self.recent_s)} idle times, more than {RECENT}")

    @property
    def within(self) -> int:
        """How many idle times the bins hold."""
        return sum(count for _, count in self.counts)


def seen(history: History, idle_s: float) -> History:
    """*history* and one more idle time, from the end of a request to the next one's arrival.

    Raises:
        ValueError: *idle_s* is negative or no number.
    """
    if not idle_s >= 0:
        raise ValueError(f"idle_s must be 0 or more, got {idle_s}")
    counts = dict(history.counts)
    beyond = history.beyond
    if idle_s < BINS * BIN_S:
        minute = int(idle_s // BIN_S)
        counts[minute] = counts.get(minute, 0) + 1
    else:
        beyond += 1
    if sum(counts.values()) + beyond > MOST_COUNTED:
        counts = {minute: count // 2 for minute, count in counts.items() if count > 1}
        beyond //= 2
    return History(
        counts=tuple(sorted(counts.items())),
        beyond=beyond,
        seen=history.seen + 1,
        recent_s=(*history.recent_s, idle_s)[-RECENT:],
    )
