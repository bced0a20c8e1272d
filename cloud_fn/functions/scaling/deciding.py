"""How many instances a function should have now, and how long they stay. Pure: no clock."""

import math
from dataclasses import dataclass, field

from cloud_fn.functions.scaling.history import History
from cloud_fn.functions.scaling.window import Policy, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a decision is made from.

    ``instances`` are those that run or start; each takes ``concurrency`` requests at a time.
    ``in_use`` requests run and ``waiting`` ones have no place yet, the oldest of them for
    ``oldest_wait_s``. ``start_s`` is what an instance's start takes.
    """

    policy: Policy
    history: History = field(default_factory=History)
    instances: int = 0
    in_use: int = 0
    waiting: int = 0
    oldest_wait_s: float = 0.0
    start_s: float = 0.0
    concurrency: int = 1
    least: int = 0
    most: int = 1

    def __post_init__(self) -> None:
        if min(self.instances, self.in_use, self.waiting, self.least) < 0:
            raise ValueError("instances, in_use, waiting and least must be 0 or more")
        if self.concurrency < 1 or self.most < max(1, self.least):
            raise ValueError(
                f"concurrency={self.concurrency} and most={self.most} must be at least 1, and most "
                f"no less than least={self.least}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``instances`` is how many there should be: fewer than there are means that those beyond it
    are idle, and ``window`` says for how long they stay.
    """  # noqa: D205  one sentence

    instances: int
    window: Window


def decide(context: Context) -> Decision:
    """The instances that the requests of this moment need, between ``least`` and ``most``.

    From zero an instance is always started. Beyond that, one more only pays where a request would
    wait for longer than a start takes; how long it would wait is not known, so it waits for as long
    as a start takes first, and thus never for more than twice of what it would have waited had it
    been known (the ski rental problem: Karlin et al. 1988).
    """
    needed = math.ceil((context.in_use + context.waiting) / context.concurrency)
    have = context.instances
    if 0 < have < needed and context.oldest_wait_s < context.start_s:
        needed = have
    return Decision(
        instances=min(max(needed, context.least), context.most),
        window=context.policy.window(context.history),
    )
