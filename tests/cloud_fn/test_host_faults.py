"""Hosts that die or hang, and what their gateway makes of it. Ray's part is played by the test."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import psutil
import pytest

from cloud_fn import processes
from cloud_fn.errors import InstanceLost
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.heartbeat import Heartbeat, Pulse
from cloud_fn.functions.host_calls import Reason, Start, Started, Why
from cloud_fn.functions.stations import NearStation
from cloud_fn.runtime_dir import HostFolder
from protos.errors import WireError
from tests.cloud_fn.hosting import WAIT_S, Instance, a_function, running, start_host, until

FUNCTION = msgspec.json.encode(a_function())
START = Start(label="rogue-1", confinement=Confinement(), timeout_s=WAIT_S)


class Placer:
    """Starts hosts, and starts each again that ends, as Ray does; all are ended afterwards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._closing = threading.Event()
        self.hosts: list[subprocess.Popen[bytes]] = []
        self.asked = 0
        self._threads: list[threading.Thread] = []

    def place(self) -> None:
        self.asked += 1
        thread = threading.Thread(target=self._keep)
        self._threads.append(thread)
        thread.start()

    def _keep(self) -> None:
        while not self._closing.is_set():
            host = start_host(self._folder)
            self.hosts.append(host)
            host.wait()

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            while thread.is_alive():  # it may be about to start one more
                for host in self.hosts:
                    host.kill()
                thread.join(0.1)


class Watched:
    """A host under a heartbeat, with what a gateway does to it."""

    def __init__(self, folder: Path, pulse: Pulse) -> None:
        self.placer = Placer(folder)
        self.heart = Heartbeat(
            "cpu", NearStation(HostFolder(folder), self.placer.place), pulse=pulse
        )
        self.heart.start()
        self._instances: list[Instance] = []

    def pid(self) -> int:
        return self.heart.reach(_soon()).pid

    def fork_server(self) -> int:
        (found,) = [
            pid
            for pid in processes.children(self.pid())
            if running(pid) and psutil.Process(pid).name() == "isthmus-forks"
        ]
        return found

    def start(self) -> Instance:
        """Start one as a launcher does: again when the host is lost on the way."""
        until_s = _soon()
        while True:
            self.heart.reach(until_s)
            try:
                reply, _ = self.heart.ask(START, FUNCTION, timeout_s=WAIT_S)
            except (OSError, WireError):
                continue
            assert isinstance(reply, Started)
            self._instances.append(Instance(reply))
            return self._instances[-1]

    def why(self, instance: Instance) -> str | None:
        reply, _ = self.heart.ask(Why(name=instance.name), timeout_s=WAIT_S)
        assert isinstance(reply, Reason)
        return reply.why

    def close(self) -> None:
        self.heart.close()
        self.placer.close()
        for instance in self._instances:
            instance.connection.close()


def _soon() -> float:
    return time.monotonic() + WAIT_S


@pytest.fixture
def watch(short: Path) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(**pulse: float) -> Watched:
        made.append(Watched(short / "cpu", Pulse(**pulse)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_killed_hosts_instances_end_with_it_and_a_new_one_takes_over(
    watch: Callable[..., Watched],
) -> None:
    watched = watch()
    instance, host = watched.start(), watched.pid()
    family = processes.tree(host)
    os.kill(host, signal.SIGKILL)
    instance.await_end()
    assert watched.start().do("echo", 1) == 1
    assert watched.pid() != host
    until(lambda: not any(map(running, family)))


def test_a_hung_host_is_killed_with_all_it_has_and_replaced(watch: Callable[..., Watched]) -> None:
    """Ray does not notice it, ever."""
    watched = watch()
    instance, host = watched.start(), watched.pid()
    child = instance.do("leave")
    family = processes.tree(host)
    os.kill(host, signal.SIGSTOP)
    instance.await_end()
    until(lambda: not any(map(running, (*family, child))))
    assert watched.start().do("echo", 1) == 1
    assert watched.pid() != host
    assert watched.placer.asked == 1


def test_a_start_that_was_asked_of_a_hung_host_is_served_by_the_next(
    watch: Callable[..., Watched],
) -> None:
    watched = watch()
    host = watched.pid()
    os.kill(host, signal.SIGSTOP)
    assert watched.start().do("echo", 1) == 1


def test_a_killed_fork_server_takes_its_instances_along_and_its_host_starts_another(
    watch: Callable[..., Watched],
) -> None:
    watched = watch()
    instance, host, server = watched.start(), watched.pid(), watched.fork_server()
    started = [instance.do(way) for way in ("child", "leave", "hide")]
    os.kill(server, signal.SIGKILL)
    instance.await_end()
    assert watched.why(instance) == "the fork server that it came from ended"
    until(lambda: not any(map(running, started)))
    assert watched.start().do("echo", 1) == 1
    assert watched.pid() == host
    assert watched.fork_server() != server


def test_a_host_whose_fork_server_hangs_is_replaced(watch: Callable[..., Watched]) -> None:
    watched = watch(every_s=0.1, busy_s=1.5)
    host = watched.pid()
    os.kill(watched.fork_server(), signal.SIGSTOP)
    for _ in range(2):
        watched.start()  # what was forked before
    assert watched.start().do("echo", 1) == 1
    assert not running(host)


def test_a_crashed_instance_is_nobody_elses_loss(watch: Callable[..., Watched]) -> None:
    watched = watch()
    instance, neighbour, host = watched.start(), watched.start(), watched.pid()
    os.kill(instance.pid, signal.SIGSEGV)
    instance.await_end()
    assert watched.why(instance) == "it was killed by SIGSEGV"
    assert neighbour.do("echo", 1) == 1
    assert watched.pid() == host


def test_a_host_that_does_not_come_up_is_placed_again(short: Path) -> None:
    asked = threading.Semaphore(0)
    heart = Heartbeat(
        "cpu", NearStation(HostFolder(short / "cpu"), asked.release), pulse=Pulse(place_s=0.1)
    )
    heart.start()
    with closing(heart):
        for _ in range(3):
            assert asked.acquire(timeout=WAIT_S)
        with pytest.raises(InstanceLost, match="host of cpu instances did not come up in time"):
            heart.reach(0.0)


def test_a_host_that_cannot_be_one_says_why_to_whoever_waits(short: Path) -> None:
    """Here because its path leaves no room for sockets."""
    folder = short / ("x" * 80)
    hosts: list[subprocess.Popen[bytes]] = []
    heart = Heartbeat(
        "cpu", NearStation(HostFolder(folder), lambda: hosts.append(start_host(folder)))
    )
    heart.start()

    def refusal() -> str:
        with pytest.raises(InstanceLost) as caught:
            heart.reach(0.0)
        return str(caught.value)

    with closing(heart):
        until(lambda: refusal().endswith("did not come up in time: AF_UNIX path too long"))
    assert hosts[0].wait(WAIT_S) == 1


def test_a_host_that_cannot_be_placed_is_tried_again(
    short: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = threading.Semaphore(0)

    def fail() -> None:
        asked.release()
        raise RuntimeError("no node\nis left")

    heart = Heartbeat("cpu", NearStation(HostFolder(short / "cpu"), fail), pulse=Pulse(place_s=0.1))
    heart.start()
    with closing(heart):
        for _ in range(2):
            assert asked.acquire(timeout=WAIT_S)
    assert "host not placed: kind=cpu error=no node is left" in caplog.text
