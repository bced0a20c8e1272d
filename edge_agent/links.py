"""What is thought of the link, and when to ask. Pure.

Nothing is concluded from one bad sign: it starts a probe, and while that is under way new jobs stay
on the device. Only a probe that fails takes the link down, and only one that succeeds brings it
back.
"""

from dataclasses import replace

from edge_agent import adapt, jobs
from edge_agent.events import Action, LinkDegraded, LinkRestored, Probe, Probed, Reconnect
from edge_agent.state import AgentState, Link, Probing, Stage

IDLE_S = 5.0
"""A link that showed no sign of life for this long is asked for one."""

FIRST_RETRY_S, MAX_RETRY_S = 0.25, 2.0
LEAST_LIMIT_S, MAX_LIMIT_S = 1.0, 5.0
LIMIT_OF_RTT = 4.0

Step = tuple[AgentState, tuple[Action, ...]]


def alive(state: AgentState, at_s: float) -> AgentState:
    """Take in a sign of life other than a probe."""
    link = Link.UP if state.link is Link.DOUBTED else state.link
    return replace(state, link=link, probing=replace(state.probing, next_s=at_s + IDLE_S))


def doubt(state: AgentState, at_s: float) -> Step:
    """Something went wrong on the link: find out."""
    if state.link is not Link.UP:
        return state, ()
    return probe(replace(state, link=Link.DOUBTED), at_s)


def tick(state: AgentState, at_s: float) -> Step:
    """Probe when it is time; while a job is away, its fate tells as much."""
    if state.link is Link.NONE or state.probing.under_way or state.probing.next_s > at_s:
        return state, ()
    if state.link is Link.UP and any(job.stage is Stage.AWAY for job in state.jobs.values()):
        return replace(state, probing=replace(state.probing, next_s=at_s + IDLE_S)), ()
    return probe(state, at_s)


def probe(state: AgentState, at_s: float) -> Step:
    """Ask for a sign of life, unless one was asked for already."""
    if state.probing.under_way:
        return state, ()
    limit_s = min(MAX_LIMIT_S, max(LEAST_LIMIT_S, LIMIT_OF_RTT * (state.estimate.rtt_s or 0.0)))
    probing = replace(state.probing, under_way=True, next_s=at_s + limit_s)
    return replace(state, probing=probing), (Probe(limit_s=limit_s),)


def probed(state: AgentState, event: Probed) -> Step:
    """Conclude from a probe."""
    if event.rtt_s is None:
        return _down(state, event.at_s)
    was_down = state.link is Link.DOWN
    estimate = adapt.restored(state.estimate, event.at_s) if was_down else state.estimate
    state = replace(
        state,
        link=Link.UP,
        estimate=adapt.probed(estimate, event.rtt_s, event.at_s),
        probing=Probing(next_s=event.at_s + IDLE_S),
    )
    return state, (LinkRestored(),) if was_down else ()


def _down(state: AgentState, at_s: float) -> Step:
    failures = state.probing.failures + 1
    retry_s = min(MAX_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures - 1, 16))
    was_down = state.link is Link.DOWN
    state = replace(
        state,
        link=Link.DOWN,
        probing=Probing(next_s=at_s + retry_s, failures=failures),
    )
    if was_down:
        return state, (Reconnect(),)
    state, back = jobs.take_back(state)
    return state, (LinkDegraded(), Reconnect(), *back)


def due_s(state: AgentState) -> float | None:
    """When the link next needs a decision if nothing happens to it."""
    if state.link is Link.NONE or state.probing.under_way:
        return None
    return state.probing.next_s
