"""``isthmus testbed bench dataplane``: what the way through the gateway adds to a call.

The model gives its input back, so that what is measured is the way. Each server is a process of its
own; the ways take turns in each round, and all answers are looked at.
"""

import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Protocol

import grpc
import msgspec
import numpy as np
import psutil
from rich.box import SIMPLE_HEAD
from rich.table import Table

from protos import wire
from protos.invocation import Request, Tensor
from protos.wire import SERVICE
from testbed.bench.functions import usage
from testbed.bench.functions.gateway import OPTIONS, Gateway
from testbed.bench.functions.generated import identity
from testbed.bench.functions.peers.orders import Calls, Done, Open, Orders, Took
from testbed.bench.functions.ways import ROOT, OnRay, module
from testbed.bench.targets import Target, at_most, console, show_targets
from testbed.errors import TestbedError
from testbed.processes import Processes

SIZES: Mapping[str, int] = {"4 KB": 4_000, "150 KB": 150_000, "600 KB": 600_000, "3 MB": 3_000_000}
QUICK_SIZES = {name: SIZES[name] for name in ("4 KB", "600 KB")}
ROUNDS, CALLS, WARM = 12, 60, 20
STAY_S = 3600.0
CALL_LIMIT_S = 60.0
ISTHMUS, SERVER, TUNED, ACTOR = "Isthmus", "gRPC server", "gRPC server, malloc tuned", "Ray actor"
"""The server of 40 lines, as one writes it and with glibc told to keep large buffers, as ours is:
that halves the largest messages."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One way at one size: ms at the client, and CPU ms of the servers' side for each call.

    ``over`` is the p50 over that of the plain gRPC server, ``over_tuned`` over the tuned one's.
    """

    size: str
    way: str
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    over: float
    over_tuned: float
    calls: int


class Dataplane(msgspec.Struct, frozen=True, kw_only=True):
    rows: tuple[Row, ...]
    targets: tuple[Target, ...]


class Way(Protocol):
    """Something that gives an array back, and the processes that do."""

    name: str

    def calls(self, value: np.ndarray, count: int) -> Sequence[float]:
        """Seconds of each of *count* calls; the last answer is *value*.

        Raises:
            TestbedError: it is not, or none came.
        """

    def processes(self) -> Iterable[psutil.Process]:
        """Those whose time counts."""


class OverGrpc:
    """Anything that speaks the protocol at *address*."""

    def __init__(
        self, name: str, address: str, processes: Callable[[], Iterable[psutil.Process]]
    ) -> None:
        self.name = name
        self.processes = processes
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        self._call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer"
        )

    def calls(self, value: np.ndarray, count: int) -> Sequence[float]:
        """Encoded requests in, encoded answers out: what is in them is no part of the way."""
        request = Request(model=_name(value), inputs=(Tensor.of("x", value),))
        body = wire.encode_request(request)
        seconds, data = [], b""
        for _ in range(count):
            began = time.perf_counter()
            try:
                data = self._call(body, timeout=CALL_LIMIT_S)
            except grpc.RpcError as error:
                raise TestbedError(f"{self.name} refuses: {error.details()}") from error
            seconds.append(time.perf_counter() - began)
        _check(self.name, wire.decode_reply(data).outputs[0].array(), value)
        return seconds

    def close(self) -> None:
        self._channel.close()


class OverRay:
    """An actor of a Ray of its own; the process that calls it is the client."""

    name = ACTOR

    def __init__(self, orders: Orders, pid: int, model: Path) -> None:
        self._orders = orders
        self._pid = pid
        orders.give(Open(model=os.fspath(model)), Done, limit_s=CALL_LIMIT_S)

    def calls(self, value: np.ndarray, count: int) -> Sequence[float]:
        """Arrays, as one would call it."""
        took, answer = self._orders.give(
            Calls(count=count), Took, body=value.tobytes(), limit_s=CALL_LIMIT_S
        )
        _check(self.name, np.frombuffer(answer, np.float32), value)
        return took.seconds

    def processes(self) -> Iterable[psutil.Process]:
        """All but the caller: Ray's own carry the call."""
        return usage.tree(self._pid)[1:]


