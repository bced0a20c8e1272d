"""Which host an instance comes from. Stations are played by the test, hosts answer pings alone."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_fn.errors import InstanceLost
from cloud_fn.functions import host_calls
from cloud_fn.functions.heartbeat import Pulse
from cloud_fn.functions.host_calls import Close, Done, Well
from cloud_fn.functions.listener import listening
from cloud_fn.functions.nodes import Node, Resources
from cloud_fn.functions.placing import Picked, Placing
from cloud_fn.functions.reach import Address, Near
from cloud_fn.functions.stations import Hopeless
from protos.errors import WireError
from tests.cloud_fn.hosting import WAIT_S, mark_of, until

PULSE = Pulse(again_s=0.05)


class Standing:
    """A station whose host comes up when the test says so."""

    comes_back = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.placed = threading.Semaphore(0)
        self.given_up = threading.Event()
        self.hopeless: str | None = None
        self._socket: socket.socket | None = None
        self._connections: list[socket.socket] = []

    def place(self) -> None:
        self.placed.release()

    def address(self) -> Address:
        if self.hopeless is not None:
            raise Hopeless(self.hopeless)
        return Near(self.path)

    def complaint(self) -> str | None:
        return None

    def end(self) -> None:
        pass

    def give_up(self) -> None:
        self.given_up.set()

    def come(self) -> None:
        self._socket = listening(self.path)
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def go(self) -> None:
        for each in (self._socket, *self._connections):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self.path.unlink(missing_ok=True)
        self._socket = None

    def _accept(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = sock.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        well = Well(host=mark_of(os.getpid()), busy_s=0.0, spares=1, instances=0)
        with contextlib.suppress(OSError, WireError):
            while True:
                request, _ = host_calls.receive(connection)
                host_calls.send(connection, Done() if isinstance(request, Close) else well)


class Cluster:
    """Nodes ``own`` and ``far`` with a CPU each, and what is placed on them."""

    def __init__(self, folder: Path) -> None:
        self.nodes = tuple(Node(id=name, address="127.0.0.1", cpus=1.0) for name in ("own", "far"))
        self.stations = {node.id: Standing(folder / f"{node.id}.sock") for node in self.nodes}
        self.asked: list[str] = []
        self.placing = Placing(
            lambda: self.nodes,
            own="own",
            kinds={"cpu": Resources(), "cuda": Resources(gpus=1.0)},
            station=self._station,
            pulse=PULSE,
        )

    def pick(self, kind: str = "cpu", within_s: float = WAIT_S) -> Picked:
        return self.placing.pick(kind, time.monotonic() + within_s)

    def is_there(self, node: str) -> bool:
        heart = self.placing.find(node, "cpu")
        return heart is not None and heart.address is not None

    def _station(self, node: Node, kind: str) -> Standing:
        self.asked.append(f"{node.id} {kind}")
        return self.stations[node.id]


@pytest.fixture
def cluster(short: Path) -> Iterator[Cluster]:
    made = Cluster(short)
    yield made
    made.placing.close()
    for station in made.stations.values():
        station.go()


def both(cluster: Cluster) -> None:
    """Have both hosts there, and no instance counted."""
    for station in cluster.stations.values():
        station.come()
    for _ in range(2):
        cluster.placing.count(cluster.pick().node, 0)
    until(lambda: cluster.is_there("far"))
    cluster.placing.count("own", -2)


def test_no_more_hosts_are_placed_than_are_wanted(cluster: Cluster) -> None:
    cluster.stations["own"].come()
    assert cluster.pick().node == "own"
    assert cluster.asked == ["own cpu"]


def test_a_host_that_has_yet_to_come_is_not_waited_for_and_takes_its_share_later(
    cluster: Cluster,
) -> None:
    cluster.stations["own"].come()
    assert [cluster.pick().node for _ in range(3)] == ["own", "own", "own"]
    assert cluster.asked == ["own cpu", "far cpu"]
    cluster.stations["far"].come()
    until(lambda: cluster.is_there("far"))
    assert [cluster.pick().node for _ in range(4)] == ["far", "far", "far", "own"]


def test_where_no_host_is_there_the_first_that_comes_is_taken(cluster: Cluster) -> None:
    cluster.stations["own"].hopeless = "it cannot read the registry"
    cluster.stations["far"].come()
    assert cluster.pick().node == "far"


def test_a_node_where_a_start_failed_is_tried_last(cluster: Cluster) -> None:
    both(cluster)
    cluster.placing.avoid("own")
    assert [cluster.pick().node for _ in range(2)] == ["far", "far"]


def test_an_instance_that_ended_makes_room(cluster: Cluster) -> None:
    both(cluster)
    assert [cluster.pick().node for _ in range(2)] == ["own", "far"]
    cluster.placing.count("far", -1)
    assert cluster.pick().node == "far"


def test_a_host_that_is_lost_is_passed_by_and_placed_again(cluster: Cluster) -> None:
    both(cluster)
    far = cluster.stations["far"]
    assert far.placed.acquire(timeout=WAIT_S)
    far.go()
    until(lambda: not cluster.is_there("far"))
    assert [cluster.pick().node for _ in range(2)] == ["own", "own"]
    assert far.placed.acquire(timeout=WAIT_S)


def test_a_node_that_is_lost_takes_its_host_along(cluster: Cluster) -> None:
    both(cluster)
    own, far = cluster.nodes
    cluster.nodes = (own,)
    cluster.placing.lose(far)
    assert cluster.stations["far"].given_up.wait(WAIT_S)
    assert cluster.placing.find("far", "cpu") is None
    assert [cluster.pick().node for _ in range(2)] == ["own", "own"]


def test_who_waits_too_long_is_told_why_no_host_came(cluster: Cluster) -> None:
    for station in cluster.stations.values():
        station.hopeless = "node x cannot read /registry: mount it there"
    with pytest.raises(InstanceLost, match="node x cannot read /registry: mount it there"):
        cluster.pick(within_s=0.5)


def test_a_kind_that_no_node_has_the_resources_for_is_said_so_at_once(cluster: Cluster) -> None:
    with pytest.raises(InstanceLost, match="no node has what a host of cuda instances needs"):
        cluster.pick("cuda")


def test_an_unknown_kind_is_named_with_those_that_there_are(cluster: Cluster) -> None:
    with pytest.raises(InstanceLost, match="no host of kind 'tpu': this server has cpu, cuda"):
        cluster.pick("tpu")


def test_nothing_is_picked_once_it_is_closed(cluster: Cluster) -> None:
    both(cluster)
    cluster.placing.close()
    assert {station.given_up.is_set() for station in cluster.stations.values()} == {True}
    with pytest.raises(InstanceLost):
        cluster.pick()
