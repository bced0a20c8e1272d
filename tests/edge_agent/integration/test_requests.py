"""What a device answers, to whom and how."""

import json
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from planner.model import Model
from protos.envelope import pack
from protos.json_tensors import JsonTensor
from protos.wire import Tensor
from testbed.broker import Broker
from tests.edge_agent.integration.conftest import LIMIT_S, TOPICS, Agents, App, Cloud, Heard

pytestmark = pytest.mark.integration

OWN = TOPICS.infer("tiny", "res")
INBOX = TOPICS.inbox("app-7")


@pytest.fixture
def agent(agents: Callable[[str], Agents], toml: str) -> None:
    agents(toml).start()


def expected(model: Model, image: bytes) -> list[JsonTensor]:
    """What the model says of *image*."""
    source = np.empty(1, np.object_)
    source[0] = image
    outputs = model.piece(("bytes",)).run({"bytes": source})
    return [JsonTensor.of(name, array) for name, array in outputs.items()]


def problem(heard: Heard) -> tuple[int, str, str]:
    """Its status, as the document and as the property say it, and its content type."""
    return heard.json["status"], heard.user["status"], heard.content_type


@pytest.mark.skipif(which("mosquitto_pub") is None, reason="mosquitto-clients is not installed")
@pytest.mark.usefixtures("agent")
def test_mosquitto_pub_gets_an_answer_without_any_property(
    broker: Broker, tiny_model: Model, tmp_path: Path, picture: Callable[[int], bytes]
) -> None:
    image = tmp_path / "cat.jpg"
    image.write_bytes(picture(1))
    port = broker.url.rpartition(":")[2]
    hearing = subprocess.Popen(
        ["stdbuf", "-oL", "mosquitto_sub", "-d", "-p", port, "-q", "1", "-C", "1", "-t", OWN],
        stdout=subprocess.PIPE,
        text=True,
    )
    with hearing, ExitStack() as stack:
        stack.callback(hearing.kill)
        assert hearing.stdout is not None
        for line in hearing.stdout:
            if line.startswith("Subscribed"):
                break
        request = TOPICS.infer("tiny", "req")
        subprocess.run(
            ["mosquitto_pub", "-p", port, "-q", "1", "-t", request, "-f", str(image)], check=True
        )
        output, _ = hearing.communicate(timeout=LIMIT_S)
    answer = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    wanted = expected(tiny_model, picture(1))
    assert [each["data"] for each in answer["outputs"]] == [each.data for each in wanted]
    assert answer["placement"] == {"mode": "edge", "plan": "device-only", "split": []}


@pytest.mark.usefixtures("agent")
def test_a_request_of_mqtt_5_is_answered_where_it_asks_with_its_id(
    app: App, tiny_model: Model, picture: Callable[[int], bytes]
) -> None:
    app.ask(
        picture(2),
        ResponseTopic=INBOX,
        CorrelationData=b"\x00\x01",
        ContentType="image/jpeg",
        UserProperty=[("traceparent", "00-ab-cd-01"), ("timeout-ms", "9000")],
    )
    heard = app.wait(INBOX)
    assert (heard.correlation, heard.content_type, heard.user) == (
        b"\x00\x01",
        "application/json",
        {"status": "200", "traceparent": "00-ab-cd-01"},
    )
    result = heard.result
    assert list(result.outputs) == expected(tiny_model, picture(2))
    assert (result.id, result.model.name, result.model.version, result.model.digest) == (
        "0001",
        "tiny",
        "1",
        tiny_model.digest,
    )
    assert result.timing is not None
    terms = result.timing
    total = terms.trigger + terms.init + terms.load + terms.infer + terms.response
    assert total == pytest.approx(result.ms.total, abs=0.01)
    assert (result.sent_bytes, result.received_bytes, result.degraded) == (0, 0, False)


