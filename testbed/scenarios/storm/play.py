"""A storm from start to nothing left running: a real server, real models, and SIGKILL."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean

import msgspec

from testbed.errors import ProcessDied, TestbedError
from testbed.processes import Child, Processes
from testbed.scenarios.stage import SERVE_LIMIT_S, STOP_LIMIT_S, Say, isthmus
from testbed.scenarios.storm import cluster
from testbed.scenarios.storm import result as found
from testbed.scenarios.storm.arrivals import Arrival, Counts, arrivals, made_up_counts, read_counts
from testbed.scenarios.storm.callers import Callers
from testbed.scenarios.storm.killer import Kill, Killer
from testbed.scenarios.storm.ledger import Ledger
from testbed.scenarios.storm.result import StormResult
from testbed.scenarios.storm.subjects import VARIANTS, Function, functions

TRACE = Path(__file__).resolve().parents[4] / "shared" / "data" / "azure2019" / "invocations.csv"

UTILISATION = 0.3
"""Of one core, for the inference of all functions together: the rest of two cores goes to gateway,
callers and the starts that the kills bring about."""

MOST_PER_S = 2.0
"""A function's mean rate at most; its bursts have many times that. With 4 (and 0.4 of a core) a
tenth of ten functions' calls found the gateway full, with 2 a hundredth (2 cores, 2026-11)."""

KEEP_ALIVE_S = 10.0
PUSH_LIMIT_S = 120.0
PROBED_CALLS = 10
"""Beside every so many calls the way alone is probed: at the calls' own times, for in a burst it is
longer than on average."""

