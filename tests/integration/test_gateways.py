"""Two gateways of one Ray of two nodes: they share hosts and memory, and outlive each other."""

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import grpc
import numpy as np
import psutil
import pytest

from cloud_fn import client
from cloud_fn.config import Address
from cloud_fn.controller.messages import Standing
from cloud_fn.errors import GatewayRefused
from cloud_fn.functions.settings import Settings
from cloud_fn.registry import Catalog
from cloud_fn.registry.push import push
from protos import wire
from protos.invocation import Request, Tensor
from testbed.processes import Child, Processes
from testbed.scenarios.storm import cluster
from tests.cloud_fn.conftest import build_mlp

__all__ = ["build_mlp"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
BUDGET = 512 << 20
INPUT = np.arange(4, dtype=np.float32).reshape(1, 4)


class Gateway:
    """One that runs, as its clients know it."""

    def __init__(self, child: Child, address: str) -> None:
        self.child = child
        self.address = Address.parse(address)
        self._channel = grpc.insecure_channel(address)
        self._infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{wire.SERVICE}/ModelInfer"
        )

    def answer(self, function: str = "mlp") -> str:
        """Ask a function; gives the version that answered."""
        request = Request(model=function, inputs=(Tensor.of("x", INPUT),))
        reply = wire.decode_reply(self._infer(wire.encode_request(request), timeout=START_S))
        assert reply.outputs[0].array().shape == (1, 3)
        return reply.version

    def close(self) -> None:
        self._channel.close()

    def standing(self) -> Standing | None:
        """What the controller knows, None while it does not answer."""
        try:
            return client.show_controller(self.address, key=None)
        except GatewayRefused:
            return None

    def shown(self, holds: Callable[[Standing], bool]) -> Standing:
        """What the controller knows, once that is so of it."""
        pause = threading.Event()
        for _ in range(int(START_S / 0.1)):
            found = self.standing()
            if found is not None:
                within(found)
                if holds(found):
                    return found
            pause.wait(0.1)
        raise AssertionError(f"it never was so: {found}")


def within(found: Standing) -> None:
    """Whatever happens, gateways never hold more than there is."""
    for node in found.nodes:
        assert node.held_bytes <= node.budget_bytes == BUDGET


