"""The way of a job and what is thought of the link, decision by decision."""

from dataclasses import replace
from math import inf
from types import MappingProxyType

import msgspec
import pytest

from edge_agent import core, jobs, links
from edge_agent.adapt import LinkEstimate
from edge_agent.events import (
    Answer,
    CloudAnswered,
    CloudFailed,
    Event,
    Forget,
    JobArrived,
    JobId,
    LinkDegraded,
    LinkRestored,
    Part,
    Probe,
    Probed,
    Ran,
    Reconnect,
    Refuse,
    Run,
    RunFailed,
    Send,
    Settled,
    Tick,
    UplinkBroke,
)
from edge_agent.experience import Experience
from edge_agent.options import Options, Way
from edge_agent.state import AgentState, Job, Link, ModelState, Probing, Stage
from planner.plans import PlanDocument
from protos.timing import Waits

A, B = JobId("a"), JobId("b")
SPLIT = Way(kind="split", head_s=0.1, tail_s=0.2)
AS_PREDICTED = Experience(paces=(1.0,))
LATE = "no answer within 2000 ms: allow more with timeout-ms, or send less at once"


def an_agent(
    *held: Job,
    way: Way = SPLIT,
    link: Link = Link.UP,
    busy: JobId | None = None,
    experience: Experience | None = None,
) -> AgentState:
    """One model that follows one plan; the next probe is far away."""
    model = ModelState(
        options=Options(ways=MappingProxyType({"plan": way})),
        active="plan",
        loaded=("plan",),
        experience=experience or Experience(),
    )
    return AgentState(
        link=link,
        models={"m": model},
        jobs={job.id: job for job in held},
        busy=busy,
        probing=Probing(next_s=inf),
    )


def a_job(id_: JobId = A, *, due_s: float = 2.0, **changes: object) -> Job:
    return replace(Job(id=id_, model="m", arrived_s=0.0, due_s=due_s), **changes)  # type: ignore[arg-type]


def running(part: Part, id_: JobId = A, *, due_s: float = 2.0, fallback: bool = False) -> Job:
    return a_job(id_, due_s=due_s, stage=Stage.RUNNING, plan="plan", part=part, fallback=fallback)


def away(id_: JobId = A, *, due_s: float = 2.0, give_up_s: float = 1.5) -> Job:
    return a_job(id_, due_s=due_s, stage=Stage.AWAY, plan="plan", give_up_s=give_up_s)


def at_boundary(id_: JobId = A, *, due_s: float = 2.0) -> Job:
    return a_job(id_, due_s=due_s, stage=Stage.BOUNDARY, plan="plan", fallback=True)


def run(id_: JobId, part: Part) -> Run:
    return Run(job=id_, model="m", plan="plan", part=part)


# A job begins -----------------------------------------------------------------------------------


def test_a_job_on_a_good_link_begins_with_its_head() -> None:
    event = JobArrived(job=A, model="m", due_s=2.0, at_s=0.0)
    assert core.step(an_agent(), event) == (
        an_agent(replace(running(Part.HEAD), alone=True), busy=A),
        (run(A, Part.HEAD),),
    )


@pytest.mark.parametrize("link", [Link.DOUBTED, Link.DOWN])
def test_a_job_on_a_link_that_is_not_known_to_be_good_runs_here_alone(link: Link) -> None:
    event = JobArrived(job=A, model="m", due_s=2.0, at_s=0.0)
    assert core.step(an_agent(link=link), event) == (
        an_agent(replace(running(Part.WHOLE, fallback=True), alone=True), link=link, busy=A),
        (run(A, Part.WHOLE),),
    )


def test_a_job_of_a_plan_without_crossing_is_no_fallback_whatever_the_link() -> None:
    edge = Way(kind="edge", head_s=0.3)
    event = JobArrived(job=A, model="m", due_s=2.0, at_s=0.0)
    assert core.step(an_agent(way=edge, link=Link.DOWN), event) == (
        an_agent(replace(running(Part.WHOLE), alone=True), way=edge, link=Link.DOWN, busy=A),
        (run(A, Part.WHOLE),),
    )