TELL_EVERY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What a storm is to be like."""

    seconds: float
    functions: int
    kill_every_s: float
    seed: int
    trace: Path | None = None
    nodes: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= 86_400:
            raise TestbedError(f"--duration is {self.seconds:g}: give 1 to 86400 seconds")
        if not 1 <= self.functions <= 100:
            raise TestbedError(f"--functions is {self.functions}: give 1 to 100")
        if not 0.1 <= self.kill_every_s <= 86_400:
            raise TestbedError(f"--kill-every is {self.kill_every_s:g}: give 0.1 s or more")
        if not 1 <= self.nodes <= 8:
            raise TestbedError(f"--nodes is {self.nodes}: give 1 to 8")


def run_storm(weather: Weather, *, keep: Path | None, say: Say) -> StormResult:
    """Play it through.

    Args:
        weather: how long, how many functions, how deadly.
        keep: a folder for logs and the registry; None throws them away.
        say: told what is being done.
    """
    folder = keep or Path(tempfile.mkdtemp(prefix="isthmus-storm-"))
    # Sockets lie in it, and a socket's path may have a hundred letters at most.
    runtime = tempfile.mkdtemp(prefix="isthmus-")
    try:
        pattern, counts = _pattern(weather)
        say("running each model in this process, for the right answers")
        called = functions(weather.functions)
        rates = [min(MOST_PER_S, UTILISATION / len(called) / f.subject.infer_s) for f in called]
        calls = arrivals(
            counts, rates, seconds=weather.seconds, variants=VARIANTS, seed=weather.seed
        )
        say(f"{len(calls)} calls of {len(called)} functions in {weather.seconds:g} s, {pattern}")
        with Processes(folder) as processes:
            server, address, root = _start(processes, called, runtime, weather.nodes, say)
            try:
                storm = _Storm(called, Killer(root, Random(weather.seed)), say)  # noqa: S311
                result = asyncio.run(storm.blow(address, calls, weather))
            finally:
                say("stopping everything")
                server.stop(STOP_LIMIT_S)  # Ray takes some seconds to end cleanly
                processes.stop(STOP_LIMIT_S)
            left = tuple(f"{each.pid} {each.command}" for each in processes.left_running())
            tracebacks = server.log_path.read_text(errors="replace").count("Traceback (most recent")
    finally:
        shutil.rmtree(runtime, ignore_errors=True)
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return msgspec.structs.replace(
        result, pattern=pattern, left_running=left, tracebacks=tracebacks
    )


def _pattern(weather: Weather) -> tuple[str, Counts]:
    path = weather.trace or TRACE
    wanted = (weather.functions, weather.seconds, weather.seed)
    if weather.trace is None and not path.exists():
        return "in bursts that are made up", made_up_counts(*wanted)
    return f"in the bursts of {path.parent.name}/{path.name}", read_counts(path, *wanted)


def _start(
    processes: Processes, called: Sequence[Function], runtime: str, nodes: int, say: Say
) -> tuple[Child, str, int]:
    """The server, its address, and the process below which its instances are."""
    registry = processes.folder / "registry"
    for number, each in enumerate(called, 1):
        say(f"publishing {each.name} ({number} of {len(called)})")
        real = each.subject.real
        dims = [word for k, v in real.dims.items() for word in ("--dim", f"{k}={v}")]
        words: list[str | Path] = [real.path, *dims, "--name", each.name, "--root", registry]
        push = processes.start("push", isthmus("registry", "push", *words))
        if push.wait(PUSH_LIMIT_S):
            raise ProcessDied(f"{each.name} was not published: {push.last_line()}")
    environ, joins, root = dict[str, str](), tuple[str, ...](), None
    if nodes > 1:
        say(f"starting a Ray of {nodes} nodes")
        environ = cluster.environ(tempfile.mkdtemp(prefix="ray-", dir=runtime))
        root, facts = processes.start_ready(
            "ray", cluster.argv(nodes), environ=environ, limit_s=SERVE_LIMIT_S
        )
        joins = ("--ray-address", str(facts["address"]))
    say("starting gateway and Ray" if root is None else "starting the gateway")
    child, facts = processes.start_ready(
        "serve",
        isthmus("serve", "--listen", "127.0.0.1:0", "--registry", registry, *joins),
        environ={
            **environ,
            "ISTHMUS_SERVE_RUNTIME_DIR": runtime,
            "ISTHMUS_SERVE_INSTANCE__KEEP_ALIVE_S": f"{KEEP_ALIVE_S:g}",
        },
        limit_s=SERVE_LIMIT_S,
    )
    return child, str(facts["address"]), (root or child).pid


class _Storm:
    """The acts of a storm against a server that runs."""

    def __init__(self, called: Sequence[Function], killer: Killer, say: Say) -> None:
        self._called = called
        self._killer = killer
        self._say = say
        self._ledger = Ledger()
        self._kills: list[Kill] = []
        self._ways_s: dict[int, list[float]] = {}
        self._over = asyncio.Event()

    async def blow(self, address: str, calls: Sequence[Arrival], weather: Weather) -> StormResult:
        began = time.monotonic()

        def at_s() -> float:
            return time.monotonic() - began

        async with Callers(address, self._called, self._ledger) as callers:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._kill(weather.kill_every_s), name="storm.kill")
                group.create_task(self._tell(at_s), name="storm.tell")
                for number, each in enumerate(calls):
                    if (early_s := each.at_s - at_s()) > 0:
                        await asyncio.sleep(early_s)
                    callers.call(each.function, each.variant, streamed=each.streamed)
                    if number % PROBED_CALLS == 0:
                        group.create_task(self._probe(callers, each.function), name="storm.probe")
                await asyncio.sleep(max(0.0, weather.seconds - at_s()))
                self._over.set()
            self._say(f"the storm is over; {self._ledger.waiting} calls wait for their outcome")
            await callers.settled()
            recovered = await self._once_more(callers)
            await callers.hang_up()
        return self._result(weather, recovered=recovered)

    async def _kill(self, every_s: float) -> None:
        while not await self._over_within(every_s):
            killed = await asyncio.to_thread(self._killer.kill)
            if killed is not None:
                self._kills.append(killed)

    async def _probe(self, callers: Callers, function: int) -> None:
        if (way_s := await callers.probe_s(function)) is not None:
            self._ways_s.setdefault(function, []).append(way_s)

    async def _tell(self, at_s: Callable[[], float]) -> None:
        while not await self._over_within(TELL_EVERY_S):
            seen = self._ledger.tally()
            self._say(
                f"{at_s():4.0f} s: {seen['asked']} calls, {seen['right']} right, "
                f"{seen['refused']} refused, {seen['wrong'] + seen['unclear']} wrong or unclear, "
                f"{self._ledger.waiting} waiting; {len(self._kills)} instances killed"
            )

    async def _over_within(self, seconds: float) -> bool:
        """Wait so long; whether the storm was over first."""
        try:
            async with asyncio.timeout(seconds):
                return await self._over.wait()
        except TimeoutError:
            return False

    async def _once_more(self, callers: Callers) -> bool:
        """Call each function a last time, with nobody killing."""
        before = self._ledger.tally()["right"]
        for number in range(len(self._called)):
            callers.call(number, 0, streamed=False)
        await callers.settled()
        return self._ledger.tally()["right"] - before == len(self._called)

    def _result(self, weather: Weather, *, recovered: bool) -> StormResult:
        books = self._ledger.close()
        return StormResult(
            pattern="",
            seconds=weather.seconds,
            nodes=weather.nodes,
            functions=tuple(
                found.function_row(each.name, number, books)
                for number, each in enumerate(self._called)
            ),
            reasons=found.reasons(books),
            strays=books.strays,
            kills=len(self._kills),
            kills_of_busy=found.busy(self._kills),
            terms=found.terms(books, {f: fmean(ways) for f, ways in self._ways_s.items()}),
            recovered=recovered,
            tracebacks=0,
            left_running=(),
        )
