"""The agent's decisions. No asyncio, no sockets, no clock.

:func:`step` takes what happened and returns the new state and what to do about it; the shell does
it and reports back. The rules are next door: :mod:`jobs` (the way of a request), :mod:`links` (what
is thought of the uplink) and :mod:`pins` (which plan is followed).
"""

from typing import assert_never

from edge_agent import jobs, links, pins
from edge_agent.events import (
    Action,
    CloudAnswered,
    CloudFailed,
    DesiredArrived,
    Event,
    JobArrived,
    LoadFailed,
    PiecesLoaded,
    Probed,
    Ran,
    RunFailed,
    Settled,
    Tick,
    UplinkBroke,
)
from edge_agent.state import AgentState

Step = tuple[AgentState, tuple[Action, ...]]


def step(state: AgentState, event: Event) -> Step:
    """Decide: *event* in *state* gives a new state and the actions to take, in order."""
    state, actions = _react(state, event)
    state, runs = jobs.dispatch(state, event.at_s)
    return state, actions + runs


def due_s(state: AgentState) -> float | None:
    """When a :class:`Tick` is due if nothing happens before; None for never."""
    times = [jobs.due_s(job) for job in state.jobs.values()]
    probe_s = links.due_s(state)
    return min(times + ([] if probe_s is None else [probe_s]), default=None)


def _react(state: AgentState, event: Event) -> Step:  # noqa: C901, PLR0911  one case an event
    match event:
        case JobArrived():
            return jobs.arrived(state, event)
        case Ran():
            return jobs.ran(state, event)
        case RunFailed():
            return jobs.run_failed(state, event)
        case CloudAnswered():
            return _cloud_answered(state, event)
        case Settled():
            return pins.reconsider(jobs.settled(state, event), event.at_s)
        case CloudFailed():
            return _cloud_failed(state, event)
        case UplinkBroke(at_s=at_s):
            return links.doubt(state, at_s)
        case Probed():
            state, actions = links.probed(state, event)
            state, more = pins.reconsider(state, event.at_s)
            return state, actions + more
        case PiecesLoaded():
            return pins.pieces_loaded(state, event)
        case LoadFailed():
            return pins.load_failed(state, event)
        case DesiredArrived():
            return pins.desired(state, event)
        case Tick(at_s=at_s):
            return _tick(state, at_s)
    assert_never(event)


def _cloud_answered(state: AgentState, event: CloudAnswered) -> Step:
    if not jobs.is_away(state, event.job):
        return state, ()  # it came too late: the device answered
    state, actions = jobs.cloud_answered(state, event)
    state, more = pins.reconsider(links.alive(state, event.at_s), event.at_s)
    return state, actions + more


def _cloud_failed(state: AgentState, event: CloudFailed) -> Step:
    state, actions = jobs.cloud_failed(state, event)
    if not event.link_lost:
        return state, actions
    state, more = links.doubt(state, event.at_s)
    return state, actions + more


def _tick(state: AgentState, at_s: float) -> Step:
    state, late = jobs.expire(state, at_s)
    state, given_up = jobs.take_back(state, until_s=at_s)
    state, doubts = links.doubt(state, at_s) if given_up else (state, ())
    state, probes = links.tick(state, at_s)
    return state, late + given_up + doubts + probes