def test_while_the_worker_is_busy_a_job_waits_and_neither_is_alone() -> None:
    before = an_agent(replace(running(Part.HEAD), alone=True), busy=A)
    event = JobArrived(job=B, model="m", due_s=2.0, at_s=0.0)
    assert core.step(before, event) == (
        an_agent(running(Part.HEAD), a_job(B), busy=A),
        (),
    )


def test_a_tail_goes_before_a_new_job_and_an_earlier_deadline_before_a_later_one() -> None:
    held = (a_job(A, due_s=3.0), a_job(B, due_s=2.0), at_boundary(JobId("c"), due_s=4.0))
    order = []
    state = an_agent(*held)
    for _ in held:
        state, actions = jobs.dispatch(state, 0.0)
        order += [action.job for action in actions if isinstance(action, Run)]
        state = replace(state.without_job(JobId(str(state.busy))), busy=None)
    assert order == ["c", "b", "a"]


def test_nothing_is_begun_that_would_still_run_when_a_job_must_be_taken_back() -> None:
    """The worker can't be interrupted: a head of 0.1 s would end after 1.5 s."""
    before = an_agent(away(give_up_s=1.5), a_job(B, due_s=9.0))
    assert jobs.dispatch(before, 1.45) == (before, ())
    _, actions = jobs.dispatch(before, 1.3)
    assert actions == (run(B, Part.HEAD),)


def test_a_job_whose_deadline_has_passed_is_not_begun() -> None:
    before = an_agent(a_job(due_s=1.0))
    assert jobs.dispatch(before, 1.0) == (before, ())


# A job ends -------------------------------------------------------------------------------------


def test_a_head_that_ran_goes_up_the_link() -> None:
    before = an_agent(running(Part.HEAD), busy=A)
    assert core.step(before, Ran(job=A, took_s=0.1, at_s=0.1)) == (
        an_agent(away(give_up_s=2.0 - 1.5 * 0.2 - 0.2), experience=AS_PREDICTED),
        (Send(job=A),),
    )


def test_a_head_whose_plan_has_chunks_is_sent_while_it_runs_if_that_saves_time(
    forked_document: PlanDocument,
) -> None:
    """At the document's link before anything is measured; not where a message takes no time."""
    plan = forked_document.plan("chunked")
    slower = msgspec.structs.replace(plan, encode_s=plan.encode_s - 0.001)
    document = msgspec.structs.replace(forked_document, plans=(slower,))
    model = ModelState(options=Options.of(document), active="chunked", loaded=("chunked",))
    before = AgentState(link=Link.UP, models={"m": model}, probing=Probing(next_s=inf))
    arrived = JobArrived(job=A, model="m", due_s=2.0, at_s=0.0)
    for paces_s, chunked in (((), True), ((1e-9,), False)):
        measured = replace(before, estimate=LinkEstimate(paces_s=paces_s))
        state, actions = core.step(measured, arrived)
        asked = Run(job=A, model="m", plan="chunked", part=Part.HEAD, chunked=chunked)
        assert actions == (asked,)
        assert state.jobs[A].chunked is chunked
        _, actions = core.step(state, Ran(job=A, took_s=0.033, at_s=0.033))
        assert actions == (Send(job=A),)


def test_a_head_that_is_not_run_has_no_chunks(forked_document: PlanDocument) -> None:
    """The link is doubted before it, or by the time it ends: nothing of it need be unsent."""
    model = ModelState(options=Options.of(forked_document), active="chunked", loaded=("chunked",))
    before = AgentState(link=Link.DOUBTED, models={"m": model}, probing=Probing(next_s=inf))
    event = JobArrived(job=A, model="m", due_s=2.0, at_s=0.0)
    _, actions = core.step(before, event)
    assert actions == (Run(job=A, model="m", plan="chunked", part=Part.WHOLE),)
    state, _ = core.step(replace(before, link=Link.UP), event)
    _, actions = core.step(replace(state, link=Link.DOUBTED), Ran(job=A, took_s=0.03, at_s=0.03))
    assert actions == (Run(job=A, model="m", plan="chunked", part=Part.TAIL),)


