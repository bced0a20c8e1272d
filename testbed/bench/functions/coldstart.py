"""``isthmus testbed bench coldstart``: from nothing to the first right answer.

A cold start is the first answer minus a warm one, as a client sees both. The ways take turns in
each round; the machine is let come to rest before each. All answers are held to ONNX Runtime's.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal, get_args

import msgspec
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from protos.timing import TERMS
from testbed.bench.functions import burst, pagecache, usage
from testbed.bench.functions.gateway import Gateway
from testbed.bench.functions.generated import SHAPES, Generated, Kind, generate
from testbed.bench.functions.peers.environment import serve_python
from testbed.bench.functions.ways import (
    ISTHMUS,
    SERVE,
    Actors,
    Cold,
    Deployments,
    OnRay,
    Ours,
    PlainProcesses,
    Way,
)
from testbed.bench.targets import Target, at_least, at_most, console, show_targets
from testbed.errors import NotInstalled
from testbed.processes import Processes

ROUNDS, ROUNDS_DROPPED, WARM = 7, 5, 5
KEEP_ALIVE_S = 1.0
BURST_OF = 32
READ = "reading the file"
NOT_DROPPED, LARGE_BYTES = 0.02, 1 << 20
"""More than this share of so large a file left in the page cache, and it was not dropped."""

Cache = Literal["warm", "dropped"]
Section = Literal["rounds", "ray", "burst"]
SECTIONS: tuple[Section, ...] = get_args(Section)
"""Of the rounds, Ray's ways take most of the time; the rounds themselves are always run."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One way to one model: ``cold_ms`` is the median of first minus warm, between low and high.

    ``over`` is that divided by Isthmus'. Of reading the file, the seconds are those of the reading.
    """

    model: str
    cache: Cache
    way: str
    cold_ms: float
    low_ms: float
    high_ms: float
    first_ms: float
    warm_ms: float
    over: float
    rounds: int


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the cold replies say of themselves, medians in ms, beside what the client measured.

    ``network_ms`` is what a warm call takes beyond its five terms; ``apart`` is the median share of
    the client's total that terms and network leave unexplained.
    """

    model: str
    cache: Cache
    terms_ms: dict[str, float]
    network_ms: float
    client_ms: float
    apart: float


