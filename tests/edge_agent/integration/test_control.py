"""What the device says about itself, and the plans it is told to follow."""

import json
import os
import signal
from collections.abc import Callable

import pytest

from edge_agent.mqtt import HEADROOM_BYTES
from planner.model import Model
from testbed.broker import MAX_PACKET_BYTES, Broker
from tests.edge_agent.integration.conftest import TOPICS, Agents, App, Cloud

pytestmark = pytest.mark.integration

OWN = TOPICS.infer("tiny", "res")


def desire(app: App, version: int, **plans: str) -> None:
    models = {name: {"plan": plan} for name, plan in plans.items()}
    payload = json.dumps({"version": version, "models": models}).encode()
    app.publish(TOPICS.desired, payload, retain=True)


def test_a_device_says_what_it_is(
    app: App, agents: Callable[[str], Agents], toml: str, tiny_model: Model
) -> None:
    agents(toml).start()
    status = app.wait(TOPICS.status).json
    info = app.wait(TOPICS.info).json
    reported = app.wait(TOPICS.reported).json
    assert (status["state"], status["seq"]) == ("online", 1)
    assert info["device"] == "cam-01"
    assert info["mqtt"] == {"v": 5, "max_payload": 262_144}
    assert info["models"] == [
        {
            "name": "tiny",
            "version": "1",
            "digest": tiny_model.digest,
            "role": "full",
            "splits": [],
        }
    ]
    assert (reported["applied_version"], reported["status"], reported["errors"]) == (
        0,
        "applied",
        [],
    )


def test_a_device_advertises_no_larger_payload_than_its_broker_takes(
    app: App, agents: Callable[[str], Agents], toml: str
) -> None:
    agents(f"max_payload_bytes = {64 << 20}\n{toml}").start()
    limit = MAX_PACKET_BYTES - HEADROOM_BYTES
    assert app.wait(TOPICS.info).json["mqtt"]["max_payload"] == limit


def test_a_desired_document_pins_the_plan_and_is_kept_over_a_restart(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    home = agents(with_cloud(cloud.address))
    agent = home.start()
    desire(app, 3, tiny="device-only")
    applied = app.wait(TOPICS.reported, lambda heard: heard.json["applied_version"] == 3)
    assert applied.json["config"]["models"]["tiny"]["plan"] == "device-only"
    changed = app.wait(TOPICS.event("plan_changed")).json
    assert (changed["from"], changed["to"]) == ("plan-1", "device-only")
    assert changed["estimate"]["up_bps"] == 731_250.0  # what the plan assumes: nothing was sent yet
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.plan == "device-only"
    agent.stop()
    app.publish(TOPICS.desired, b"", retain=True)  # as if the broker had forgotten
    home.start()
    app.wait(TOPICS.reported, lambda heard: heard.json["applied_version"] == 3)
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.plan == "device-only"


def test_a_document_that_cannot_be_applied_is_rejected_with_reasons(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    agents(with_cloud(cloud.address)).start()
    desire(app, 1, tiny="plan-9")
    rejected = app.wait(TOPICS.reported, lambda heard: heard.json["status"] == "rejected").json
    assert [each["code"] for each in rejected["errors"]] == ["unknown_plan"]
    app.publish(TOPICS.desired, b"not json")
    rejected = app.wait(TOPICS.reported, lambda heard: heard.json["status"] == "rejected").json
    assert [each["code"] for each in rejected["errors"]] == ["malformed"]
    assert rejected["applied_version"] == 0
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.plan == "plan-1"


def test_the_last_will_tells_that_a_device_is_lost(
    broker: Broker, agents: Callable[[str], Agents], toml: str
) -> None:
    """Under 3.1.1 at once; MQTT 5 delays it, so that a flapping link is not news."""
    agent = agents(toml.replace("[mqtt]", '[mqtt]\nprotocol = "3.1.1"')).start()
    with App(broker.url) as app:
        boot = app.wait(TOPICS.status).json["boot"]
        os.kill(agent.pid, signal.SIGKILL)
        lost = app.wait(TOPICS.status, lambda heard: heard.json["state"] == "lost")
        assert lost.json["boot"] == boot
