"""Which plan each model follows: pinned by the configuration or a desired document, or the link's.

A plan is followed only once its pieces are in memory; until then the old one goes on. Pure.
"""

from dataclasses import replace

from edge_agent.events import (
    Action,
    DesiredArrived,
    Load,
    LoadFailed,
    PiecesLoaded,
    PlanChanged,
    Report,
    Save,
    Unload,
)
from edge_agent.state import AUTO, AgentState, Link, Wanted
from protos.messages import Fault

KEPT = 8
"""Plans per model whose pieces stay in memory; most share theirs, and going back costs nothing."""

Step = tuple[AgentState, tuple[Action, ...]]


def reconsider(state: AgentState, at_s: float) -> Step:
    """Follow, for each model, its pin or what suits the link now."""
    actions: tuple[Action, ...] = ()
    for name in tuple(state.models):
        state, more = _follow(state, name, _target(state, name, at_s))
        actions += more
    return state, actions


def pieces_loaded(state: AgentState, event: PiecesLoaded) -> Step:
    """Take in that a plan's pieces are there."""
    model = state.models[event.model]
    others = tuple(plan for plan in model.loaded if plan != event.plan)
    model = replace(model, loaded=(event.plan, *others), loading=model.loading - {event.plan})
    state, actions = _apply_if_ready(state.with_model(event.model, model), event.at_s)
    state, more = reconsider(state, event.at_s)
    state, unloads = _evict(state, event.model)
    return state, actions + more + unloads


def load_failed(state: AgentState, event: LoadFailed) -> Step:
    """Do without the plan, and reject the desired document that asked for it."""
    model = state.models[event.model]
    state = state.with_model(
        event.model,
        replace(model, loading=model.loading - {event.plan}, broken=model.broken | {event.plan}),
    )
    if state.wanted is None or state.wanted.pins[event.model] != event.plan:
        return state, ()
    fault = Fault(path=f"models.{event.model}.plan", code="load_failed", msg=event.detail)
    return replace(state, wanted=None), (_rejected(state, (fault,)),)


def desired(state: AgentState, event: DesiredArrived) -> Step:
    """Apply a desired document as a whole, or none of it.

    MQTT may deliver late or twice: what is no newer than the newest seen changes nothing. A model
    that the document leaves out goes back to its configured pin.
    """
    newest = state.version if state.wanted is None else state.wanted.version
    if event.version <= newest:
        return state, ()
    faults = event.faults + _faults(state, event)
    if faults:
        return state, (_rejected(state, faults),)
    pins = {
        name: event.pins.get(name, model.configured_pin) for name, model in state.models.items()
    }
    state = replace(state, wanted=Wanted(version=event.version, pins=pins))
    actions: tuple[Action, ...] = (Save(version=event.version, pins=pins),)
    for name, model in state.models.items():
        if pins[name] != AUTO and pins[name] not in model.loaded:
            state, load = _load(state, name, pins[name])
            actions += load
    state, applied = _apply_if_ready(state, event.at_s)
    applying = () if applied else (Report(version=state.version, status="applying"),)
    return state, actions + applying + applied


def _apply_if_ready(state: AgentState, at_s: float) -> Step:
    wanted = state.wanted
    if wanted is None:
        return state, ()
    for name, pin in wanted.pins.items():
        if pin != AUTO and pin not in state.models[name].loaded:
            return state, ()
    models = {name: replace(model, pin=wanted.pins[name]) for name, model in state.models.items()}
    state = replace(state, models=models, version=wanted.version, wanted=None)
    state, changes = reconsider(state, at_s)
    return state, (*changes, Report(version=wanted.version, status="applied"))


def _target(state: AgentState, name: str, at_s: float) -> str:
    model = state.models[name]
    if model.pin != AUTO:
        return model.pin
    best = model.options.best(model.active, state.known(name, at_s))
    return model.active if best in model.broken else best


def _follow(state: AgentState, name: str, plan: str) -> Step:
    model = state.models[name]
    if plan == model.active:
        return state, ()
    if plan not in model.loaded:
        return _load(state, name, plan)
    others = tuple(loaded for loaded in model.loaded if loaded != plan)
    changed = replace(model, active=plan, loaded=(plan, *others))
    change = PlanChanged(model=name, before=model.active, plan=plan)
    return state.with_model(name, changed), (change,)


def _load(state: AgentState, name: str, plan: str) -> Step:
    model = state.models[name]
    if plan in model.loading:
        return state, ()
    model = replace(model, loading=model.loading | {plan}, broken=model.broken - {plan})
    return state.with_model(name, model), (Load(model=name, plan=plan),)


def _evict(state: AgentState, name: str) -> Step:
    model = state.models[name]
    needed = {model.active}
    if state.wanted is not None:
        needed.add(state.wanted.pins[name])
    spare = [plan for plan in model.loaded[KEPT:] if plan not in needed]
    loaded = tuple(plan for plan in model.loaded if plan not in spare)
    state = state.with_model(name, replace(model, loaded=loaded))
    return state, tuple(Unload(model=name, plan=plan) for plan in spare)


def _faults(state: AgentState, event: DesiredArrived) -> tuple[Fault, ...]:
    faults = []
    for name, pin in event.pins.items():
        model = state.models.get(name)
        if model is None:
            known = ", ".join(state.models)
            msg = f"there is no model {name} here: name one of {known}"
            faults.append(Fault(path=f"models.{name}", code="unknown_model", msg=msg))
        elif pin != AUTO and pin not in model.options.ways:
            known = ", ".join((AUTO, *model.options.ways))
            msg = f"there is no plan {pin}: name one of {known}"
            faults.append(Fault(path=f"models.{name}.plan", code="unknown_plan", msg=msg))
        elif pin != AUTO and model.way(pin).remote and state.link is Link.NONE:
            msg = f"plan {pin} needs the cloud, and none is configured: set cloud.address"
            faults.append(Fault(path=f"models.{name}.plan", code="no_cloud", msg=msg))
    return tuple(faults)


def _rejected(state: AgentState, faults: tuple[Fault, ...]) -> Report:
    return Report(version=state.version, status="rejected", faults=faults)