def run(
    *,
    sizes: Mapping[str, int] = SIZES,
    rounds: int = ROUNDS,
    calls: int = CALLS,
    with_ray: bool = True,
    say: Callable[[str], None],
) -> Dataplane:
    """Measure; some two minutes by default.

    Args:
        sizes: bytes of the tensor, by the size's name.
        rounds: how often each way has its turn at each size.
        calls: in a turn.
        with_ray: whether a Ray actor stands beside us.
        say: takes a line.
    """
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="isthmus-bench-") as text,
        Processes(Path(text)) as processes,
        contextlib.ExitStack() as stack,
    ):
        say("starting the servers")
        values = {name: _value(size) for name, size in sizes.items()}
        gateway = stack.enter_context(Gateway(processes, keep_alive_s=STAY_S))
        models = {name: identity(Path(text), value.size) for name, value in values.items()}
        for name, value in values.items():
            gateway.push(models[name], _name(value))
        gateway.start()
        orders = None
        if with_ray:
            on_ray = OnRay(processes)
            orders = stack.enter_context(on_ray), on_ray.pid
        for size, value in values.items():
            with contextlib.ExitStack() as inner:
                ways: list[Way] = list(_servers(processes, models[size], gateway, inner))
                if orders is not None:
                    ways.append(OverRay(*orders, models[size]))
                say(f"{rounds} rounds of {calls} calls of {size}")
                rows += _measure(size, value, ways, rounds, calls)
    targets = tuple(
        at_most(f"{row.size} over an in-process gRPC server, p50", row.over, 1.4, "x")
        for row in rows
        if row.way == ISTHMUS
    )
    return Dataplane(rows=tuple(rows), targets=targets)


def _servers(
    processes: Processes, model: Path, gateway: Gateway, stack: contextlib.ExitStack
) -> Iterator[OverGrpc]:
    """The gateway, and a plain server for *model* as it is and tuned, until *stack* ends."""
    carriers: dict[str, tuple[str, Callable[[], Iterable[psutil.Process]]]] = {
        ISTHMUS: (gateway.address, lambda: _carriers(gateway))
    }
    for name, log, flags in ((SERVER, "server", ()), (TUNED, "tuned", ("--tuned",))):
        child, facts = processes.start_ready(
            f"{log}-{model.stem}", [*module("grpc_server"), model, *flags], cwd=ROOT
        )
        stack.callback(child.stop)
        carriers[name] = str(facts["address"]), functools.partial(usage.tree, child.pid)
    for name, (address, found) in carriers.items():
        way = OverGrpc(name, address, found)
        stack.callback(way.close)
        yield way


def _carriers(gateway: Gateway) -> list[psutil.Process]:
    """Gateway and instances; Ray's own processes carry no call."""
    return [process for process in gateway.processes if not usage.is_rays(process)]


def _value(size_bytes: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(size_bytes // 4, dtype=np.float32)


def _name(value: np.ndarray) -> str:
    """Of the model that gives such a row back: an input's size is part of a version."""
    return f"identity-{value.size}"


def _measure(
    size: str, value: np.ndarray, ways: Sequence[Way], rounds: int, calls: int
) -> list[Row]:
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    used: dict[str, float] = dict.fromkeys(seconds, 0.0)
    for way in ways:
        way.calls(value, WARM)
    usage.settle()
    turns = list(ways)
    for _ in range(rounds):
        for way in turns:
            carriers = tuple(way.processes())
            before = usage.cpu_s(carriers)
            seconds[way.name] += way.calls(value, calls)
            used[way.name] += usage.cpu_s(carriers) - before
        turns = [*turns[1:], turns[0]]  # none is always the first, or always after the same
    return [
        Row(
            size=size,
            way=name,
            p50_ms=round(median(each) * 1e3, 3),
            p95_ms=round(quantiles(each, n=20)[-1] * 1e3, 3),
            cpu_ms=round(used[name] / len(each) * 1e3, 3),
            over=round(median(each) / median(seconds[SERVER]), 3),
            over_tuned=round(median(each) / median(seconds[TUNED]), 3),
            calls=len(each),
        )
        for name, each in seconds.items()
    ]


def show(result: Dataplane) -> None:
    """Print it as a table."""
    out = console()
    table = Table(
        title="a call there and back, one at a time (ms at the client; CPU ms of the servers)",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in ("tensor", "way"):
        table.add_column(name)
    for name in ("p50", "p95", "CPU", "over the gRPC server", "over the tuned one"):
        table.add_column(name, justify="right")
    for row in result.rows:
        figures = (row.p50_ms, row.p95_ms, row.cpu_ms)
        over = (f"{row.over:.2f}x", f"{row.over_tuned:.2f}x")
        table.add_row(row.size, row.way, *(f"{x:.2f}" for x in figures), *over)
    out.print(table)
    show_targets(out, result.targets)


def _check(way: str, got: np.ndarray, wanted: np.ndarray) -> None:
    if not np.array_equal(got, wanted):
        raise TestbedError(f"{way} gave other numbers back than it was sent")
