"""Which of the requests that wait run together. Pure: no clock, no threads, no arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_fn.functions.curve import Curve
from cloud_fn.functions.joining import Extent


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A request that waits for the engine.

    ``extent`` is None where it must run alone; ``deadline_s`` is when nobody wants its answer any
    more, None where that is never.
    """

    extent: Extent | None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Places in the queue: of those that run together now, and of those that came too late."""

    run: tuple[int, ...]
    expired: tuple[int, ...]


def plan(
    queue: Sequence[Waiting],
    curve: Curve,
    now_s: float,
    *,
    max_size: int,
    max_wait_s: float,
    pace: float = 1.0,
) -> Choice:
    """Whom to run as soon as the engine is free; nobody only where nobody in time waits.

    The one that has waited longest always runs, so that none waits for ever. Others join it in
    the order in which they came, each only if all this holds of the batch with it in:

    - it has no more than *max_size* rows;
    - it is expected to end before the earliest deadline in it;
    - no request in it is expected to take over *max_wait_s* longer than it would by itself;
    - it is expected to be over sooner than the batch without it and it alone, one after the
      other, which also bounds how much is padded.

    Args:
        queue: those that wait, the first to come first.
        curve: what a batch takes.
        now_s: the time, on the deadlines' clock.
        max_size: see :class:`cloud_fn.functions.settings.Batching`.
        max_wait_s: the same.
        pace: how many times longer than on *curve* batches take here.
    """
    expired = tuple(
        at
        for at, each in enumerate(queue)
        if each.deadline_s is not None and each.deadline_s < now_s
    )
    in_time = [at for at in range(len(queue)) if at not in set(expired)]
    if not in_time:
        return Choice((), expired)
    first, *others = in_time
    extent = queue[first].extent
    if extent is None:
        return Choice((first,), expired)
    batch = _Batch.of(extent, queue[first].deadline_s, curve, pace)
    chosen = [first]
    for at in others:
        candidate = queue[at].extent
        if candidate is None or candidate.key != extent.key:
            continue
        larger = batch.grown(_Batch.of(candidate, queue[at].deadline_s, curve, pace), curve, pace)
        if larger.may_be(now_s, max_size=max_size, max_wait_s=max_wait_s):
            batch = larger
            chosen.append(at)
    return Choice(tuple(chosen), expired)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What is expected of a batch.

    ``alone_s`` is the least that one of it would take by itself, and ``apart_s`` what it takes
    without the one that came last, and that one after it.
    """

    rows: int
    length: int
    seconds: float
    alone_s: float
    apart_s: float
    deadline_s: float

    @classmethod
    def of(cls, extent: Extent, deadline_s: float | None, curve: Curve, pace: float) -> "_Batch":
        seconds = pace * curve.seconds(extent.rows, extent.length)
        return cls(
            rows=extent.rows,
            length=extent.length,
            seconds=seconds,
            alone_s=seconds,
            apart_s=seconds,
            deadline_s=float("inf") if deadline_s is None else deadline_s,
        )

    def grown(self, other: "_Batch", curve: Curve, pace: float) -> "_Batch":
        rows, length = self.rows + other.rows, max(self.length, other.length)
        return _Batch(
            rows=rows,
            length=length,
            seconds=pace * curve.seconds(rows, length),
            alone_s=min(self.alone_s, other.alone_s),
            apart_s=self.seconds + other.seconds,
            deadline_s=min(self.deadline_s, other.deadline_s),
        )

    def may_be(self, now_s: float, *, max_size: int, max_wait_s: float) -> bool:
        return (
            self.rows <= max_size
            and now_s + self.seconds <= self.deadline_s
            and self.seconds - self.alone_s <= max_wait_s
            and self.seconds < self.apart_s
        )
