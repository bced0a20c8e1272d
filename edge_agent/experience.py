"""What a model's requests have taught: waits in the cloud, and what no plan foretells. Pure.

Each figure comes from the last few samples. The device's pace and the software's own time are
medians, as the link's figures are. A wait is an expectation instead: cold starts are rare and long,
and a median would not see them until they are the rule. Of its samples the longest is left out, so
that one cold start (the first request's, say) changes nothing and frequent ones count in full.

With each answer the gateway says how everybody's requests waited lately. That counts as much as
REPORTED of the device's own waits, which are of its own moments and its own cuts, or as many as it
is the mean of where they are fewer: nearly all while the device has asked little, a fifth once
WAITS of its own are there. Here too one cold start is left out.

The software's time is what a request took beyond its work at the pace that holds when it is asked
for. So a plan that was followed lately is expected to take what it took, whatever the pace, and the
pace matters only for the others: work of another length, or kind, may go at another one.
"""

from dataclasses import dataclass, replace
from math import fsum
from statistics import median

from edge_agent.adapt import STALE_S
from protos.timing import Waits

SAMPLES = 7
WAITS = 20
REPORTED = 5
MAX_WAIT_S = 600.0
SLOWEST, FASTEST = 100.0, 0.01

LEAST_S = 1e-4
LEAST_SHARE = 0.1
"""Work that should take less than this, or than this share of the whole model, is lost in the
software's own time: it tells nothing of the device's pace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a request took without travel and cloud, and its work here as the profile has it."""

    took_s: float
    work_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """The last samples, newest last; *reported* is what the gateway last said of all requests."""

    waits_s: tuple[float, ...] = ()
    reported: Waits | None = None
    waited_at_s: float = 0.0
    paces: tuple[float, ...] = ()
    stayed: tuple[Spent, ...] = ()
    sent: tuple[Spent, ...] = ()

    @property
    def pace(self) -> float:
        """What the device takes over what its profile predicted; 1 before it was seen."""
        return median(self.paces) if self.paces else 1.0

    @property
    def local_s(self) -> float | None:
        """The software around a request that is answered here; None before there was one.

        Below 0 where the pace is that of slower work than it is added to.
        """
        return self._beyond_s(self.stayed)

    @property
    def remote_s(self) -> float | None:
        """The same around a request that is sent."""
        return self._beyond_s(self.sent)

    def wait_s(self, at_s: float) -> float | None:
        """The expected wait in the cloud at the time *at_s*.

        None before two were seen, be they all the device's own or others' of which was reported.

        It halves every STALE_S after that time without an answer, for the reason that the link's
        bandwidth doubles: what is never tried is never corrected.
        """
        own = sorted(self.waits_s)[:-1]
        others, told_s = 0, 0.0
        if self.reported is not None and self.reported.requests > 1:
            others = min(REPORTED, self.reported.requests - 1)
            told_s = _expected_s(self.reported)
        if not own and not others:
            return None
        usual = (fsum(own) + others * told_s) / (len(own) + others)
        stale = max(0.0, at_s - self.waited_at_s - STALE_S) / STALE_S
        return float(usual * 2.0 ** -min(stale, 64.0))

    def _beyond_s(self, samples: tuple[Spent, ...]) -> float | None:
        if not samples:
            return None
        return median(each.took_s - self.pace * each.work_s for each in samples)


def waited(
    experience: Experience, wait_s: float, at_s: float, reported: Waits | None = None
) -> Experience:
    """Take in how long one request waited in the cloud before its inference began.

    Args:
        experience: what was known.
        wait_s: how long.
        at_s: when the answer came.
        reported: what the gateway said with it of all requests, this one included; what it said
            before is not kept.
    """
    wait_s = min(max(wait_s, 0.0), MAX_WAIT_S)
    return replace(
        experience,
        waits_s=(*experience.waits_s, wait_s)[-WAITS:],
        waited_at_s=at_s,
        reported=reported,
    )


def _expected_s(waits: Waits) -> float:
    """The expected wait of a request by what was reported of two or more, but for one cold start.

    At most MAX_WAIT_S.
    """
    cold = max(0.0, waits.cold_chance * waits.requests - 1)
    return min(waits.queue_s + cold / (waits.requests - 1) * waits.cold_s, MAX_WAIT_S)


def ran(experience: Experience, *, predicted_s: float, took_s: float, whole_s: float) -> Experience:
    """Take in one part that the device ran.

    Args:
        experience: what was known.
        predicted_s: what the profile says of the part.
        took_s: what it took.
        whole_s: what the profile says of the whole model on this device.
    """
    if predicted_s < max(LEAST_S, LEAST_SHARE * whole_s):
        return experience
    pace = min(max(took_s / predicted_s, FASTEST), SLOWEST)
    return replace(experience, paces=(*experience.paces, pace)[-SAMPLES:])


def answered(experience: Experience, spent: Spent, *, remote: bool) -> Experience:
    """Take in what one request took."""
    if remote:
        return replace(experience, sent=(*experience.sent, spent)[-SAMPLES:])
    return replace(experience, stayed=(*experience.stayed, spent)[-SAMPLES:])
