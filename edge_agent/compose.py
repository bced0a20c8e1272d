"""From a configuration to an agent's parts: models read, plans checked, first pieces loaded."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_agent.agent import Parts
from edge_agent.config import AgentConfig, ModelConfig, read_secret
from edge_agent.desired import LastGood
from edge_agent.desk import Rules
from edge_agent.errors import SettingsError
from edge_agent.folder import DESIRED_FILE, OUTBOX_FILE, STATUS_FILE
from edge_agent.intake import Served
from edge_agent.options import DEVICE_ONLY, Options
from edge_agent.outbox import Outbox
from edge_agent.presence import Presence
from edge_agent.session import Settings
from edge_agent.shelf import Shelf
from edge_agent.state import AUTO, AgentState, Link, ModelState
from planner.errors import PlannerError
from planner.model import Model, read
from planner.plans import Plan, PlanDocument, read_plan
from planner.steps import SOURCE
from protos.messages import ModelRef
from protos.topics import Topics


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """One configured model as it was read."""

    config: ModelConfig
    model: Model
    document: PlanDocument | None


def compose(config: AgentConfig, state_dir: Path) -> Parts:
    """Read what the configuration names and put the parts together.

    Raises:
        PlannerError: a model or a plan can't be read, or a plan does not fit its model.
        SettingsError: a secret's file can't be read, or a pin names no plan that can be followed.
    """
    held = {each.name: _held(each) for each in config.models}
    shelf = Shelf({name: each.model for name, each in held.items()}, threads=config.threads)
    states = {
        name: _model_state(each, cloud=config.cloud is not None) for name, each in held.items()
    }
    plans = _plans(held)
    for name, state in states.items():
        shelf.load(name, state.active, plans[name, state.active])
    boot = uuid.uuid4().hex
    presence = Presence(config.topics, boot)
    return Parts(
        rules=Rules(
            topics=config.topics,
            served={name: _served(each) for name, each in held.items()},
            deadline_s=config.deadline_s,
            inbox=config.inbox,
            boot=boot,
        ),
        mqtt=_mqtt(config, config.topics, presence),
        cloud=_cloud(config),
        models={
            name: ModelRef(name=name, version=each.config.version, digest=each.model.digest)
            for name, each in held.items()
        },
        plans=plans,
        shelf=shelf,
        outbox=Outbox(state_dir / OUTBOX_FILE, max_bytes=config.outbox_bytes),
        last_good=LastGood(state_dir / DESIRED_FILE),
        presence=presence,
        status_path=state_dir / STATUS_FILE,
        drain_s=config.drain_s,
        state=AgentState(link=Link.NONE if config.cloud is None else Link.DOUBTED, models=states),
    )


def _held(config: ModelConfig) -> _Held:
    steps = None if config.steps is None else Path(config.steps)
    model = read(Path(config.path), steps=steps, dims=config.dims)
    if config.plan is None:
        return _Held(config=config, model=model, document=None)
    document = read_plan(Path(config.plan))
    if document.digest != model.digest:
        raise PlannerError(
            f"plan {config.plan} was made for other bytes than model {config.name} has: run "
            "`isthmus plan` again for this model and its steps"
        )
    return _Held(config=config, model=model, document=document)


def _model_state(held: _Held, *, cloud: bool) -> ModelState:
    options = Options.device_only() if held.document is None else Options.of(held.document)
    if not cloud:
        options = options.local()
    pin = held.config.pin
    if pin != AUTO and pin not in options.ways:
        known = ", ".join((AUTO, *options.ways))
        why = "" if cloud else " while no cloud.address is set"
        raise SettingsError(
            f"model {held.config.name} is pinned to {pin}, which it can't follow{why}: "
            f"pin it to one of {known}"
        )
    active = options.initial if pin == AUTO else pin
    return ModelState(options=options, active=active, configured_pin=pin, pin=pin, loaded=(active,))


def _plans(held: Mapping[str, _Held]) -> dict[tuple[str, str], Plan | None]:
    plans: dict[tuple[str, str], Plan | None] = {}
    for name, each in held.items():
        plans[name, DEVICE_ONLY] = None
        if each.document is not None:
            plans |= {(name, plan.id): plan for plan in each.document.plans}
    return plans


def _served(held: _Held) -> Served:
    sources = held.model.source
    takes_bytes = bool(held.model.steps) and sources == (SOURCE,)
    return Served(version=held.config.version, sources=sources, takes_bytes=takes_bytes)


def _mqtt(config: AgentConfig, topics: Topics, presence: Presence) -> Settings:
    host, port = config.mqtt.address
    username = password = None
    if config.mqtt.password_file is not None:
        password = read_secret(config.mqtt.password_file, "mqtt.password_file")
        username = config.mqtt.username or config.device
    return Settings(
        host=host,
        port=port,
        client_id=f"{config.device}-agent",
        filters=(topics.infer_filter, topics.command_filter, topics.desired),
        will=presence.will(),
        protocol=config.mqtt.protocol,
        username=username,
        password=password,
        keepalive_s=config.mqtt.keepalive_s,
        receive_maximum=config.inbox,
        max_payload_bytes=config.max_payload_bytes,
    )


def _cloud(config: AgentConfig) -> tuple[str, str | None] | None:
    if config.cloud is None:
        return None
    key_file = config.cloud.key_file
    key = None if key_file is None else read_secret(key_file, "cloud.key_file")
    return config.cloud.address, key
