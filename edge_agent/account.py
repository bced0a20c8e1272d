"""Where a request's time went: the five terms of an invocation, and the milestones. Pure.

All times are the device's own; from the cloud come durations only, so no clock is compared with
another. What is left of a request's time away after the cloud's own five terms is the network's. It
is shared out by bytes: the request's part is waiting for the cloud to begin (trigger), the answer's
part is its return (response).

    trigger   waiting and reading here + the way up + the cloud's trigger
    init      the cloud's; nothing is started here for a request
    load      the cloud's; pieces are loaded before a plan is followed
    infer     head and encoding here + the cloud's infer; of a fallback the tail here
    response  the cloud's + the way down + decoding and writing the answer here

Time spent waiting for a cloud that did not answer is trigger: nothing was being computed for it.
"""

from dataclasses import dataclass

from protos.messages import Milestones, Terms
from protos.timing import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """The part of a request that the cloud answered.

    *cloud* is what it says of its own time; *sent_s* and *received_s* are the device's clock.
    """

    sent_s: float
    received_s: float
    sent_bytes: int
    received_bytes: int
    cloud: Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One answered request on the device's clock, in seconds.

    *begun_s*: the worker began with it. *pre_s*, *work_s*: what the worker spent on steps, and on
    everything (steps, network, encoding), both parts of a fallback together. *done_s*: the answer
    is about to be published.
    """

    received_s: float
    begun_s: float
    pre_s: float
    work_s: float
    done_s: float
    away: Away | None = None


def account(course: Course) -> tuple[Timing, Milestones]:
    """Share out the time; the five terms add up to the milestones' total."""
    total_s = course.done_s - course.received_s
    queue_s = course.begun_s - course.received_s
    away = course.away
    if away is None:
        # What is neither queue nor work lies after the work, or was spent on a silent cloud.
        rest_s = max(0.0, total_s - queue_s - course.work_s)
        timing = Timing(
            trigger_s=queue_s, infer_s=min(course.work_s, total_s - queue_s), response_s=rest_s
        )
        return timing, _milestones(course, queue_s, total_s)
    elapsed_s = away.received_s - away.sent_s
    cloud = _within(away.cloud, elapsed_s)
    net_s = max(0.0, elapsed_s - cloud.total_s)
    up_s = net_s * away.sent_bytes / max(1, away.sent_bytes + away.received_bytes)
    before_s = away.sent_s - course.received_s
    after_s = course.done_s - away.received_s
    timing = Timing(
        trigger_s=before_s - course.work_s + up_s + cloud.trigger_s,
        init_s=cloud.init_s,
        load_s=cloud.load_s,
        infer_s=course.work_s + cloud.infer_s,
        response_s=cloud.response_s + net_s - up_s + after_s,
    )
    return timing, _milestones(course, queue_s, total_s, net_s=net_s, cloud_s=cloud.total_s)


def as_message(timing: Timing) -> Terms:
    """Write the five terms as the answer carries them."""
    return Terms(**timing.to_ms())


def _within(cloud: Timing, elapsed_s: float) -> Timing:
    """Scale the cloud's terms down to *elapsed_s*: its clock may run faster than ours."""
    if cloud.total_s <= elapsed_s:
        return cloud
    share = elapsed_s / cloud.total_s
    return Timing(
        trigger_s=cloud.trigger_s * share,
        init_s=cloud.init_s * share,
        load_s=cloud.load_s * share,
        infer_s=cloud.infer_s * share,
        response_s=cloud.response_s * share,
    )


def _milestones(
    course: Course, queue_s: float, total_s: float, *, net_s: float = 0.0, cloud_s: float = 0.0
) -> Milestones:
    return Milestones(
        queue=_ms(queue_s),
        pre=_ms(course.pre_s),
        edge=_ms(course.work_s - course.pre_s),
        net=_ms(net_s),
        cloud=_ms(cloud_s),
        total=_ms(total_s),
    )


def _ms(seconds: float) -> float:
    return round(max(0.0, seconds) * 1e3, 3)
