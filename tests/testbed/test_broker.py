"""The broker: a configured one wins, ours is on loopback, and it comes back when it dies."""

import os
import signal
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

import testbed.broker
from testbed.broker import Broker, answers, mosquitto_config, mosquitto_path
from testbed.errors import NotInstalled, TestbedError
from testbed.processes import Processes

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(mosquitto_path() is None, reason="needs mosquitto"),
]

LIMIT_S = 20.0


def port_of(broker: Broker) -> int:
    port = urlsplit(broker.url).port
    assert port is not None
    return port


def round_trip(port: int, version: MQTTProtocolVersion) -> bytes:
    """Publish one message and wait until it is back."""
    arrived = threading.Event()
    got: list[bytes] = []

    def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        got.append(bytes(message.payload))
        arrived.set()

    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version)
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.subscribe("isthmus/test", qos=1)  # the broker takes packets in order
    client.publish("isthmus/test", b"hello", qos=1)
    client.loop_start()
    try:
        assert arrived.wait(LIMIT_S)
    finally:
        client.disconnect()
        client.loop_stop()
    return got[0]


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311])
def test_a_message_goes_round(tmp_path: Path, version: MQTTProtocolVersion) -> None:
    with Processes(tmp_path) as processes, Broker(processes) as broker:
        assert round_trip(port_of(broker), version) == b"hello"


def test_it_listens_on_loopback_only_and_says_what_it_is(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes, Broker(processes) as broker:
        assert broker.how == (
            f"mosquitto ({mosquitto_path()}) on port {port_of(broker)}, started here"
        )
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(broker.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"]


def test_nothing_is_left_when_it_has_stopped(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        with Broker(processes) as broker:
            assert broker.pid in [left.pid for left in processes.left_running()]
        assert processes.left_running() == ()


def test_it_comes_back_on_the_same_port_when_it_dies(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes, Broker(processes) as broker:
        first = broker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        waiting = threading.Event()
        for _ in range(1000):
            if broker.pid != first and answers("127.0.0.1", port_of(broker)):
                break
            waiting.wait(0.02)
        assert round_trip(port_of(broker), MQTTProtocolVersion.MQTTv5) == b"hello"
        assert broker.restarts == 1


def test_a_configured_broker_wins_and_nothing_is_started(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes, Broker(processes) as ours:
        with Broker(processes, url=ours.url) as configured:
            assert (configured.url, configured.how, configured.pid) == (
                ours.url,
                f"the configured broker {ours.url}",
                None,
            )
        assert answers("127.0.0.1", port_of(ours))  # and it is not stopped with the block


def test_a_configured_broker_that_does_not_answer_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        url = f"mqtt://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(TestbedError) as caught:
            Broker(Processes(tmp_path), url=url).start()
    assert str(caught.value) == (
        f"the broker at {url} does not answer: start it, or leave the address out to have one "
        "started here"
    )


@pytest.mark.parametrize("url", ["localhost:1883", "http://a:1", "mqtt://", "mqtt://a:port", "["])
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(TestbedError, match="is no broker's address: write it as mqtt://HOST:PORT"):
        Broker(Processes(tmp_path), url=url).start()


def test_without_any_broker_the_command_that_installs_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testbed.broker, "mosquitto_path", lambda: None)
    monkeypatch.setattr(testbed.broker, "has_amqtt", lambda: False)
    with pytest.raises(NotInstalled) as caught:
        Broker(Processes(tmp_path)).start()
    assert str(caught.value) == (
        "there is no MQTT broker: run `apt-get install mosquitto`, or give the address of one "
        "you have"
    )


def test_a_port_taken_in_the_meantime_is_left_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken, Processes(tmp_path) as processes:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free_port = testbed.broker._free_port
        ports = iter([taken.getsockname()[1]])
        monkeypatch.setattr(testbed.broker, "_free_port", lambda: next(ports, None) or free_port())
        with Broker(processes) as broker:
            assert port_of(broker) != taken.getsockname()[1]


def test_the_config_is_the_least_that_is_safe() -> None:
    lines = mosquitto_config(1234).splitlines()
    assert lines[0] == "listener 1234 127.0.0.1"
    assert {"set_tcp_nodelay true", "persistence false", "sys_interval 0"} <= set(lines)
