"""Which plan is followed: pins, desired documents, the link, and what is in memory."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from edge_agent import core, pins
from edge_agent.adapt import LinkEstimate
from edge_agent.events import (
    CloudAnswered,
    DesiredArrived,
    JobId,
    Load,
    LoadFailed,
    PiecesLoaded,
    PlanChanged,
    Probed,
    Report,
    Save,
    Unload,
)
from edge_agent.options import Options
from edge_agent.state import AUTO, AgentState, Job, Link, ModelState, Probing, Stage, Wanted
from planner.plans import PlanDocument
from protos.messages import Fault

FAST, SLOW = LinkEstimate(paces_s=(1e-8,)), LinkEstimate(paces_s=(1e-3,))


@pytest.fixture
def agent(plan_document: PlanDocument) -> Callable[..., AgentState]:
    """One model that follows ``plan-1`` (a split) and has its pieces and those of no other."""

    def an_agent(**changes: object) -> AgentState:
        model = ModelState(options=Options.of(plan_document), active="plan-1", loaded=("plan-1",))
        model = replace(model, **changes)  # type: ignore[arg-type]
        return AgentState(link=Link.UP, models={"m": model}, probing=Probing(next_s=99.0))

    return an_agent


def a_desire(version: int = 1, **pins_: str) -> DesiredArrived:
    return DesiredArrived(version=version, pins=pins_, at_s=0.0)


def test_a_pin_whose_pieces_are_here_is_applied_at_once(agent: Callable[..., AgentState]) -> None:
    before = agent(loaded=("plan-1", "device-only"))
    after = replace(
        agent(active="device-only", pin="device-only", loaded=("device-only", "plan-1")), version=1
    )
    assert core.step(before, a_desire(m="device-only")) == (
        after,
        (
            Save(version=1, pins={"m": "device-only"}),
            PlanChanged(model="m", before="plan-1", plan="device-only"),
            Report(version=1, status="applied"),
        ),
    )


def test_a_pin_whose_pieces_are_not_here_is_applied_when_they_are(
    agent: Callable[..., AgentState],
) -> None:
    waiting, actions = core.step(agent(), a_desire(m="device-only"))
    assert waiting == replace(
        agent(loading=frozenset({"device-only"})),
        wanted=Wanted(version=1, pins={"m": "device-only"}),
    )
    assert actions == (
        Save(version=1, pins={"m": "device-only"}),
        Load(model="m", plan="device-only"),
        Report(version=0, status="applying"),
    )
    after, actions = core.step(waiting, PiecesLoaded(model="m", plan="device-only", at_s=1.0))
    assert after == replace(
        agent(active="device-only", pin="device-only", loaded=("device-only", "plan-1")), version=1
    )
    assert actions == (
        PlanChanged(model="m", before="plan-1", plan="device-only"),
        Report(version=1, status="applied"),
    )


def test_a_document_no_newer_than_ours_changes_nothing(agent: Callable[..., AgentState]) -> None:
    """MQTT may deliver late, or twice."""
    state = replace(agent(), version=7)
    assert core.step(state, a_desire(7, m="device-only")) == (state, ())


def test_a_document_that_is_superseded_while_it_loads_is_never_applied(
    agent: Callable[..., AgentState],
) -> None:
    state, _ = core.step(agent(), a_desire(1, m="device-only"))
    state, actions = core.step(state, a_desire(2, m="plan-1"))
    assert actions[-1] == Report(version=2, status="applied")
    state, actions = core.step(state, PiecesLoaded(model="m", plan="device-only", at_s=1.0))
    assert (state.version, state.models["m"].active, actions) == (2, "plan-1", ())


def test_a_document_is_rejected_as_a_whole(agent: Callable[..., AgentState]) -> None:
    before = agent()
    state, actions = core.step(before, a_desire(m="plan-9", other="auto"))
    assert state == before
    assert actions == (
        Report(
            version=0,
            status="rejected",
            faults=(
                Fault(
                    path="models.m.plan",
                    code="unknown_plan",
                    msg="there is no plan plan-9: "
                    "name one of auto, device-only, plan-1, cloud-jpeg",
                ),
                Fault(
                    path="models.other",
                    code="unknown_model",
                    msg="there is no model other here: name one of m",
                ),
            ),
        ),
    )


def test_a_plan_that_needs_the_cloud_is_rejected_where_there_is_none(
    agent: Callable[..., AgentState],
) -> None:
    alone = replace(agent(), link=Link.NONE)
    state, actions = core.step(alone, a_desire(m="cloud-jpeg"))
    (report,) = actions
    assert state == alone
    assert isinstance(report, Report)
    assert [fault.code for fault in report.faults] == ["no_cloud"]


def test_a_document_whose_pieces_fail_to_load_is_rejected_and_the_old_one_stays(
    agent: Callable[..., AgentState],
) -> None:
    state, _ = core.step(agent(), a_desire(m="device-only"))
    event = LoadFailed(model="m", plan="device-only", detail="no memory", at_s=1.0)
    assert core.step(state, event) == (
        agent(broken=frozenset({"device-only"})),
        (
            Report(
                version=0,
                status="rejected",
                faults=(Fault(path="models.m.plan", code="load_failed", msg="no memory"),),
            ),
        ),
    )


def test_a_model_that_the_document_leaves_out_goes_back_to_its_configured_pin(
    agent: Callable[..., AgentState],
) -> None:
    before = agent(configured_pin="plan-1", pin="device-only", active="device-only")
    state, actions = core.step(before, a_desire())
    assert (state.models["m"].pin, state.models["m"].active) == ("plan-1", "plan-1")
    assert actions[0] == Save(version=1, pins={"m": "plan-1"})


def test_an_unpinned_model_follows_the_link_once_the_pieces_are_here(
    agent: Callable[..., AgentState],
) -> None:
    slow = replace(agent(), estimate=SLOW)
    state, actions = core.step(slow, Probed(rtt_s=0.05, at_s=0.0))
    assert actions == (Load(model="m", plan="device-only"),)
    assert core.step(state, Probed(rtt_s=0.05, at_s=0.1))[1] == ()  # it is being loaded
    state, actions = core.step(state, PiecesLoaded(model="m", plan="device-only", at_s=0.2))
    assert actions == (PlanChanged(model="m", before="plan-1", plan="device-only"),)


def test_a_cloud_that_makes_every_request_wait_is_left_for_the_device(
    agent: Callable[..., AgentState],
) -> None:
    """The device alone takes 40 ms, the split 20.4 and its wait: the first is thought a chance."""
    state = agent(loaded=("plan-1", "device-only"))
    state = replace(state, estimate=LinkEstimate(rtts_s=(0.005,), paces_s=(1 / 731_250,)))
    changes = []
    for number in range(3):
        job = Job(
            id=JobId(str(number)),
            model="m",
            arrived_s=0.0,
            due_s=9.0,
            stage=Stage.AWAY,
            plan=state.models["m"].active,
        )
        event = CloudAnswered(
            job=job.id, sends=((0.1, 1024),), nbytes=0, cloud_s=0.05, at_s=0.1, wait_s=0.04
        )
        state, actions = core.step(state.with_job(job), event)
        changes.append([each.plan for each in actions if isinstance(each, PlanChanged)])
    assert changes == [[], ["device-only"], []]
    assert state.known("m", 0.1).wait_s == pytest.approx(0.04)


def test_a_pinned_model_does_not_follow_the_link(agent: Callable[..., AgentState]) -> None:
    slow = replace(agent(pin="plan-1"), estimate=SLOW)
    assert core.step(slow, Probed(rtt_s=0.05, at_s=0.0))[1] == ()


def test_a_plan_that_could_not_be_loaded_is_not_chosen_again(
    agent: Callable[..., AgentState],
) -> None:
    slow = replace(agent(broken=frozenset({"device-only"})), estimate=SLOW)
    assert core.step(slow, Probed(rtt_s=0.05, at_s=0.0))[1] == ()


def test_only_so_many_plans_stay_in_memory_and_never_without_the_one_in_use(
    agent: Callable[..., AgentState],
) -> None:
    loaded = tuple(f"p{n}" for n in range(pins.KEPT - 1))
    before = agent(pin="plan-1", loaded=(*loaded, "plan-1"), loading=frozenset({"cloud-jpeg"}))
    state, actions = core.step(before, PiecesLoaded(model="m", plan="cloud-jpeg", at_s=0.0))
    assert state.models["m"].loaded == ("cloud-jpeg", *loaded, "plan-1")
    state, actions = core.step(state, PiecesLoaded(model="m", plan="device-only", at_s=0.0))
    assert actions == (Unload(model="m", plan=loaded[-1]),)
    assert state.models["m"].loaded == ("device-only", "cloud-jpeg", *loaded[:-1], "plan-1")


def test_auto_is_a_pin_like_any_other(agent: Callable[..., AgentState]) -> None:
    before = replace(agent(pin="plan-1", configured_pin="plan-1"), estimate=FAST)
    state, actions = core.step(before, a_desire(m=AUTO))
    assert state.models["m"].pin == AUTO
    assert actions == (
        Save(version=1, pins={"m": AUTO}),
        Load(model="m", plan="cloud-jpeg"),
        Report(version=1, status="applied"),
    )
