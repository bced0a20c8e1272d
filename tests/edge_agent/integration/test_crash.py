"""What survives: kill -9, a stop, a broker that restarts, a request that comes twice."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edge_agent import journal
from testbed.broker import Broker, answers, mosquitto_path
from testbed.processes import Processes
from tests.edge_agent.integration.conftest import LIMIT_S, TOPICS, Agents, App, Cloud, Heard

pytestmark = pytest.mark.integration

OWN = TOPICS.infer("tiny", "res")


def about(correlation: bytes) -> Callable[[Heard], bool]:
    """Whether an answer is that to *correlation*."""
    return lambda heard: heard.correlation == correlation


def isthmus(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "isthmus", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_what_was_accepted_is_answered_after_kill_9(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    home = agents(with_cloud(cloud.address))
    agent = home.start()
    cloud.silent = True
    for number in (b"1", b"2"):
        app.ask(picture(1), CorrelationData=number, UserProperty=("timeout-ms", "60000"))
        cloud.asked.get(timeout=LIMIT_S)
    until_s = time.monotonic() + LIMIT_S
    while (counts := journal.count(home.state_dir / "outbox.sqlite")) is None or counts.pending < 2:
        assert time.monotonic() < until_s, counts  # the cloud may be asked before the disk is done
        time.sleep(0.01)
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait(LIMIT_S)
    assert app.heard(OWN) == []
    cloud.silent = False
    home.start()
    for number in (b"1", b"2"):
        assert app.wait(OWN, about(number)).user["status"] == "200"
    app.wait(TOPICS.status, lambda heard: heard.json["state"] == "online")


def test_the_same_request_again_gets_the_same_answer_and_is_run_once(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    agents(with_cloud(cloud.address)).start()
    app.ask(picture(1), CorrelationData=b"once")
    first = app.wait(OWN)
    app.ask(picture(1), CorrelationData=b"once")
    assert app.wait(OWN) == first
    app.ask(picture(2), CorrelationData=b"once")
    assert app.wait(OWN) != first  # another picture is another request
    assert cloud.asked.qsize() == 2


def test_a_duplicate_of_an_answer_is_known_after_a_restart(
    app: App, agents: Callable[[str], Agents], toml: str, picture: Callable[[int], bytes]
) -> None:
    home = agents(toml)
    agent = home.start()
    app.ask(picture(1), CorrelationData=b"once")
    first = app.wait(OWN)
    agent.stop()
    home.start()
    app.ask(picture(1), CorrelationData=b"once")
    assert app.wait(OWN) == first


def test_a_stop_finishes_what_was_accepted_and_says_goodbye(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    processes: Processes,
    picture: Callable[[int], bytes],
) -> None:
    home = agents(with_cloud(cloud.address))
    agent = home.start()
    cloud.silent = True
    app.ask(picture(1), UserProperty=("timeout-ms", "4000"))
    cloud.asked.get(timeout=LIMIT_S)
    os.kill(agent.pid, signal.SIGTERM)
    assert app.wait(OWN).result.placement.mode == "fallback"
    assert agent.wait(LIMIT_S) == 0
    app.wait(TOPICS.status, lambda heard: heard.json["state"] == "offline")
    assert [each.command for each in processes.left_running() if "edge" in each.command] == []
    counts = journal.count(home.state_dir / "outbox.sqlite")
    assert counts is not None
    assert (counts.pending, counts.settled) == (0, 1)


def test_a_request_that_came_while_the_agent_was_away_is_answered(
    app: App, agents: Callable[[str], Agents], toml: str, picture: Callable[[int], bytes]
) -> None:
    """The broker keeps the session for some minutes."""
    home = agents(toml)
    home.start().stop()
    app.ask(picture(1), CorrelationData=b"early")
    home.start()
    assert app.wait(OWN).correlation == b"early"


def wait_for_restart(broker: Broker, before: int) -> None:
    """Until the supervisor has started it again and it answers."""
    parts = urlsplit(broker.url)
    assert parts.hostname is not None
    assert parts.port is not None
    deadline_s = time.monotonic() + LIMIT_S
    while broker.pid == before or not answers(parts.hostname, parts.port, limit_s=0.5):
        assert time.monotonic() < deadline_s, "the broker was not started again"
        time.sleep(0.05)


def test_all_is_said_again_to_a_broker_that_forgot_it(
    broker: Broker, agents: Callable[[str], Agents], toml: str, picture: Callable[[int], bytes]
) -> None:
    """A broker that restarts has lost subscriptions and retained messages."""
    agents(toml).start()
    before = broker.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_for_restart(broker, before)
    with App(broker.url) as app:
        for topic in (TOPICS.status, TOPICS.info, TOPICS.reported):
            app.wait(topic)
        app.ask(picture(1))
        assert app.wait(OWN).user["status"] == "200"


def test_status_tells_what_an_agent_last_said(
    app: App,
    agents: Callable[[str], Agents],
    toml: str,
    tmp_path: Path,
    picture: Callable[[int], bytes],
) -> None:
    home = agents(toml)
    nothing = isthmus("edge", "status", "--config", home.config)
    assert nothing.returncode == 1
    assert nothing.stderr.count("\n") == 1
    assert "no agent has run with state_dir" in nothing.stderr
    agent = home.start()
    app.ask(picture(1))
    app.wait(OWN)
    found = isthmus("edge", "status", "--config", home.config, "--json")
    status = json.loads(found.stdout)
    assert (found.returncode, status["running"], status["said"]["state"]) == (0, True, "online")
    assert [each["plan"] for each in status["said"]["models"]] == ["device-only"]
    agent.stop()
    found = isthmus("edge", "status", "--config", home.config)
    assert (found.returncode, found.stdout.splitlines()[0][:20]) == (1, "cam-01: not running ")
    assert "0 pending, 1 answered" in found.stdout


def test_two_agents_do_not_share_a_state_folder(agents: Callable[[str], Agents], toml: str) -> None:
    home = agents(toml)
    agent = home.start()
    second = isthmus("edge", "run", "--config", home.config)
    assert second.returncode == 2
    (line,) = second.stderr.splitlines()
    assert line == (
        f"isthmus: another agent (pid {agent.pid}) uses {home.state_dir}: "
        "stop it, or give this one its own"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("tiny.onnx", "none.onnx"), "none.onnx"),
        (("[mqtt]", "colour = 1\n[mqtt]"), "unknown field `colour`"),
        (("steps = ", 'plan = "none.json"\nsteps = '), "none.json does not exist"),
    ],
)
def test_a_configuration_that_is_wrong_ends_in_one_sentence(
    agents: Callable[[str], Agents], toml: str, change: tuple[str, str], sentence: str
) -> None:
    home = agents(toml.replace(*change))
    found = isthmus("edge", "run", "--config", home.config)
    assert (found.returncode, found.stdout) == (2, "")
    (line,) = found.stderr.splitlines()
    assert sentence in line


def test_a_broker_that_refuses_us_ends_in_one_sentence(
    agents: Callable[[str], Agents], toml: str, processes: Processes, tmp_path: Path, broker: Broker
) -> None:
    port = int(broker.url.rpartition(":")[2])
    config = tmp_path / "strict.conf"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        strict = free.getsockname()[1]
    config.write_text(f"listener {strict} 127.0.0.1\nallow_anonymous false\n")
    program = mosquitto_path()
    assert program is not None
    child = processes.start("strict", [program, "-c", config])
    child.wait_for(lambda: answers("127.0.0.1", strict) or None)
    home = agents(toml.replace(str(port), str(strict)))
    found = isthmus("edge", "run", "--config", home.config)
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1] == (
        f"isthmus: the broker 127.0.0.1:{strict} refuses cam-01-agent: Not authorized; "
        "check mqtt.username, mqtt.password_file and rights"
    )