class Coldstart(msgspec.Struct, frozen=True, kw_only=True):
    rows: tuple[Row, ...]
    terms: tuple[Terms, ...]
    bursts: tuple[burst.Burst, ...]
    notes: tuple[str, ...]
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was measured of one model with the cache in one state, by way."""

    model: Generated
    cache: Cache
    colds: dict[str, list[Cold]] = field(default_factory=dict)
    read_s: list[float] = field(default_factory=list)


def run(
    *,
    shapes: Sequence[tuple[Kind, int]] = tuple(SHAPES),
    rounds: int = ROUNDS,
    rounds_dropped: int = ROUNDS_DROPPED,
    burst_of: int = BURST_OF,
    with_ray: bool = True,
    say: Callable[[str], None],
) -> Coldstart:
    """Measure; about twenty minutes by default.

    Args:
        shapes: which models, of :data:`testbed.bench.functions.generated.SHAPES`.
        rounds: with the files in the page cache.
        rounds_dropped: with the files dropped from it.
        burst_of: how many functions start at once; 0 for no burst.
        with_ray: whether a Ray actor and Ray Serve stand beside us.
        say: takes a line.
    """
    notes: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="isthmus-bench-") as text,
        Processes(Path(text)) as processes,
        contextlib.ExitStack() as stack,
    ):
        say(f"generating {len(shapes)} models")
        models = [generate(kind, megabytes, Path(text)) for kind, megabytes in shapes]
        wanted = {each.name: each.answer() for each in models}
        gateway = stack.enter_context(Gateway(processes, keep_alive_s=KEEP_ALIVE_S))
        _publish(gateway, models, burst_of, say)
        plain = PlainProcesses(processes, wanted)
        others = _on_ray(processes, models, wanted, stack, notes, say) if with_ray else []
        ways: list[Way] = [Ours(gateway, wanted), plain, *others]
        seen = [
            *_rounds("warm", models, ways, rounds, notes, say),
            *_rounds("dropped", models, ways, rounds_dropped, notes, say),
        ]
        bursting: list[burst.Bursting] = [
            plain,
            *(way for way in others if isinstance(way, Actors)),
        ]
        bursts = (
            burst.run(models[0], wanted[models[0].name], gateway, bursting, count=burst_of, say=say)
            if burst_of
            else ()
        )
    rows = tuple(row for each in seen for row in seen_rows(each))
    terms = tuple(seen_terms(each) for each in seen)
    return Coldstart(
        rows=rows,
        terms=terms,
        bursts=bursts,
        notes=tuple(dict.fromkeys(notes)),
        targets=targets_of(rows, terms, {each.name: each.megabytes for each in models}),
    )


def _publish(
    gateway: Gateway, models: Sequence[Generated], burst_of: int, say: Callable[[str], None]
) -> None:
    for model in models:
        say(f"publishing {model.name}")
        gateway.push(model.path, model.name)
    for name in burst.names(models[0], burst_of):
        gateway.push(models[0].path, name)
    say("starting the server")
    gateway.start()


def _on_ray(
    processes: Processes,
    models: Sequence[Generated],
    wanted: Mapping[str, np.ndarray],
    stack: contextlib.ExitStack,
    notes: list[str],
    say: Callable[[str], None],
) -> list[Way]:
    """The ways on a Ray of their own; without Ray Serve where it cannot be had."""
    serve = True
    try:
        python = serve_python(say)
    except NotInstalled as error:
        notes.append(f"no Ray Serve: {error}")
        serve, python = False, Path(sys.executable)
    say("starting a Ray for the others")
    orders = stack.enter_context(OnRay(processes, python))
    ways: list[Way] = [Actors(orders, wanted)]
    if serve:
        say("deploying on Ray Serve")
        ways.append(Deployments(orders, models, wanted))
    return ways


def _rounds(
    cache: Cache,
    models: Sequence[Generated],
    ways: Sequence[Way],
    rounds: int,
    notes: list[str],
    say: Callable[[str], None],
) -> list[Seen]:
    seen = [Seen(model=model, cache=cache) for model in models]
    for number in range(rounds):
        for each in seen:
            say(f"page cache {cache}, round {number + 1} of {rounds}: {each.model.name}")
            before = _dropping((each.model.path,), notes) if cache == "dropped" else None
            if before is not None:
                before()
            each.read_s.append(pagecache.read_s((each.model.path,)))
            for way in ways:
                files = tuple(way.files(each.model))
                prepare = _dropping(files, notes) if cache == "dropped" else _keeping(files)
                found = way.cold(each.model, prepare, warm=WARM)
                each.colds.setdefault(way.name, []).append(found)
    return seen


def _keeping(places: Sequence[Path]) -> Callable[[], object]:
    """Reads what lies at *places*, so that it is in the page cache, and lets all come to rest."""

    def keep() -> None:
        pagecache.read_s(pagecache.files(*places))
        usage.settle()

    return keep


def _dropping(places: Sequence[Path], notes: list[str]) -> Callable[[], None]:
    """Lets all come to rest, drops what lies at *places* from the page cache, and sees it gone."""

    def drop() -> None:
        usage.settle()
        found = pagecache.files(*places)
        pagecache.drop(found)
        large = [path for path in found if path.stat().st_size >= LARGE_BYTES]
        notes.extend(
            f"{path.name} stayed in the page cache when it was to be dropped"
            for path in large
            if pagecache.resident(path) > NOT_DROPPED
        )

    return drop


def seen_rows(seen: Seen) -> list[Row]:
    """One row for each way, and one for reading the file."""
    ours = median(_extra_s(seen.colds[ISTHMUS]))
    rows = []
    for way, colds in seen.colds.items():
        extra = _extra_s(colds)
        rows.append(
            Row(
                model=seen.model.name,
                cache=seen.cache,
                way=way,
                cold_ms=_ms(median(extra)),
                low_ms=_ms(min(extra)),
                high_ms=_ms(max(extra)),
                first_ms=_ms(median(each.first_s for each in colds)),
                warm_ms=_ms(median(s for each in colds for s in each.warm_s)),
                over=round(median(extra) / ours, 4),
                rounds=len(colds),
            )
        )
    read_s = median(seen.read_s)
    rows.append(
        Row(
            model=seen.model.name,
            cache=seen.cache,
            way=READ,
            cold_ms=_ms(read_s),
            low_ms=_ms(min(seen.read_s)),
            high_ms=_ms(max(seen.read_s)),
            first_ms=_ms(read_s),
            warm_ms=0.0,
            over=round(read_s / ours, 4),
            rounds=len(seen.read_s),
        )
    )
    return rows


def _extra_s(colds: Sequence[Cold]) -> list[float]:
    return [each.first_s - median(each.warm_s) for each in colds]


def seen_terms(seen: Seen) -> Terms:
    """What the cold replies add up to."""
    colds = seen.colds[ISTHMUS]
    network_s = median(
        seconds - timing.total_s
        for each in colds
        for seconds, timing in zip(each.warm_s, each.warm_timing, strict=True)
    )
    timings = [(each.first_s, each.timing) for each in colds if each.timing is not None]
    apart = [abs(first - network_s - timing.total_s) / first for first, timing in timings]
    return Terms(
        model=seen.model.name,
        cache=seen.cache,
        terms_ms={
            term: _ms(median(getattr(timing, f"{term}_s") for _, timing in timings))
            for term in TERMS
        },
        network_ms=_ms(network_s),
        client_ms=_ms(median(first for first, _ in timings)),
        apart=round(median(apart), 4),
    )


def targets_of(
    rows: Sequence[Row], terms: Sequence[Terms], megabytes: Mapping[str, int]
) -> tuple[Target, ...]:
    """The lines, each held to the worst of *rows*; *megabytes* are the models' sizes."""
    targets = []
    ours = {(row.model, row.cache): row.cold_ms for row in rows if row.way == ISTHMUS}
    small = [ms for (name, cache), ms in ours.items() if cache == "warm" and megabytes[name] <= 100]
    large = [ms for (name, cache), ms in ours.items() if cache == "warm" and megabytes[name] > 100]
    if small:
        targets.append(at_most("cold start up to 100 MB, cache warm", max(small), 25, "ms"))
    if large:
        targets.append(at_most("cold start at 500 MB, cache warm", max(large), 60, "ms"))
    if serve := [row.over for row in rows if row.way == SERVE]:
        targets.append(at_least("Ray Serve over Isthmus", min(serve), 50, "x"))
    targets += [
        at_most(
            f"cold start of {row.model} over reading it, dropped",
            ours[row.model, row.cache] / row.cold_ms,
            1.5,
            "x",
        )
        for row in rows
        if row.way == READ and row.cache == "dropped"
    ]
    if terms:
        apart = max(each.apart for each in terms)
        targets.append(at_most("share of a cold call that no term explains", apart, 0.05))
    return tuple(targets)


