"""A Ray of its own, with plain actors and Ray Serve, that takes orders.

``python -m testbed.bench.functions.peers.on_ray --orders SOCKET --folder DIR --ready-file PATH``
"""

import argparse
import os
import socket
import time
from pathlib import Path
from typing import Any, assert_never

import numpy as np

from cloud_fn import config, ray_environment
from testbed.bench.functions.peers.engine import Engine
from testbed.bench.functions.peers.orders import (
    Burst,
    Calls,
    Done,
    Failed,
    Idle,
    Once,
    Open,
    Order,
    Report,
    Serve,
    Took,
    serve_orders,
)
from testbed.processes import write_ready

POLL_S = 0.1
CPUS = 0.01
"""Of each actor: thirty-two of them must find a place on two cores."""

SCALING = {
    "min_replicas": 0,
    "initial_replicas": 0,
    "max_replicas": 1,
    "upscale_delay_s": 0.0,
    "downscale_delay_s": 2.0,
    "metrics_interval_s": 0.1,
    "look_back_period_s": 0.2,
}
"""Ray Serve made as quick as its settings allow; by default it waits 30 s before it scales up."""


class Peer:
    """Obeys; Ray must be connected."""

    def __init__(self) -> None:
        import ray

        self._ray = ray
        self._kept: Any = None

    def obey(self, order: Order, body: bytes) -> tuple[Report, bytes]:
        """Carry out *order*; whatever goes wrong is its report."""
        try:
            match order:
                case Once(model=model, warm=warm):
                    return self._once(model, body, warm)
                case Burst(model=model, count=count):
                    return self._burst(model, body, count)
                case Open(model=model):
                    self._kept = self._actor(model)
                    self._ray.get(self._kept.ready.remote())
                    return Done(), b""
                case Calls(count=count):
                    return self._calls(body, count)
                case Serve() | Idle():
                    return _on_serve(order), b""
        except Exception as error:  # noqa: BLE001  whoever gave the order is told
            return Failed(reason=" ".join(f"{type(error).__name__} {error}".split())[:300]), b""
        assert_never(order)

    def _actor(self, model: str) -> Any:  # noqa: ANN401  Ray makes its methods
        return self._ray.remote(Actor).options(num_cpus=CPUS).remote(model)

    def _once(self, model: str, body: bytes, warm: int) -> tuple[Report, bytes]:
        seconds = []
        began = time.perf_counter()
        actor = self._actor(model)
        answer = self._ray.get(actor.answer.remote(body))
        seconds.append(time.perf_counter() - began)
        for _ in range(warm):
            began = time.perf_counter()
            self._ray.get(actor.answer.remote(body))
            seconds.append(time.perf_counter() - began)
        self._ray.kill(actor)
        return Took(seconds=tuple(seconds)), answer

    def _burst(self, model: str, body: bytes, count: int) -> tuple[Report, bytes]:
        began = time.perf_counter()
        actors = [self._actor(model) for _ in range(count)]
        answers = self._ray.get([actor.answer.remote(body) for actor in actors])
        seconds = time.perf_counter() - began
        for actor in actors:
            self._ray.kill(actor)
        return Took(seconds=(seconds,)), answers[-1]

    def _calls(self, body: bytes, count: int) -> tuple[Report, bytes]:
        """Arrays, which Ray carries without copying them where they are large."""
        value, seconds, answer = np.frombuffer(body, np.float32), [], np.empty(0, np.float32)
        for _ in range(count):
            began = time.perf_counter()
            answer = self._ray.get(self._kept.run.remote(value))
            seconds.append(time.perf_counter() - began)
        return Took(seconds=tuple(seconds)), answer.tobytes()


class Actor:
    """A model in a Ray actor."""

    def __init__(self, model: str) -> None:
        self._engine = Engine(model)

    def ready(self) -> None:
        """Answers once the model is loaded."""

    def answer(self, body: bytes) -> bytes:
        return self._engine.answer(body)

    def run(self, value: np.ndarray) -> np.ndarray:
        return self._engine.run(value)


class Replica:
    """A model in a replica of Ray Serve: contents in, contents out."""

    def __init__(self, model: str) -> None:
        self._engine = Engine(model)

    async def __call__(self, request: Any) -> Any:  # noqa: ANN401  Starlette's, which few have
        from starlette.responses import Response  # type: ignore[import-not-found,unused-ignore]

        return Response(self._engine.answer(await request.body()))


def _on_serve(order: Serve | Idle) -> Report:
    if isinstance(order, Serve):
        return Done(address=_deploy(order.models))
    return _await_idle(order.name, order.limit_s)


def _deploy(models: dict[str, str]) -> str:
    from ray import serve

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    for name, path in models.items():
        made: Any = serve.deployment(
            name=name, autoscaling_config=SCALING, ray_actor_options={"num_cpus": CPUS}
        )(Replica)
        serve.run(made.bind(path), name=name, route_prefix=f"/{name}")
    return f"127.0.0.1:{port}"


def _await_idle(name: str, limit_s: float) -> Report:
    from ray import serve

    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if not any(serve.status().applications[name].deployments[name].replica_states.values()):
            return Done()
        time.sleep(POLL_S)
    return Failed(reason=f"{name} still has a replica after {limit_s:g} s")


def main() -> None:
    """Start Ray, lean and on loopback, and take orders until the bench hangs up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=Path, required=True, help="a Unix socket to make")
    parser.add_argument("--folder", type=Path, required=True, help="Ray's; a short path")
    parser.add_argument("--ready-file", type=Path, required=True)
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    ray_environment.prepare_own(args.folder)
    from cloud_fn.ray_cluster import RayCluster

    cluster = RayCluster(config.Ray(), args.folder)
    try:
        cluster.start()
        serve_orders(
            args.orders, Peer().obey, lambda: write_ready(args.ready_file, {"pid": os.getpid()})
        )
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