@pytest.mark.usefixtures("agent")
def test_bad_requests_get_a_problem_and_the_next_good_one_an_answer(
    app: App, picture: Callable[[int], bytes]
) -> None:
    truncated = picture(1)[:200]
    framed = pack([Tensor.of("input", np.zeros((1, 3, 8, 8), np.float32))])
    for payload, topic, status in (
        (b"hello", OWN, 400),
        (truncated, OWN, 400),
        (framed, OWN, 400),
        (bytes(300_000), OWN, 413),
        (picture(1), TOPICS.infer("other", "res"), 404),
    ):
        request = topic.removesuffix("res") + "req"
        app.ask(payload, topic=request, CorrelationData=str(status).encode())
        heard = app.wait(topic)
        assert problem(heard) == (status, str(status), "application/problem+json")
        assert heard.correlation == str(status).encode()
        assert heard.json["id"] == str(status)
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.mode == "edge"


@pytest.mark.usefixtures("agent")
def test_nobody_can_have_the_device_answer_to_a_stranger(
    app: App, picture: Callable[[int], bytes]
) -> None:
    stranger = "isthmus/v1/c/app-8/inbox/cam-02"
    app.ask(picture(1), ResponseTopic=stranger, CorrelationData=b"1")
    assert problem(app.wait(OWN))[0] == 400
    assert app.heard(stranger) == []


@pytest.mark.usefixtures("agent")
def test_a_deadline_that_cannot_be_met_is_said_so(
    app: App, picture: Callable[[int], bytes]
) -> None:
    app.ask(picture(1), UserProperty=("timeout-ms", "0.001"))
    heard = app.wait(OWN)
    assert (heard.json["status"], heard.json["title"]) == (408, "Request Timeout")


def test_a_retained_request_is_not_run(
    app: App, agents: Callable[[str], Agents], toml: str, picture: Callable[[int], bytes]
) -> None:
    """It would be, again and again, at every connection."""
    app.publish(TOPICS.infer("tiny", "req"), picture(1), retain=True)
    agents(toml).start()
    app.ask(b"", topic=TOPICS.command("ping", "req"))
    app.wait(TOPICS.command("ping", "res"))  # what was retained came before
    assert app.heard(OWN) == []


@pytest.mark.usefixtures("agent")
def test_commands_are_answered(app: App) -> None:
    app.ask(b"", topic=TOPICS.command("ping", "req"), CorrelationData=b"p")
    pong = app.wait(TOPICS.command("ping", "res"))
    assert (pong.json["device"], pong.correlation, pong.user) == ("cam-01", b"p", {"status": "200"})
    app.ask(b"", topic=TOPICS.command("dance", "req"), ResponseTopic=INBOX)
    heard = app.wait(INBOX)
    assert (heard.json["status"], heard.json["detail"]) == (404, "there is no dance: use ping")


def test_mqtt_311_works_with_the_correlation_as_the_last_level(
    broker: Broker,
    agents: Callable[[str], Agents],
    toml: str,
    picture: Callable[[int], bytes],
) -> None:
    agents(toml.replace("[mqtt]", '[mqtt]\nprotocol = "3.1.1"')).start()
    with App(broker.url, v5=False) as app:
        app.ask(picture(1), topic=TOPICS.infer("tiny", "req", "c-17"))
        assert app.wait(TOPICS.infer("tiny", "res", "c-17")).result.id == "c-17"
        app.ask(b"hello", topic=TOPICS.infer("tiny", "req", "c-18"))
        assert app.wait(TOPICS.infer("tiny", "res", "c-18")).json["status"] == 400
        assert app.wait(TOPICS.info).json["mqtt"]["v"] == 4


def test_a_busy_device_says_so(
    app: App,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    cloud: Cloud,
    picture: Callable[[int], bytes],
) -> None:
    cloud.silent = True
    agents("inbox = 1\n" + with_cloud(cloud.address)).start()
    app.ask(picture(1))
    cloud.asked.get(timeout=LIMIT_S)
    app.ask(picture(2), CorrelationData=b"second")
    heard = app.wait(OWN)
    assert (heard.json["status"], heard.correlation) == (429, b"second")
