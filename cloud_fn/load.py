"""How busy a function was: what a planner wants to know of the waits before its inferences. Pure.

Kept for the last ten minutes in twenty buckets, each the sums of half a minute: that is what a plan
needs, which is made once for many requests, and it takes the same memory at any rate. Only answered
requests are counted; what was refused or gave up waited for nothing that a plan could use.
"""

from dataclasses import dataclass

from planner.loads import Load
from protos.timing import Timing, Waits

BUCKET_S = 30.0
BUCKETS = 20
WINDOW_S = BUCKET_S * BUCKETS


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """The sums of one stretch of BUCKET_S; *number* counts them on the caller's clock."""

    number: int
    requests: int = 0
    queue_s: float = 0.0
    cold: int = 0
    cold_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What one function did in the last WINDOW_S; buckets without a request are left out."""

    buckets: tuple[Bucket, ...] = ()

    def requests(self, at_s: float) -> int:
        """How many were answered."""
        return sum(bucket.requests for bucket in self._within(at_s))

    def load(self, at_s: float) -> Load:
        """The mean wait for an instance, and how often and how long one had to be started.

        A start is T_init and T_load: an instance, or a piece of the model in one that runs.
        """
        kept = self._within(at_s)
        requests = sum(bucket.requests for bucket in kept)
        cold = sum(bucket.cold for bucket in kept)
        return Load(
            queue_s=sum(bucket.queue_s for bucket in kept) / max(1, requests),
            cold_chance=cold / max(1, requests),
            cold_s=sum(bucket.cold_s for bucket in kept) / max(1, cold),
        )

    def waits(self, at_s: float) -> Waits:
        """The same, and of how many, as an answer tells it."""
        load = self.load(at_s)
        return Waits(
            requests=self.requests(at_s),
            queue_s=load.queue_s,
            cold_chance=load.cold_chance,
            cold_s=load.cold_s,
        )

    def _within(self, at_s: float) -> tuple[Bucket, ...]:
        first = _number(at_s) - BUCKETS + 1
        return tuple(bucket for bucket in self.buckets if bucket.number >= first)


def answered(recent: Recent, timing: Timing, at_s: float) -> Recent:
    """Take in one request that was answered at *at_s*; the clock must not go back."""
    number, cold_s = _number(at_s), timing.init_s + timing.load_s
    buckets = recent.buckets
    if buckets and buckets[-1].number >= number:
        *kept, bucket = buckets
    else:
        kept = [each for each in buckets if each.number > number - BUCKETS]
        bucket = Bucket(number=number)
    bucket = Bucket(
        number=bucket.number,
        requests=bucket.requests + 1,
        queue_s=bucket.queue_s + timing.trigger_s,
        cold=bucket.cold + (cold_s > 0),
        cold_s=bucket.cold_s + cold_s,
    )
    return Recent(buckets=(*kept, bucket))


def _number(at_s: float) -> int:
    return int(at_s // BUCKET_S)
