"""The way of a job: queued, run, away, and finished here when the cloud fails it. Pure.

The worker runs one part at a time. Jobs whose head ran and whose cloud failed go first, then the
earliest deadline; and no new part is begun that would still run when a job that is away must be
taken back.
"""

from dataclasses import replace
from math import inf

from edge_agent import adapt, experience
from edge_agent.events import (
    Action,
    Answer,
    CloudAnswered,
    CloudFailed,
    Forget,
    JobArrived,
    JobId,
    Mode,
    Part,
    Ran,
    Refuse,
    Run,
    RunFailed,
    Send,
    Settled,
)
from edge_agent.experience import Spent
from edge_agent.state import AgentState, Job, Link, Stage

MARGIN = 1.5
"""The tail is given this many times its known duration."""

MAX_SLACK_S = 0.2
SLACK_OF_BUDGET = 0.1
"""Kept for waiting and publishing: a CPU throttled to a tenth stalls for 90 ms at a time."""

PATIENCE = 2.0
"""A cloud this many times later than expected is given up, once the safe moment has passed."""

Step = tuple[AgentState, tuple[Action, ...]]


def arrived(state: AgentState, event: JobArrived) -> Step:
    """Queue a new job."""
    alone = not state.jobs and state.busy is None
    jobs = {id_: replace(job, alone=False) for id_, job in state.jobs.items()}
    job = Job(id=event.job, model=event.model, arrived_s=event.at_s, due_s=event.due_s, alone=alone)
    return replace(state, jobs={**jobs, job.id: job}), ()


def dispatch(state: AgentState, at_s: float) -> Step:
    """Give the worker its next part, if it is free and there is one that may begin."""
    if state.busy is not None or not state.jobs:
        return state, ()
    waiting = [j for j in state.jobs.values() if j.due_s > at_s and j.stage in _FOR_THE_WORKER]
    job = min(waiting, key=lambda job: (job.stage is Stage.QUEUED, job.due_s), default=None)
    if job is None:
        return state, ()
    if job.stage is Stage.BOUNDARY:
        begun = replace(job, stage=Stage.RUNNING, part=Part.TAIL)
    else:
        begun = _begun(state, job, at_s)
        ends_s = at_s + _work_s(state, begun)
        if any(j.stage is Stage.AWAY and j.give_up_s < ends_s for j in state.jobs.values()):
            return state, ()
    assert begun.part is not None
    run = Run(
        job=job.id,
        model=job.model,
        plan=begun.plan,
        part=begun.part,
        chunked=begun.part is Part.HEAD and begun.chunked,
    )
    return replace(state.with_job(begun), busy=job.id), (run,)


def ran(state: AgentState, event: Ran) -> Step:
    """Move on a job of which the worker finished a part."""
    state = replace(state, busy=None)
    job = state.jobs.get(event.job)
    if job is None:  # refused while it ran
        return state, ()
    state = _learnt(state, job, event.took_s)
    if job.part is not Part.HEAD:
        return _answered(state, job)
    if state.link is not Link.UP:
        return state.with_job(_back(job)), ()
    return _sent(state, job, event.at_s)


def run_failed(state: AgentState, event: RunFailed) -> Step:
    """Refuse a job that the worker could not run."""
    state = replace(state, busy=None)
    if event.job not in state.jobs:
        return state, ()
    refuse = Refuse(job=event.job, status=event.status, detail=event.detail)
    return state.without_job(event.job), (refuse,)


def cloud_answered(state: AgentState, event: CloudAnswered) -> Step:
    """Answer a job that is away; an answer that comes too late changes nothing."""
    job = state.jobs.get(event.job)
    if job is None or job.stage is not Stage.AWAY:
        return state, ()
    estimate = adapt.observed(
        state.estimate,
        sends=event.sends,
        answer_bytes=event.nbytes,
        cloud_s=event.cloud_s,
        at_s=event.at_s,
    )
    if event.wait_s is not None:
        model = state.models[job.model]
        seen = experience.waited(model.experience, event.wait_s, event.at_s, event.waits)
        state = state.with_model(job.model, replace(model, experience=seen))
    return _answered(replace(state, estimate=estimate), job)


def settled(state: AgentState, event: Settled) -> AgentState:
    """Learn what the software takes around a request: what work, travel and cloud leave.

    The travel counts from the head's end, so that nothing that was sent before is counted twice.
    """
    model = state.models[event.model]
    document = model.options.document
    if document is None:
        return state
    plan = document.plan(event.plan)
    away_s = event.travel_s + event.wait_s + plan.served_s if plan.remote else 0.0
    spent = Spent(took_s=event.took_s - away_s, work_s=model.way(event.plan).head_s)
    seen = experience.answered(model.experience, spent, remote=plan.remote)
    return state.with_model(event.model, replace(model, experience=seen))


