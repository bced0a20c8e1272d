"""Ways to have a model answered from nothing, each asked for one cold answer at a time."""

import contextlib
import http.client
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Protocol

import numpy as np

from protos.timing import Timing
from testbed.bench.functions.gateway import Gateway, check, request
from testbed.bench.functions.generated import Generated
from testbed.bench.functions.peers.orders import Burst, Done, Idle, Once, Orders, Serve, Took
from testbed.bench.functions.peers.plain import ANSWER, OPEN, REOPEN
from testbed.errors import TestbedError
from testbed.processes import Child, Processes

ISTHMUS, PROCESS, ACTOR, SERVE = "Isthmus", "plain process", "Ray actor", "Ray Serve"
READY_LIMIT_S = 90.0
COLD_LIMIT_S = 120.0
BURST_LIMIT_S = 300.0
DEPLOY_LIMIT_S = 180.0
IDLE_LIMIT_S = 90.0
_SETTLING = 8
"""Answers between the first and those that count as warm: by then the copy of the weights that an
instance makes beside its first ones is there, and they no longer share the processor with it."""
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cold:
    """A first answer, and what the same took afterwards, in seconds as the client sees them.

    ``timing`` is what the reply says of itself, where it does, and ``warm_timing`` of the others.
    """

    first_s: float
    warm_s: tuple[float, ...]
    timing: Timing | None = None
    warm_timing: tuple[Timing, ...] = field(default=())


def module(name: str, python: str | Path = sys.executable) -> list[str]:
    """The command line of one of the peers."""
    return [os.fspath(python), "-m", f"testbed.bench.functions.peers.{name}"]


class Way(Protocol):
    """Something that answers a model from nothing."""

    name: str

    def cold(self, model: Generated, before: Callable[[], object], *, warm: int) -> Cold:
        """One answer with nothing started for *model*, then *warm* more, all checked.

        *before* is called when nothing of it runs any more, right before the clock starts.

        Raises:
            TestbedError: an answer was wrong or did not come.
        """

    def files(self, model: Generated) -> Sequence[Path]:
        """The folders or files that its model's bytes lie in."""


class Ours:
    """A function of a gateway that runs."""

    name = ISTHMUS

    def __init__(self, gateway: Gateway, wanted: Mapping[str, np.ndarray]) -> None:
        self._gateway = gateway
        self._wanted = wanted

    def cold(self, model: Generated, before: Callable[[], object], *, warm: int) -> Cold:
        body = request(model, model.name)
        first = self._gateway.ask_cold(model.name, body, before)
        check(model.name, first.answer, self._wanted[model.name])
        for _ in range(_SETTLING):
            self._gateway.ask(model.name, body)
        again = [self._gateway.ask(model.name, body) for _ in range(warm)]
        return Cold(
            first_s=first.seconds,
            warm_s=tuple(each.seconds for each in again),
            timing=first.reply.timing,
            warm_timing=tuple(t for each in again if (t := each.reply.timing) is not None),
        )

    def files(self, model: Generated) -> Sequence[Path]:
        """All that the server has on disk: it may keep a model in several forms."""
        del model
        return self._gateway.places


class Peer:
    """A plain process that has loaded its model."""

    def __init__(self, connection: "Connection[bytes, bytes]") -> None:
        self._connection = connection

    def answer(self, body: bytes) -> bytes:
        """The output's contents for those of the input."""
        self._connection.send_bytes(ANSWER + body)
        return self._connection.recv_bytes()

    def open(self, path: Path, *, beside: bool) -> None:
        """Answer with the model in *path* from now on, and keep or drop what is open."""
        self._connection.send_bytes((OPEN if beside else REOPEN) + os.fsencode(path))


class PlainProcesses:
    """A new Python process for each answer; see :mod:`testbed.bench.functions.peers.plain`."""

    name = PROCESS

    def __init__(self, processes: Processes, wanted: Mapping[str, np.ndarray]) -> None:
        self._processes = processes
        self._wanted = wanted
        self._running: list[Child] = []

    def cold(self, model: Generated, before: Callable[[], object], *, warm: int) -> Cold:
        body = model.body
        with contextlib.ExitStack() as stack:
            before()
            began = time.perf_counter()
            peer = self.started(model.path, stack)
            times, answer = [], b""
            for _ in range(1 + warm):
                answer = peer.answer(body)
                times.append(time.perf_counter() - began)
                began = time.perf_counter()
        check(self.name, _row(answer), self._wanted[model.name])
        return Cold(first_s=times[0], warm_s=tuple(times[1:]))

    def burst(self, model: Generated, count: int) -> float:
        """Seconds until the last of *count* processes, started at once, has answered."""
        body = model.body
        with contextlib.ExitStack() as stack:
            began = time.perf_counter()
            waiting = [self._start(model.path, stack) for _ in range(count)]
            for listener in waiting:
                answer = Peer(stack.enter_context(listener.accept())).answer(body)
            seconds = time.perf_counter() - began
        check(self.name, _row(answer), self._wanted[model.name])
        return seconds

    def started(self, path: Path, stack: contextlib.ExitStack) -> "Peer":
        """A process that has loaded *path* and answers; it ends with *stack*."""
        return Peer(stack.enter_context(self._start(path, stack).accept()))

    @property
    def pids(self) -> tuple[int, ...]:
        """Of those that run now."""
        return tuple(child.pid for child in self._running)

    def _start(self, path: Path, stack: contextlib.ExitStack) -> Listener:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="isthmus-"))
        listener = stack.enter_context(Listener(f"{folder}/peer"))
        child = self._processes.start("plain", [*module("plain"), path, f"{folder}/peer"], cwd=ROOT)
        self._running.append(child)
        stack.callback(self._end, child)
        return listener

    def _end(self, child: Child) -> None:
        self._running.remove(child)
        child.stop()

    def files(self, model: Generated) -> Sequence[Path]:
        return (model.path,)


