"""Real parts around a real agent: broker, link, application, and a small cloud of our own."""

import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from planner.model import Model
from protos.deployments import DEPLOY
from protos.messages import InferResult, decode
from protos.topics import Topics
from protos.wire import (
    SERVICE,
    Reply,
    Tensor,
    Timing,
    Waits,
    arrays,
    decode_request,
    encode_reply,
    encode_stream_error,
    encode_stream_reply,
    joined,
    route,
)
from testbed.broker import INSTALL, Broker, mosquitto_path
from testbed.control import LinkControl
from testbed.processes import Child, Processes

LIMIT_S = 30.0
TOPICS = Topics(device="cam-01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One message as the application got it."""

    topic: str
    payload: bytes
    content_type: str = ""
    correlation: bytes | None = None
    user: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:  # noqa: ANN401  any JSON
        return json.loads(self.payload)

    @property
    def result(self) -> InferResult:
        return decode(self.payload, InferResult, what="answer")


class App:
    """An application that hears all the broker carries, and asks the device."""

    def __init__(self, url: str, *, v5: bool = True) -> None:
        host, _, port = url.removeprefix("mqtt://").partition(":")
        self._address = (host, int(port))
        self._v5 = v5
        self._heard: list[Heard] = []
        self._news = threading.Condition()
        self._ready = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id="app-7",
            protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311,
        )
        self._client.on_connect = lambda client, *_: client.subscribe("isthmus/#", 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        self._client.connect(*self._address)
        self._client.loop_start()
        assert self._ready.wait(LIMIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def ask(self, payload: bytes, **properties: Any) -> None:  # noqa: ANN401  paho's
        """Publish a request, to topic ``topic`` or the tiny model's."""
        topic = properties.pop("topic", TOPICS.infer("tiny", "req"))
        self.publish(topic, payload, **properties)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        **properties: Any,  # noqa: ANN401
    ) -> None:
        """Publish with MQTT 5 properties by paho's names."""
        sent = None
        if properties:
            sent = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            for name, value in properties.items():
                setattr(sent, name, value)
        self._client.publish(topic, payload, 1, retain, sent).wait_for_publish(LIMIT_S)

    def wait(self, topic: str, that: Callable[[Heard], bool] = lambda _: True) -> Heard:
        """Take the first message on *topic* *that* holds for, which may have come already."""
        deadline_s = time.monotonic() + LIMIT_S
        with self._news:
            while True:
                for heard in self._heard:
                    if heard.topic == topic and that(heard):
                        self._heard.remove(heard)
                        return heard
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not self._news.wait(left_s):
                    raise TimeoutError(f"nothing on {topic}; heard {self._heard}")

    def heard(self, topic: str) -> list[Heard]:
        """Everything on *topic* that was not taken."""
        with self._news:
            return [heard for heard in self._heard if heard.topic == topic]

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        properties = message.properties
        heard = Heard(
            topic=message.topic,
            payload=bytes(message.payload),
            content_type=getattr(properties, "ContentType", ""),
            correlation=getattr(properties, "CorrelationData", None),
            user=dict(getattr(properties, "UserProperty", ())),
        )
        with self._news:
            self._heard.append(heard)
            self._news.notify_all()


class Cloud(grpc.GenericRpcHandler):
    """A gateway that runs tails itself; it can be told to be silent or to refuse.

    *asked* are the messages as they came. Of so many requests in chunks as *breaks* says, it ends
    the stream at the first chunk; of that whose id is *refused* it refuses the first, and ignores
    the others. It answers with *waits*. Where *deploys*, it keeps what was *deployed*; else it has
    no such call.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((self,))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self.asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.silent = False
        self.refusal = ""
        self.loses = ""
        self.breaks = 0
        self.refused = ""
        self.keys: set[str] = set()
        self.waits: Waits | None = None
        self.deploys = False
        self.deployed: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        self.keys |= {
            str(value) for key, value in details.invocation_metadata if key == "authorization"
        }
        if details.method == f"/{SERVICE}/ServerLive":
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"\x08\x01")
        if details.method == f"/{SERVICE}/ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler(self._answers)
        if details.method == DEPLOY and self.deploys:
            return grpc.unary_unary_rpc_method_handler(self._deploy)
        return None

    def _deploy(self, request: bytes, _context: object) -> bytes:
        self.deployed.put(request)
        return b""

    def _answers(self, requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        held: dict[str, list[bytes]] = {}
        for data in requests:
            self.asked.put(data)
            if self.silent:
                continue
            found = route(data)
            number, of = found.chunk or (1, 1)
            if number < of and self.breaks > 0:
                self.breaks -= 1
                return
            if found.id == self.refused:
                if number == 1:
                    yield encode_stream_error(found.id, "too many are open")
                continue
            parts = held.setdefault(found.id, [])
            assert number == len(parts) + 1, "a chunk came out of order"
            parts.append(data)
            if number < of:
                continue
            request = decode_request(joined(held.pop(found.id)))
            if self.refusal:
                yield encode_stream_error(request.id, self.refusal)
                continue
            given = arrays(request.inputs)
            outputs = self._model.piece(tuple(given)).run(given)
            reply = Reply(
                model=request.model,
                version=request.version,
                id=request.id,
                outputs=tuple(
                    Tensor.of(name, array) for name, array in outputs.items() if name != self.loses
                ),
                timing=Timing(trigger_s=1e-5, infer_s=2e-5),
                waits=self.waits,
            )
            yield encode_stream_reply(encode_reply(reply))


class Agents:
    """Starts agents of one device, one after the other, with the same state."""

    def __init__(self, processes: Processes, folder: Path, toml: str) -> None:
        self._processes = processes
        self.config = folder / "agent.toml"
        self.state_dir = folder / "state"
        self.config.write_text(toml)
        self._started = 0

    def start(self, *words: str) -> Child:
        """Start one and wait until it is ready."""
        self._started += 1
        argv = [
            sys.executable,
            "-m",
            "isthmus",
            "edge",
            "run",
            "--config",
            str(self.config),
            *words,
        ]
        child, _ = self._processes.start_ready(f"agent-{self._started}", argv)
        return child


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path / "processes") as processes:
        yield processes


@pytest.fixture
def broker(processes: Processes) -> Iterator[Broker]:
    if mosquitto_path() is None:
        pytest.skip(f"mosquitto is not installed: {INSTALL}")
    with Broker(processes) as broker:
        yield broker


@pytest.fixture
def app(broker: Broker) -> Iterator[App]:
    with App(broker.url) as app:
        yield app


@pytest.fixture
def cloud(tiny_model: Model) -> Iterator[Cloud]:
    cloud = Cloud(tiny_model)
    yield cloud
    cloud.stop()


@pytest.fixture
def toml(broker: Broker, tiny: Any) -> str:  # noqa: ANN401  conftest's Files
    """A device of its own, patient enough for a busy machine; add to it."""
    return (
        f'device = "cam-01"\nstate_dir = "state"\ndeadline_s = 20\n[mqtt]\nurl = "{broker.url}"\n'
        f'[[models]]\nname = "tiny"\npath = "{tiny.onnx}"\nsteps = "{tiny.steps}"\n'
    )


@pytest.fixture
def with_cloud(toml: str, tiny: Any) -> Callable[..., str]:  # noqa: ANN401  conftest's Files
    """The same with a cloud at an address, and the plan that is pinned."""

    def a_toml(address: str, pin: str = "plan-1") -> str:
        return f'{toml}plan = "{tiny.plan}"\npin = "{pin}"\n[cloud]\naddress = "{address}"\n'

    return a_toml


@pytest.fixture
def agents(processes: Processes, tmp_path: Path) -> Callable[[str], Agents]:
    return lambda toml: Agents(processes, tmp_path, toml)


@pytest.fixture
def link(processes: Processes, cloud: Cloud, tmp_path: Path) -> tuple[str, LinkControl]:
    """A link in front of the cloud: the address to dial, and what changes it."""
    control = tmp_path / "link.sock"
    argv = [sys.executable, "-m", "isthmus", "testbed", "link", "--listen", "127.0.0.1:0"]
    argv += ["--to", cloud.address, "--link", "5.85Mbps,20ms", "--control", str(control)]
    _, facts = processes.start_ready("link", argv)
    return str(facts["address"]), LinkControl(control)