def cloud_failed(state: AgentState, event: CloudFailed) -> Step:
    """Take back a job that the cloud failed."""
    job = state.jobs.get(event.job)
    if job is None or job.stage is not Stage.AWAY:
        return state, ()
    return state.with_job(_back(job)), ()


def take_back(state: AgentState, *, until_s: float | None = None) -> Step:
    """Take back the jobs that are away: all, or those to be given up by *until_s*."""
    actions: list[Action] = []
    for job in state.jobs.values():
        if job.stage is Stage.AWAY and (until_s is None or job.give_up_s <= until_s):
            state = state.with_job(_back(job))
            actions.append(Forget(job=job.id))
    return state, tuple(actions)


def expire(state: AgentState, at_s: float) -> Step:
    """Refuse the jobs whose deadline has passed."""
    actions: list[Action] = []
    for job in tuple(state.jobs.values()):
        if job.due_s <= at_s:
            state = state.without_job(job.id)
            if job.stage is Stage.AWAY:
                actions.append(Forget(job=job.id))
            actions.append(Refuse(job=job.id, status=408, detail=_late(job)))
    return state, tuple(actions)


def due_s(job: Job) -> float:
    """When *job* next needs a decision if nothing happens to it."""
    return min(job.due_s, job.give_up_s) if job.stage is Stage.AWAY else job.due_s


def give_up_s(
    *, due_s: float, sent_s: float, away_s: float, tail_s: float, slack_s: float
) -> float:
    """When to stop waiting for the cloud and finish here.

    As late as is safe for the tail; later only while the cloud is not yet overdue, and never so
    late that the tail could not end in time. Where the device can't wait for the expected answer
    and then still finish, one of the two must be trusted alone, and that is the cloud.
    """
    latest_s = due_s - tail_s - slack_s
    if latest_s <= sent_s + away_s:
        return due_s
    return min(latest_s, max(due_s - MARGIN * tail_s - slack_s, sent_s + PATIENCE * away_s))


_FOR_THE_WORKER = (Stage.QUEUED, Stage.BOUNDARY)


def _begun(state: AgentState, job: Job, at_s: float) -> Job:
    model = state.models[job.model]
    remote = model.way(model.active).remote
    away = remote and state.link is Link.UP
    return replace(
        job,
        stage=Stage.RUNNING,
        plan=model.active,
        part=Part.HEAD if away else Part.WHOLE,
        chunked=away and model.options.hides(model.active, state.known(job.model, at_s)),
        fallback=remote and not away,
    )


def _sent(state: AgentState, job: Job, at_s: float) -> Step:
    model = state.models[job.model]
    gone = replace(
        job,
        stage=Stage.AWAY,
        part=None,
        give_up_s=give_up_s(
            due_s=job.due_s,
            sent_s=at_s,
            away_s=model.options.away_s(
                job.plan, state.known(job.model, at_s), chunked=job.chunked
            ),
            tail_s=model.way(job.plan).tail_s * model.experience.pace,
            slack_s=min(MAX_SLACK_S, SLACK_OF_BUDGET * (job.due_s - job.arrived_s)),
        ),
    )
    return state.with_job(gone), (Send(job=job.id),)


def _back(job: Job) -> Job:
    return replace(job, stage=Stage.BOUNDARY, part=None, fallback=True, give_up_s=inf)


def _answered(state: AgentState, job: Job) -> Step:
    kind = state.models[job.model].way(job.plan).kind
    mode: Mode = "fallback" if job.fallback else kind
    undisturbed = job.alone and not job.fallback
    answer = Answer(job=job.id, plan=job.plan, mode=mode, undisturbed=undisturbed)
    return state.without_job(job.id), (answer,)


def _predicted_s(state: AgentState, job: Job) -> float:
    """What the profile says of the part that *job* runs."""
    way = state.models[job.model].way(job.plan)
    match job.part:
        case Part.HEAD:
            return way.head_s
        case Part.TAIL:
            return way.tail_s
        case _:
            return way.head_s + way.tail_s


def _work_s(state: AgentState, job: Job) -> float:
    return _predicted_s(state, job) * state.models[job.model].experience.pace


def _learnt(state: AgentState, job: Job, took_s: float) -> AgentState:
    model = state.models[job.model]
    way = model.way(job.plan)
    seen = experience.ran(
        model.experience,
        predicted_s=_predicted_s(state, job),
        took_s=took_s,
        whole_s=way.head_s + way.tail_s,
    )
    return state.with_model(job.model, replace(model, experience=seen))


def _late(job: Job) -> str:
    budget_ms = 1e3 * (job.due_s - job.arrived_s)
    return f"no answer within {budget_ms:.0f} ms: allow more with timeout-ms, or send less at once"


def is_away(state: AgentState, id_: JobId) -> bool:
    """Whether job *id_* waits for the cloud."""
    job = state.jobs.get(id_)
    return job is not None and job.stage is Stage.AWAY