def test_a_head_that_ran_while_the_link_was_lost_is_finished_here_at_once() -> None:
    before = an_agent(running(Part.HEAD), link=Link.DOUBTED, busy=A)
    assert core.step(before, Ran(job=A, took_s=0.1, at_s=0.1)) == (
        an_agent(
            running(Part.TAIL, fallback=True),
            link=Link.DOUBTED,
            busy=A,
            experience=AS_PREDICTED,
        ),
        (run(A, Part.TAIL),),
    )


def test_a_whole_that_ran_is_answered() -> None:
    edge = Way(kind="edge", head_s=0.3)
    before = an_agent(running(Part.WHOLE), way=edge, busy=A)
    assert core.step(before, Ran(job=A, took_s=0.3, at_s=0.3)) == (
        an_agent(way=edge, experience=AS_PREDICTED),
        (Answer(job=A, plan="plan", mode="edge"),),
    )


def test_a_tail_that_ran_here_is_answered_as_a_fallback() -> None:
    before = an_agent(running(Part.TAIL, fallback=True), busy=A)
    assert core.step(before, Ran(job=A, took_s=0.2, at_s=1.8)) == (
        an_agent(experience=AS_PREDICTED),
        (Answer(job=A, plan="plan", mode="fallback"),),
    )


def test_the_device_learns_its_pace_from_every_run() -> None:
    """Predicted 0.1 s, took 0.2."""
    state, _ = core.step(an_agent(running(Part.HEAD), busy=A), Ran(job=A, took_s=0.2, at_s=0.2))
    assert state.models["m"].experience == Experience(paces=(2.0,))


def test_only_a_job_that_was_alone_and_went_as_planned_tells_what_the_software_takes() -> None:
    """Its answer is followed by a report of what it took; the answers of others are not."""
    told = []
    for job in (
        replace(running(Part.WHOLE), alone=True),
        running(Part.WHOLE),
        replace(running(Part.WHOLE, fallback=True), alone=True),
    ):
        _, actions = core.step(an_agent(job, busy=A), Ran(job=A, took_s=0.3, at_s=0.3))
        told += [each.undisturbed for each in actions if isinstance(each, Answer)]
    assert told == [True, False, False]


def test_what_a_request_took_beyond_work_travel_and_cloud_is_the_software(
    plan_document: PlanDocument,
) -> None:
    """``device-only`` works 40 ms; ``plan-1`` 10 ms here and 4 in the cloud."""
    model = ModelState(options=Options.of(plan_document), active="plan-1", loaded=("plan-1",))
    state = AgentState(link=Link.UP, models={"m": model}, probing=Probing(next_s=inf))
    for plan, took_s in (("device-only", 0.050), ("plan-1", 0.100)):
        event = Settled(model="m", plan=plan, took_s=took_s, travel_s=0.03, wait_s=0.02, at_s=1.0)
        state, _ = core.step(state, event)
    known = state.known("m", 1.0)
    assert (known.local_s, known.remote_s) == pytest.approx((0.010, 0.036))


def test_a_request_that_the_worker_cannot_run_is_refused_and_the_next_begins() -> None:
    before = an_agent(running(Part.HEAD), a_job(B), busy=A)
    event = RunFailed(job=A, status=400, detail="no image", at_s=0.1)
    assert core.step(before, event) == (
        an_agent(running(Part.HEAD, B), busy=B),
        (Refuse(job=A, status=400, detail="no image"), run(B, Part.HEAD)),
    )


# The cloud answers, or not ----------------------------------------------------------------------


def test_the_clouds_answer_is_published_and_the_link_is_measured() -> None:
    waits = Waits(requests=9, queue_s=0.1)
    event = CloudAnswered(
        job=A, sends=((0.3, 9_000),), nbytes=1_000, cloud_s=0.2, at_s=0.5, wait_s=0.05, waits=waits
    )
    state, actions = core.step(an_agent(away()), event)
    assert actions == (Answer(job=A, plan="plan", mode="split"),)
    seen = Experience(waits_s=(0.05,), waited_at_s=0.5, reported=waits)
    assert state == replace(
        an_agent(experience=seen),
        estimate=LinkEstimate(
            paces_s=(pytest.approx(1e-5),),  # type: ignore[arg-type]
            paced_at_s=0.5,
        ),
        probing=Probing(next_s=0.5 + links.IDLE_S),
    )