class OnRay:
    """A Ray of its own with plain actors, and with Ray Serve where *python* has it."""

    def __init__(self, processes: Processes, python: str | Path = sys.executable) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="isthmus-")
        self._processes = processes
        self._python = python
        self._child: Child | None = None
        self._orders: Orders | None = None

    def __enter__(self) -> Orders:
        folder = Path(self._folder.name)
        words: list[str | Path] = ["--orders", folder / "orders", "--folder", folder / "ray"]
        self._child, _ = self._processes.start_ready(
            "on_ray",
            [*module("on_ray", self._python), *words],
            environ={"PYTHONPATH": os.fspath(ROOT)},
            cwd=ROOT,
            limit_s=READY_LIMIT_S,
        )
        self._orders = Orders(folder / "orders", "on_ray")
        return self._orders

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def __exit__(self, *_: object) -> None:
        if self._orders is not None:
            self._orders.close()  # it ends its Ray then
        if self._child is not None:
            with contextlib.suppress(TimeoutError):
                self._child.wait(READY_LIMIT_S / 3)
            self._child.stop()
        self._folder.cleanup()


class Actors:
    """A new Ray actor for each answer."""

    name = ACTOR

    def __init__(self, orders: Orders, wanted: Mapping[str, np.ndarray]) -> None:
        self._orders = orders
        self._wanted = wanted

    def cold(self, model: Generated, before: Callable[[], object], *, warm: int) -> Cold:
        before()
        order = Once(model=os.fspath(model.path), warm=warm)
        took, answer = self._orders.give(order, Took, body=model.body, limit_s=COLD_LIMIT_S)
        check(self.name, _row(answer), self._wanted[model.name])
        return Cold(first_s=took.seconds[0], warm_s=took.seconds[1:])

    def burst(self, model: Generated, count: int) -> float:
        """Seconds until the last of *count* actors, started at once, has answered."""
        order = Burst(model=os.fspath(model.path), count=count)
        took, answer = self._orders.give(order, Took, body=model.body, limit_s=BURST_LIMIT_S)
        check(self.name, _row(answer), self._wanted[model.name])
        return took.seconds[0]

    def files(self, model: Generated) -> Sequence[Path]:
        return (model.path,)


class Deployments:
    """Ray Serve over HTTP, with ``min_replicas`` 0; nobody asks for some seconds before each."""

    name = SERVE

    def __init__(
        self, orders: Orders, models: Sequence[Generated], wanted: Mapping[str, np.ndarray]
    ) -> None:
        self._orders = orders
        self._wanted = wanted
        order = Serve(models={each.name: os.fspath(each.path) for each in models})
        done, _ = orders.give(order, Done, limit_s=DEPLOY_LIMIT_S)
        self._address = done.address

    def cold(self, model: Generated, before: Callable[[], object], *, warm: int) -> Cold:
        idle = Idle(name=model.name, limit_s=IDLE_LIMIT_S)
        self._orders.give(idle, Done, limit_s=2 * IDLE_LIMIT_S)
        # A connection that idled may have been closed by the proxy.
        connection = http.client.HTTPConnection(self._address, timeout=COLD_LIMIT_S)
        connection.connect()
        before()
        times, answer = [], b""
        with contextlib.closing(connection):
            for _ in range(1 + warm):
                began = time.perf_counter()
                connection.request("POST", f"/{model.name}", model.body)
                reply = connection.getresponse()
                answer = reply.read()
                times.append(time.perf_counter() - began)
                if reply.status != http.client.OK:
                    raise TestbedError(f"Ray Serve answers {reply.status}: {answer[:200]!r}")
        check(self.name, _row(answer), self._wanted[model.name])
        return Cold(first_s=times[0], warm_s=tuple(times[1:]))

    def files(self, model: Generated) -> Sequence[Path]:
        return (model.path,)


def _row(answer: bytes) -> np.ndarray:
    """All generated models answer with one row of numbers."""
    return np.frombuffer(answer, np.float32).reshape(1, -1)
