"""A host without Ray: what its gateway may ask of it, and what is left when it is gone."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud_fn import processes
from cloud_fn.errors import InstanceLost
from cloud_fn.functions.host_calls import Close
from protos.frames import PeerClosed
from tests.cloud_fn.hosting import (
    WAIT_S,
    RunningHost,
    a_function,
    mark_of,
    running,
    start_host,
    until,
)

CONNECT = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
print(len(peer.recv(1)))
"""


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    folder = Path(tempfile.mkdtemp(prefix="is-", dir="/tmp"))
    with RunningHost(folder / "cpu") as served:
        yield served
    shutil.rmtree(folder)


def test_an_instance_answers_on_a_socket_that_only_its_owner_may_open(host: RunningHost) -> None:
    instance = host.start()
    assert instance.do("echo", [1, "two"]) == [1, "two"]
    assert instance.name.startswith("rogue-1-")
    assert instance.socket.stat().st_mode & 0o777 == 0o600
    host.end(instance)


def test_an_instance_stands_alone(host: RunningHost) -> None:
    instance = host.start()
    about = instance.do("about")
    own = str(host.folder / instance.name.rpartition("-")[2])
    assert (about["pid"], about["session"]) == (instance.pid, instance.pid)
    assert (about["folder"], about["home"], about["temporary"]) == (own, own, own)
    assert about["cluster"] == []
    host.end(instance)


def test_the_program_that_a_host_runs_in_is_not_imported_again(host: RunningHost) -> None:
    """Ray's takes more than a second."""
    instance = host.start()
    assert instance.do("about")["main"] == "__main__"  # else it is "__mp_main__"
    host.end(instance)


def test_more_starts_at_once_than_there_are_spares_all_get_an_instance(host: RunningHost) -> None:
    def start(number: int) -> tuple[int, object]:
        instance = host.start()
        return instance.pid, instance.do("echo", number)

    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(start, range(12)))
    assert [answer for _, answer in found] == list(range(12))
    assert len({pid for pid, _ in found}) == 12
    until(lambda: host.well().spares == 2)


def test_an_ended_instance_leaves_no_process_folder_or_socket(host: RunningHost) -> None:
    instance = host.start()
    folder = Path(instance.do("about")["folder"])
    instance.do("write", "a-file")
    assert (folder / "a-file").exists()
    host.end(instance)
    assert not running(instance.pid)
    assert not folder.exists()
    assert not instance.socket.exists()
    instance.await_end()


def test_a_host_knows_why_an_instance_ended(host: RunningHost) -> None:
    crashed, left, dismissed = host.start(), host.start(), host.start()
    os.kill(crashed.pid, 11)
    left.begin("exit", 3)
    host.end(dismissed)
    assert [host.why(each)[0] for each in (crashed, left, dismissed)] == [
        "it was killed by SIGSEGV",
        "it left with exit code 3",
        None,
    ]


def test_an_instance_that_runs_has_not_ended(host: RunningHost) -> None:
    instance = host.start()
    assert host.why(instance) == (None, b"")
    host.end(instance)


def test_a_function_that_cannot_be_made_is_refused_in_a_sentence(host: RunningHost) -> None:
    with pytest.raises(
        InstanceLost, match=r"^no instance of broken-1 could start: ValueError: a function that can"
    ):
        host.start(a_function("broken"))


def test_processors_that_are_not_there_are_refused_in_a_sentence(host: RunningHost) -> None:
    with pytest.raises(InstanceLost, match="no instance of rogue-1 could start: OSError"):
        host.start(cpus=(9999,))


def test_nobody_but_the_gateway_is_let_in(host: RunningHost) -> None:
    instance = host.start()
    for path in (host.folder / "host.sock", instance.socket):
        done = subprocess.run(
            [sys.executable, "-c", CONNECT, str(path)],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=True,
        )
        assert done.stdout.strip() == "0"
    assert instance.do("echo", 1) == 1
    host.end(instance)


def test_a_host_loads_no_models_itself(host: RunningHost) -> None:
    maps = Path(f"/proc/{host.process.pid}/maps").read_text()
    assert "onnx" not in maps


def test_closing_a_host_leaves_nothing(short: Path) -> None:
    with RunningHost(short / "cpu") as host:
        hidden = host.start().do("hide")
        family = host.family()
        with contextlib.suppress(PeerClosed):  # it may be gone before it can say so
            host.ask(Close())
        host.process.wait(WAIT_S)
        assert [pid for pid in (*family, hidden) if running(pid)] == []
    assert list(short.iterdir()) == []


def test_a_host_ends_with_its_gateway(short: Path) -> None:
    gateway = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    host = start_host(short / "cpu", gateway=mark_of(gateway.pid))
    until((short / "cpu" / "host.sock").exists)
    family = processes.tree(host.pid)
    assert len(family) > 3
    gateway.kill()
    gateway.wait()
    assert host.wait(WAIT_S) == 0
    until(lambda: not any(map(running, family)))
    assert list(short.iterdir()) == []


def test_a_host_whose_gateway_is_gone_already_does_not_begin(short: Path) -> None:
    gateway = subprocess.Popen([sys.executable, "-c", ""])
    mark = mark_of(gateway.pid)
    gateway.wait()
    assert start_host(short / "cpu", gateway=mark).wait(WAIT_S) == 0
    assert list(short.iterdir()) == []