@pytest.mark.parametrize(
    "event",
    [
        CloudAnswered(job=A, sends=((3.0, 9_000),), nbytes=1_000, cloud_s=0.2, at_s=3.0),
        CloudFailed(job=A, link_lost=False, at_s=3.0),
    ],
)
def test_what_the_cloud_says_of_a_job_that_is_over_changes_nothing(event: Event) -> None:
    assert core.step(an_agent(), event) == (an_agent(), ())


def test_a_late_answer_does_not_overtake_the_tail_that_runs_already() -> None:
    before = an_agent(running(Part.TAIL, fallback=True), busy=A)
    event = CloudAnswered(job=A, sends=((1.6, 9_000),), nbytes=1_000, cloud_s=0.2, at_s=1.6)
    assert core.step(before, event) == (before, ())


def test_a_job_that_the_cloud_refused_is_finished_here_and_the_link_is_not_blamed() -> None:
    assert core.step(an_agent(away()), CloudFailed(job=A, link_lost=False, at_s=0.4)) == (
        an_agent(running(Part.TAIL, fallback=True), busy=A),
        (run(A, Part.TAIL),),
    )


def test_a_job_whose_link_broke_is_finished_here_and_the_link_is_probed() -> None:
    state, actions = core.step(an_agent(away()), CloudFailed(job=A, link_lost=True, at_s=0.4))
    assert actions == (Probe(limit_s=1.0), run(A, Part.TAIL))
    assert state == replace(
        an_agent(running(Part.TAIL, fallback=True), link=Link.DOUBTED, busy=A),
        probing=Probing(next_s=1.4, under_way=True),
    )


def test_a_silent_cloud_is_given_up_in_time_for_the_tail() -> None:
    state, actions = core.step(an_agent(away(give_up_s=1.5)), Tick(at_s=1.5))
    assert actions == (Forget(job=A), Probe(limit_s=1.0), run(A, Part.TAIL))
    assert state == replace(
        an_agent(running(Part.TAIL, fallback=True), link=Link.DOUBTED, busy=A),
        probing=Probing(next_s=2.5, under_way=True),
    )


def test_a_tick_before_anything_is_due_changes_nothing() -> None:
    before = an_agent(away(give_up_s=1.5))
    assert core.step(before, Tick(at_s=1.4)) == (before, ())


def test_a_job_past_its_deadline_is_refused_wherever_it_is() -> None:
    before = an_agent(away(A, give_up_s=2.0), running(Part.HEAD, B), busy=B)
    state, actions = core.step(before, Tick(at_s=2.0))
    assert actions == (
        Forget(job=A),
        Refuse(job=A, status=408, detail=LATE),
        Refuse(job=B, status=408, detail=LATE),
    )
    assert state == an_agent(busy=B)


def test_a_job_that_was_refused_while_it_ran_only_frees_the_worker() -> None:
    before = an_agent(a_job(B, due_s=9.0), busy=A)
    assert core.step(before, Ran(job=A, took_s=3.0, at_s=3.0)) == (
        an_agent(running(Part.HEAD, B, due_s=9.0), busy=B),
        (run(B, Part.HEAD),),
    )


@pytest.mark.parametrize(
    ("tail_s", "away_s", "expected_s", "because"),
    [
        (0.2, 0.1, 1.5, "as late as is safe: due 2.0 - 1.5 * 0.2 - slack 0.2"),
        (0.8, 0.4, 0.9, "not before the cloud is overdue: sent 0.1 + 2 * 0.4"),
        (0.8, 0.7, 1.0, "never too late for the tail itself: 2.0 - 0.8 - 0.2"),
        (1.5, 0.4, 2.0, "no time for both: the cloud alone is trusted"),
    ],
)
def test_when_the_cloud_is_given_up(
    tail_s: float, away_s: float, expected_s: float, because: str
) -> None:
    found_s = jobs.give_up_s(due_s=2.0, sent_s=0.1, away_s=away_s, tail_s=tail_s, slack_s=0.2)
    assert found_s == pytest.approx(expected_s), because


# The link ---------------------------------------------------------------------------------------


