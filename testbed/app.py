"""A client application: asks a device over MQTT and waits for the answer."""

import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from protos.messages import Estimate, InferResult, PlanChanged, Problem, Reported
from protos.topics import Topics
from testbed.errors import TestbedError

CONNECT_LIMIT_S = 10.0
T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came back, and the seconds from publishing the request until the answer was here."""

    result: InferResult
    seconds: float

    @property
    def estimate(self) -> Estimate:
        """What the device knew by the time of its answer; nothing if it does not say."""
        found = self.result.placement.estimate
        return found if isinstance(found, Estimate) else Estimate()

    @property
    def label(self) -> str:
        """The best label of an answer that has one."""
        for tensor in self.result.outputs:
            if tensor.name == "label":
                return str(tensor.data[0])
        raise TestbedError("the answer has no tensor 'label'")


class App:
    """One application on the broker; as a context manager it is connected inside the block.

    Args:
        url: the broker, ``mqtt://host:port``.
        topics: of the device that is asked.
        v5: MQTT 5 with ResponseTopic and CorrelationData; else the contract's 3.1.1 fallback.
    """

    def __init__(self, url: str, topics: Topics, *, v5: bool = True) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 1883)
        self._topics, self._v5 = topics, v5
        self._name = f"app-{uuid.uuid4().hex[:8]}"
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._name,
            protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311,
        )
        self._client.on_socket_open = _no_delay
        self._client.on_message = self._took
        self._client.on_subscribe = self._granted
        self._ready = threading.Event()
        self._answers: dict[str, queue.SimpleQueue[tuple[float, bytes]]] = {}
        self._reported: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._changes: list[tuple[float, PlanChanged]] = []

    def __enter__(self) -> Self:
        try:
            self._client.connect(*self._address)
        except OSError as error:
            raise TestbedError(f"the broker at {self._address} does not answer: {error}") from error
        self._client.loop_start()
        device = f"{self._topics.root}/v1/d/{self._topics.device}"
        answers = self._inbox if self._v5 else f"{device}/infer/+/res/+"
        own = (self._topics.reported, self._topics.event("plan_changed"))
        self._client.subscribe([(topic, 1) for topic in (answers, *own)])
        if not self._ready.wait(CONNECT_LIMIT_S):
            raise TestbedError(f"the broker at {self._address} did not take our subscription")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def ask(self, model: str, message: bytes, *, timeout_s: float, limit_s: float) -> Answered:
        """Send the device one sensor message and wait for its answer.

        Args:
            model: the model's name on the device.
            message: an image file, say.
            timeout_s: the device's budget, counted from receipt.
            limit_s: how long we wait.

        Raises:
            TestbedError: no answer came in *limit_s*, or the device refused.
        """
        return self.send(model, message, timeout_s=timeout_s)(limit_s)

    def send(self, model: str, message: bytes, *, timeout_s: float) -> Callable[[float], Answered]:
        """As :meth:`ask`, in two steps: returns what waits for the answer."""
        correlation = uuid.uuid4()
        waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._answers[correlation.hex] = waiting
        began = time.perf_counter()
        if self._v5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ResponseTopic = self._inbox
            properties.CorrelationData = correlation.bytes
            properties.UserProperty = [("timeout-ms", str(round(timeout_s * 1e3)))]
            topic = self._topics.infer(model, "req")
            self._client.publish(topic, message, qos=1, properties=properties)
        else:
            self._client.publish(self._topics.infer(model, "req", correlation.hex), message, qos=1)

        def wait(limit_s: float) -> Answered:
            try:
                arrived, payload = waiting.get(timeout=limit_s)
            except queue.Empty:
                raise TestbedError(f"the device did not answer within {limit_s:g} s") from None
            finally:
                del self._answers[correlation.hex]
            return Answered(result=_result(payload), seconds=arrived - began)

        return wait

    def desire(self, version: int, models: dict[str, dict[str, str]], *, limit_s: float) -> None:
        """Publish a desired document and wait until the device reports that it is applied.

        Raises:
            TestbedError: the device rejects it, or says nothing in *limit_s*.
        """
        document = msgspec.json.encode({"version": version, "models": models})
        self._client.publish(self._topics.desired, document, qos=1, retain=True)
        deadline = time.monotonic() + limit_s
        while True:
            try:
                payload = self._reported.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty:
                raise TestbedError(
                    f"the device did not apply the desired document {version} in {limit_s:g} s"
                ) from None
            reported = msgspec.json.decode(payload, type=Reported)
            if reported.status == "rejected":
                raise TestbedError(f"the device rejects the plan: {reported.errors[0].msg}")
            if reported.status == "applied" and reported.applied_version == version:
                return

    @property
    def changes(self) -> tuple[tuple[float, PlanChanged], ...]:
        """The changes of plan that the device told of, each with its ``time.perf_counter``."""
        return tuple(self._changes)

    @property
    def _inbox(self) -> str:
        return self._topics.inbox(self._name)

    def _granted(self, *_: Any) -> None:  # noqa: ANN401  paho's signature
        self._ready.set()

    def _took(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        arrived = time.perf_counter()
        if message.topic == self._topics.reported:
            self._reported.put(bytes(message.payload))
            return
        if message.topic == self._topics.event("plan_changed"):
            change = msgspec.json.decode(bytes(message.payload), type=PlanChanged)
            self._changes.append((arrived, change))
            return
        if self._v5:
            key = bytes(getattr(message.properties, "CorrelationData", b"")).hex()
        else:
            key = message.topic.rsplit("/", 1)[-1]
        if (waiting := self._answers.get(key)) is not None:
            waiting.put((arrived, bytes(message.payload)))


def _result(payload: bytes) -> InferResult:
    try:
        return msgspec.json.decode(payload, type=InferResult)
    except msgspec.ValidationError:
        problem = msgspec.json.decode(payload, type=Problem)
        raise TestbedError(
            f"the device refuses: {problem.status} {problem.title}: {problem.detail}"
        ) from None


def _no_delay(_client: mqtt.Client, _userdata: object, sock: Any) -> None:  # noqa: ANN401
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
