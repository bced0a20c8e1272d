"""A gateway in a Ray of two nodes, one of which hangs, and then loses its power; tells as JSON."""

import json
import logging
import os
import re
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import psutil

from cloud_fn import runtime_dir
from cloud_fn.config import Ray
from cloud_fn.functions import Answer, Function, Limits, Pool
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.heartbeat import Tenant
from cloud_fn.functions.nodes import Node, Resources
from cloud_fn.functions.slot import Slot
from cloud_fn.registry import Catalog
from cloud_fn.registry.push import push
from cloud_fn.runtime_dir import RuntimeDir
from planner.model import read
from protos import wire
from protos.invocation import Request, Tensor

if TYPE_CHECKING:
    from cloud_fn.functions.ray_launcher import RayLauncher

START_S = 60.0
CALLS = 20
LIMITS = Limits(concurrency=5, min_instances=4, max_instances=8, max_execution_s=60.0)
LOOPBACK = "127.0.0.1"

HANDLER = """
import os, time
GATE = os.path.join(os.path.dirname(__file__), "open")
def holds(arrays):
    for _ in range(5000):
        if os.path.exists(GATE):
            return arrays
        time.sleep(0.01)
    raise RuntimeError("the gate stayed shut")
"""


class Heard(logging.Handler):
    """What was logged, and when, on ``time.monotonic``."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._lines: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self._lines.append((time.monotonic(), record.getMessage()))
            self._changed.notify_all()

    def wait(self, pattern: str, *, since_s: float = 0.0) -> tuple[float, str]:
        """The first line that matches and was logged after *since_s*."""

        def found() -> tuple[float, str] | None:
            lines = ((at, line) for at, line in self._lines if at >= since_s)
            return next(((at, line) for at, line in lines if re.search(pattern, line)), None)

        with self._changed:
            line = self._changed.wait_for(found, START_S)
        assert line is not None, f"never heard: {pattern}"
        return line


class Nodes:
    """A gateway's pool over two nodes, its own and *far*, and a function whose calls are held."""

    def __init__(self, pool: Pool, function: Function, model: Path, far: Node, gate: Path) -> None:
        self.far = far
        self._pool = pool
        self._function = function
        self._gate = gate
        self._model = read(model).piece(["x"], ["y"])
        self._threads = ThreadPoolExecutor(CALLS)

    def spread(self) -> dict[str, int]:
        """The instances on each node, once there are as many as there should be."""
        self._pool.deploy(self._function)
        until(lambda: len(self._slot().lives) == LIMITS.min_instances)
        found = [live.running for live in self._slot().lives]
        nodes = Counter(running.node == self.far.id for running in found)
        return {"near": nodes[False], "far": nodes[True]}

    def call(self) -> list["Future[Answer]"]:
        """Begin calls on all instances, and hold them there."""
        self._gate.unlink(missing_ok=True)
        begun = [self._threads.submit(self._call, number) for number in range(CALLS)]
        until(lambda: self._slot().in_use == CALLS)
        return begun

    def right(self, begun: list["Future[Answer]"]) -> int:
        """Let the calls go on; how many are answered, and rightly."""
        self._gate.touch()
        answers = [future.result(START_S) for future in begun]
        return sum(
            np.allclose(_output(answer), self._model.run({"x": _input(number)})["y"], atol=1e-5)
            for number, answer in enumerate(answers)
        )

    def _slot(self) -> Slot:
        return self._pool.slot(self._function)

    def _call(self, number: int) -> Answer:
        tensors = (Tensor.of("x", _input(number)),)
        body = wire.encode_request(Request(model="mlp", inputs=tensors))
        return self._pool.call(self._function, body)


def _input(number: int) -> Any:  # noqa: ANN401  an array
    return np.random.default_rng(number).standard_normal((1, 4)).astype(np.float32)


def _output(answer: Answer) -> Any:  # noqa: ANN401  an array
    return wire.decode_reply(answer.body).outputs[0].array()


def until(done: Any) -> None:  # noqa: ANN401  a condition
    """Wait for something that nobody announces, for so long at most."""
    pause = threading.Event()
    for _ in range(int(START_S / 0.02)):
        if done():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen")


def stop(pid: int) -> float:
    os.kill(pid, signal.SIGSTOP)
    return time.monotonic()