def test_a_probe_that_fails_takes_the_link_down_and_all_jobs_back() -> None:
    before = replace(
        an_agent(away(A), away(B), link=Link.DOUBTED), probing=Probing(next_s=1.0, under_way=True)
    )
    state, actions = core.step(before, Probed(rtt_s=None, at_s=1.0))
    assert actions == (
        LinkDegraded(),
        Reconnect(),
        Forget(job=A),
        Forget(job=B),
        run(A, Part.TAIL),
    )
    assert state == replace(
        an_agent(running(Part.TAIL, fallback=True), at_boundary(B), link=Link.DOWN, busy=A),
        probing=Probing(next_s=1.25, failures=1),
    )


def test_probes_of_a_link_that_stays_down_come_later_and_later_and_are_not_news() -> None:
    state, waits = an_agent(link=Link.DOWN), []
    for _ in range(6):
        state, actions = core.step(state, Probed(rtt_s=None, at_s=0.0))
        assert actions == (Reconnect(),)
        waits.append(state.probing.next_s)
    assert waits == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]


def test_a_probe_that_succeeds_brings_the_link_back_and_forgets_its_bandwidth() -> None:
    before = replace(
        an_agent(link=Link.DOWN),
        estimate=LinkEstimate(rtts_s=(0.05,), paces_s=(1e-5,)),
        probing=Probing(next_s=1.0, under_way=True, failures=3),
    )
    assert core.step(before, Probed(rtt_s=0.07, at_s=1.0)) == (
        replace(
            an_agent(),
            estimate=LinkEstimate(rtts_s=(0.05, 0.07), paced_at_s=1.0),
            probing=Probing(next_s=1.0 + links.IDLE_S),
        ),
        (LinkRestored(),),
    )


def test_a_doubt_that_a_probe_dispels_is_not_news() -> None:
    before = replace(an_agent(link=Link.DOUBTED), probing=Probing(next_s=1.0, under_way=True))
    state, actions = core.step(before, Probed(rtt_s=0.07, at_s=1.0))
    assert (state.link, actions) == (Link.UP, ())


def test_an_idle_link_is_probed_and_one_that_carries_a_job_is_not() -> None:
    """A probe behind an upload would tell of the upload."""
    idle = replace(an_agent(), probing=Probing(next_s=5.0))
    _, actions = core.step(idle, Tick(at_s=5.0))
    assert actions == (Probe(limit_s=1.0),)
    carrying = replace(an_agent(away(due_s=60.0, give_up_s=59.0)), probing=Probing(next_s=5.0))
    state, actions = core.step(carrying, Tick(at_s=5.0))
    assert (state.probing, actions) == (Probing(next_s=5.0 + links.IDLE_S), ())


def test_a_connection_that_breaks_while_idle_is_probed_once() -> None:
    state, actions = core.step(an_agent(), UplinkBroke(at_s=1.0))
    assert (state.link, actions) == (Link.DOUBTED, (Probe(limit_s=1.0),))
    assert core.step(state, UplinkBroke(at_s=1.1)) == (state, ())


def test_a_probe_waits_longer_on_a_link_that_is_far() -> None:
    far = replace(an_agent(), estimate=LinkEstimate(rtts_s=(0.6,)))
    _, actions = core.step(far, UplinkBroke(at_s=1.0))
    assert actions == (Probe(limit_s=pytest.approx(2.4)),)  # type: ignore[arg-type]


def test_without_a_cloud_there_is_nothing_to_probe() -> None:
    alone = replace(an_agent(link=Link.NONE), probing=Probing(next_s=0.0))
    assert core.step(alone, Tick(at_s=9.0)) == (alone, ())
    assert core.due_s(alone) is None


def test_the_agent_wakes_for_whatever_is_due_first() -> None:
    state = replace(
        an_agent(away(A, due_s=2.0, give_up_s=1.5), a_job(B, due_s=1.8)),
        probing=Probing(next_s=1.7),
    )
    assert core.due_s(state) == 1.5
    assert core.due_s(state.without_job(A)) == 1.7
    assert core.due_s(replace(state, jobs={}, probing=Probing(under_way=True))) is None