def show(result: Coldstart) -> None:
    """Print it as tables."""
    out = console()
    table = Table(
        title="from nothing to the first right answer, minus a warm one (ms, median)",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in ("model", "page cache", "way"):
        table.add_column(name)
    for name in ("cold", "lowest", "highest", "first", "warm", "over Isthmus"):
        table.add_column(name, justify="right")
    for row in result.rows:
        figures = (row.cold_ms, row.low_ms, row.high_ms, row.first_ms, row.warm_ms)
        table.add_row(
            row.model, row.cache, row.way, *(f"{x:.1f}" for x in figures), f"{row.over:.2f}x"
        )
    out.print(table)
    out.print(_terms_table(result.terms))
    for each in result.bursts:
        what = f", {each.failed} without an answer ({each.reason})" if each.failed else ""
        out.print(f"{each.count} at once, {each.way}: the last after {each.last_s:.2f} s{what}")
    for note in result.notes:
        out.print(note)
    out.print("dropped: posix_fadvise(DONTNEED) on the files of the model")
    show_targets(out, result.targets)


def _terms_table(terms: Sequence[Terms]) -> Table:
    table = Table(
        title="Isthmus' cold calls by their own account (ms, medians)",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in ("model", "page cache"):
        table.add_column(name)
    for name in (*TERMS, "network", "client", "apart"):
        table.add_column(name, justify="right")
    for each in terms:
        figures = (*(each.terms_ms[t] for t in TERMS), each.network_ms, each.client_ms)
        table.add_row(each.model, each.cache, *(f"{x:.1f}" for x in figures), f"{each.apart:.1%}")
    return table


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