def cut_power(raylet: int) -> None:
    """End a node's processes as if at one moment: none sees another go first."""
    family = [psutil.Process(raylet), *psutil.Process(raylet).children(recursive=True)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in family:
            process.send_signal(number)


def two(folder: Path, stack: ExitStack) -> tuple[Any, Any]:
    """Start a Ray of two nodes; gives it, and the node that is not the gateway's."""
    os.environ.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(32),
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        RAY_TMPDIR=str(folder),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_worker_niceness="0",
    )
    from ray.cluster_utils import Cluster

    given: dict[str, Any] = {
        "num_cpus": 1,
        "node_ip_address": LOOPBACK,
        "object_store_memory": 80 << 20,
    }
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **given})
    stack.callback(cluster.shutdown)
    return cluster, cluster.add_node(**given)


def join(cluster: Any, folder: Path, stack: ExitStack) -> "RayLauncher":  # noqa: ANN401  Ray's
    """Have a launcher on both nodes, whose own host is there."""
    from cloud_fn.functions.ray_launcher import RayLauncher
    from cloud_fn.ray_cluster import RayCluster

    (folder / "registry").mkdir()
    runtime = RuntimeDir.create(folder / "run")
    stack.callback(runtime.remove)
    joined = RayCluster(Ray(address=cluster.address), runtime.path / "ray")
    stack.callback(joined.stop)
    joined.start()
    launcher = RayLauncher(
        runtime,
        kinds={"cpu": Resources()},
        defaults=Confinement(),
        readable=(folder / "registry",),
        spread=True,
        tenant=Tenant(gateway="g1"),
    )
    stack.callback(launcher.close)
    launcher.open(timeout_s=START_S)
    return launcher


def published(folder: Path, model: Path) -> Function:
    """A function whose requests are held until there is a file ``handlers/open``."""
    catalog = Catalog(folder / "registry")
    manifest, _ = push(catalog, model)
    handlers = folder / "handlers"
    handlers.mkdir()
    (handlers / "holding.py").write_text(HANDLER)
    return msgspec.structs.replace(
        Function.of(manifest, catalog),
        before="holding:holds",
        handlers_dir=str(handlers),
        batching="off",
    )


def hang(nodes: Nodes, pid: int, heard: Heard, told: dict[str, object]) -> dict[str, float]:
    """Stop the far host with all it has, under requests; gives what that took."""
    told["spread"] = nodes.spread()
    begun = nodes.call()
    stopped_s = stop(pid)
    lost_s, why = heard.wait(r"host lost: kind=cpu@", since_s=stopped_s)
    told["why"] = why.rpartition("why=")[2]
    told["right_after_hang"] = nodes.right(begun)
    there_s, _ = heard.wait(r"host is there: kind=cpu@", since_s=stopped_s)
    return {"noticed": lost_s - stopped_s, "replaced": there_s - stopped_s}


def lose(nodes: Nodes, raylet: int, heard: Heard, told: dict[str, object]) -> dict[str, float]:
    """Have the far node lose its power under requests; gives what that took."""
    told["spread_of_another"] = nodes.spread()
    begun = nodes.call()
    cut_s = time.monotonic()
    cut_power(raylet)
    told["right_after_loss"] = nodes.right(begun)
    lost_s, _ = heard.wait(r"host lost: kind=cpu@", since_s=cut_s)
    told["spread_after_loss"] = nodes.spread()
    return {"loss_noticed": lost_s - cut_s}


def play(folder: Path, model: Path, told: dict[str, object], stack: ExitStack) -> None:
    heard = Heard()
    for name in ("cloud_fn", "__main__"):
        logging.getLogger(name).addHandler(heard)
        logging.getLogger(name).setLevel(logging.INFO)
    cluster, other = two(folder, stack)
    launcher = join(cluster, folder, stack)
    function = published(folder, model)
    for running in [launcher.start(function, timeout_s=START_S) for _ in range(2)]:
        launcher.end(running)  # the second would have been the other node's, had it had a host
    _, line = heard.wait(r"host is there: kind=cpu@")
    (far,) = [node for node in launcher.nodes() if node.id == other.node_id]
    pool = Pool(launcher, lambda _: LIMITS)
    stack.callback(pool.close)
    gate = folder / "handlers" / "open"

    nodes = Nodes(pool, function, model, far, gate)
    seconds = hang(nodes, int(line.rpartition("pid=")[2]), heard, told)
    # All that the first has now is near, where it went on; so all of another's is far.
    nodes = Nodes(pool, msgspec.structs.replace(function, name="other"), model, far, gate)
    raylet = other.all_processes["raylet"][0].process.pid
    told["seconds"] = seconds | lose(nodes, raylet, heard, told)


def main(folder: Path, model: Path) -> None:
    told: dict[str, object] = {}
    with ExitStack() as stack:
        play(folder, model, told, stack)
    runtime_dir.clear_stale(folder / "run")  # as the next server does
    told["left"] = [path.name for path in (folder / "run").iterdir()]
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
