"""A gateway whose Ray was joined, and loses its head."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest

from cloud_fn.registry import Catalog
from cloud_fn.registry.push import push
from protos import wire
from protos.invocation import Request, Tensor
from testbed.bench.functions.generated import identity
from testbed.processes import Child, Processes
from testbed.scenarios.storm import cluster

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
VALUE = np.arange(8, dtype=np.float32)
GONE_S = 60.0  # for the gateway to give up a head that does not come back


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="is-", dir="/tmp") as text:  # Ray makes sockets there
        yield Path(text)


class Joined:
    """A Ray of one node, and a gateway that joined it."""

    def __init__(self, processes: Processes, folder: Path, name: str) -> None:
        environ = cluster.environ(str(folder))
        self.ray, facts = processes.start_ready(
            f"ray-{name}", cluster.argv(1), environ=environ, cwd=ROOT, limit_s=GONE_S
        )
        self.at = str(facts["address"])
        words = [sys.executable, "-m", "isthmus", "serve", "--listen", "127.0.0.1:0"]
        words += ["--registry", str(folder / "registry"), "--ray-address", self.at]
        self.gateway: Child
        self.gateway, said = processes.start_ready(
            f"serve-{name}", words, environ=environ, cwd=ROOT, limit_s=GONE_S
        )
        self._address = str(said["address"])

    def answer(self) -> np.ndarray:
        request = Request(model="same", inputs=(Tensor.of("x", VALUE),))
        with grpc.insecure_channel(self._address) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                f"/{wire.SERVICE}/ModelInfer"
            )
            reply = wire.decode_reply(call(wire.encode_request(request), timeout=GONE_S))
        return reply.outputs[0].array()


@pytest.mark.timeout(240)
def test_a_gateway_whose_head_is_lost_says_so_and_leaves_and_the_next_serves(folder: Path) -> None:
    push(Catalog(folder / "registry"), identity(folder, VALUE.size), name="same")
    with Processes(folder / "logs") as processes:
        first = Joined(processes, folder, "first")
        assert np.array_equal(first.answer(), VALUE)
        family = [psutil.Process(pid) for pid in (first.gateway.pid, first.ray.pid)]
        family += [each for process in family for each in process.children(recursive=True)]
        for each in family[1:]:
            each.kill()  # the head, its node and the cluster, as when a machine is lost

        assert first.gateway.wait(GONE_S) == 2
        assert first.gateway.last_line() == (
            f"isthmus: the Ray at {first.at} has ended: start it, and then the server"
        )
        _, left = psutil.wait_procs(family, timeout=5.0)
        assert left == []

        second = Joined(processes, folder, "second")
        assert np.array_equal(second.answer(), VALUE)