class Asking:
    """Asks a gateway again and again while it is open; every call must be answered."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self.count = 0

    def __enter__(self) -> Self:
        self._done = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._done.result(START_S)
        self._pool.shutdown()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            self._gateway.answer()
            self.count += 1


class Two:
    """A Ray of two nodes, and two gateways that joined it."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        environ = {
            **cluster.environ(str(folder)),
            "ISTHMUS_SERVE_RUNTIME_DIR": str(folder / "run"),
            "ISTHMUS_SERVE_MEMORY_BUDGET_BYTES": str(BUDGET),
        }
        self._processes, self._environ, self._folder = processes, environ, folder
        self.ray, facts = processes.start_ready(
            "ray", cluster.argv(2), environ=environ, cwd=ROOT, limit_s=START_S
        )
        self._at = str(facts["address"])
        with ThreadPoolExecutor(2) as starters:
            self.first, self.second = starters.map(self.start, ("first", "second"))

    def start(self, name: str) -> Gateway:
        words = [sys.executable, "-m", "isthmus", "serve", "--listen", "127.0.0.1:0"]
        words += ["--registry", str(self._folder / "registry"), "--ray-address", self._at]
        child, said = self._processes.start_ready(
            name, words, environ=self._environ, cwd=ROOT, limit_s=START_S
        )
        return Gateway(child, str(said["address"]))

    def actors(self, kind: str) -> list[psutil.Process]:
        """The actors of that class which live."""
        found = []
        for each in psutil.Process(self.ray.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if each.cmdline()[:1] == [f"ray::{kind}"] and each.status() != "zombie":
                    found.append(each)
        return found


@pytest.fixture(scope="module")
def two(build_mlp: Callable[..., Path]) -> Iterator[Two]:
    with tempfile.TemporaryDirectory(prefix="is-", dir="/tmp") as text:  # Ray makes sockets there
        folder = Path(text)
        for name in ("mlp", "cold"):
            push(Catalog(folder / "registry"), build_mlp(folder / f"{name}.onnx"), name=name)
        with Processes(folder / "logs") as processes:
            made = Two(processes, folder)
            yield made
            for gateway in (made.first, made.second):
                gateway.close()


def names(found: Standing) -> set[str]:
    return {each.name for each in found.instances}


def owners(found: Standing) -> Counter[str]:
    return Counter(each.gateway for each in found.instances)


def test_two_gateways_share_hosts_and_the_registry(
    two: Two, build_mlp: Callable[..., Path], tmp_path: Path
) -> None:
    """What is published or set through one holds at the other's next request."""
    gateways = (two.first, two.second)
    assert [each.answer() for each in gateways] == ["1", "1"]
    catalog = Catalog(two._folder / "registry")
    push(catalog, build_mlp(tmp_path / "mlp.onnx", seed=1))
    assert [each.answer() for each in gateways] == ["2", "2"]
    client.set_function(two.first.address, "mlp", Settings(model="mlp:1"), key=None)
    assert two.second.answer() == "1"
    found = two.first.shown(lambda found: len(owners(found)) == 2)
    for host in found.hosts:
        assert [each for each in found.hosts if each.node == host.node] == [host]
    assert 2 in {len(host.gateways) for host in found.hosts}
    assert len(found.gateways) == 2
    shared = [node for node in found.nodes if node.id in {each.node for each in found.hosts}]
    assert shared
    assert {share.gateway for share in found.shares} == {each.id for each in found.gateways}


def test_a_controller_that_is_killed_costs_no_request_and_is_there_again(two: Two) -> None:
    before = two.first.shown(lambda found: len(owners(found)) == 2)
    (controller,) = two.actors("ControllerActor")
    with Asking(two.first) as first, Asking(two.second) as second:
        controller.kill()
        controller.wait(START_S)
        assert two.second.answer("cold") == "1"  # an instance starts without it
        after = two.first.shown(lambda found: found.gathered and names(found) > names(before))
        asked = first.count, second.count
    assert min(asked) > 0
    assert {each.id for each in after.gateways} == {each.id for each in before.gateways}
    (later,) = two.actors("ControllerActor")
    assert later.pid != controller.pid


def test_what_a_killed_gateway_had_is_free_for_the_other(two: Two) -> None:
    before = two.first.shown(lambda found: len(owners(found)) == 2)
    killed = f"-{two.second.child.pid}-"
    with Asking(two.first) as first:
        os.kill(two.second.child.pid, signal.SIGKILL)
        began_s = time.monotonic()
        after = two.first.shown(
            lambda found: (
                len(found.gateways) == 1
                and all(share.held_bytes == BUDGET for share in found.shares)
            )
        )
        print(f"free after {time.monotonic() - began_s:.1f} s")  # noqa: T201  shown by pytest -s
    assert first.count > 0
    assert [each for each in before.instances if killed in each.gateway]
    assert [each for each in after.instances if killed in each.gateway] == []
    assert {host.gateways for host in after.hosts} <= {(after.gateways[0].id,), ()}


def test_the_last_gateway_that_stops_leaves_nothing(two: Two) -> None:
    two.first.child.stop(START_S)
    pause = threading.Event()
    for _ in range(int(START_S / 0.1)):
        if not two.actors("ControllerActor") and not two.actors("SharedHostActor"):
            break
        pause.wait(0.1)
    assert two.actors("ControllerActor") == two.actors("SharedHostActor") == []
    assert [path.name for path in (two._folder / "run").iterdir() if path.is_dir()] == [
        str(two.second.child.pid)  # the next server on that node clears it
    ]
