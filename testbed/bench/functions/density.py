"""``isthmus testbed bench density``: what instances hold, and that it comes back.

Memory is proportional (PSS): what processes share is counted once. Beside an instance stands a
plain process for each model, beside a further cut a further session in such a process, and beside
a function that comes and goes a process that opens and drops sessions.
"""

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from testbed.bench.functions import usage
from testbed.bench.functions.gateway import Gateway, check, request
from testbed.bench.functions.generated import Generated, Kind, generate
from testbed.bench.functions.suffixes import Suffix, suffixes
from testbed.bench.functions.ways import PlainProcesses
from testbed.bench.targets import Target, at_most, console, show_targets
from testbed.processes import Processes

INSTANCES, CUTS = 6, 8
CUT_SHAPES: tuple[tuple[Kind, int], ...] = (("conv", 100), ("transformer", 100))
SHAPES: tuple[tuple[Kind, int], ...] = (
    ("conv", 5),
    ("transformer", 5),
    *CUT_SHAPES,
)
CYCLES, LOOK_EVERY = 500, 10
STAY_S = 3600.0
GO_S = 0.05
SEEN_MB = 0.5
SETTLED_SHARE = 0.2
"""Of the cycles: what is allocated once and kept is there by then, and growth counts from there."""

GROWTH_MB, RETURNED_MB = 5.0, 20.0
"""What the cycles may add by their slope, and what may stay that was not there after the first:
a server's own figure moves by some MB while it idles."""

INSTANCE, CUT = "idle instance", "further cut"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One process, or several of a name, of a server that has no instance."""

    name: str
    count: int
    pss_mb: float


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What one more of something holds, in MB: of ours and of what one would use instead."""

    what: str
    model: str
    count: int
    pss_mb: float
    beside_mb: float
    beside: str


class Cycles(msgspec.Struct, frozen=True, kw_only=True):
    """A function that came and went ``count`` times; memory of everything that runs, in MB.

    ``first_mb`` is after the first time: what is made once is there by then. ``growth_mb`` is the
    slope over the cycles after the first fifth, times ``count``. ``grew_mb`` says by how much the
    processes of each name hold more at the end than at first, where that is half a MB or more.
    """

    way: str
    model: str
    count: int
    first_mb: float
    last_mb: float
    growth_mb: float
    grew_mb: dict[str, float] = {}


class Density(msgspec.Struct, frozen=True, kw_only=True):
    idle: tuple[Part, ...]
    held: tuple[Held, ...]
    cycles: tuple[Cycles, ...]
    targets: tuple[Target, ...]


def run(
    *,
    shapes: Sequence[tuple[Kind, int]] = SHAPES,
    cut_shapes: Sequence[tuple[Kind, int]] = CUT_SHAPES,
    instances: int = INSTANCES,
    cycles: int = CYCLES,
    say: Callable[[str], None],
) -> Density:
    """Measure; some minutes by default.

    Args:
        shapes: the models of which *instances* each are held at once, every one of its own weights.
        cut_shapes: the models of which all cuts are loaded.
        instances: of each.
        cycles: how often a function comes and goes.
        say: takes a line.
    """
    held: list[Held] = []
    with (
        tempfile.TemporaryDirectory(prefix="isthmus-bench-") as text,
        Processes(Path(text)) as processes,
    ):
        folder = Path(text)
        sets = {
            shape: [generate(*shape, folder, seed=seed) for seed in range(1, instances + 1)]
            for shape in shapes
        }
        whole = [generate(*shape, folder) for shape in cut_shapes]
        plain = PlainProcesses(processes, {})
        with Gateway(processes, keep_alive_s=STAY_S, name="stay") as gateway:
            for model in [*whole, *(each for one in sets.values() for each in one)]:
                say(f"publishing {model.name}")
                gateway.push(model.path, model.name)
            gateway.start()
            usage.settle()
            idle = _parts(gateway)
            for models in sets.values():
                say(f"{len(models)} idle instances of {models[0].name}")
                held.append(_instances(models, gateway, plain))
            for model in whole:
                say(f"cuts of {model.name}")
                held.append(_cuts(model, gateway, plain, folder))
        turns = _cycles(processes, generate(*shapes[0], folder), cycles, say)
    return Density(
        idle=idle,
        held=tuple(held),
        cycles=turns,
        targets=_targets(held, turns),
    )


def _by_name(gateway: Gateway) -> dict[str, int]:
    """Bytes of the server's processes, added up by name."""
    found: dict[str, int] = {}
    for process in gateway.processes:
        name = usage.title(process)
        found[name] = found.get(name, 0) + usage.pss_bytes(process.pid)
    return found


def _parts(gateway: Gateway) -> tuple[Part, ...]:
    found: dict[str, list[int]] = {}
    for process in gateway.processes:
        found.setdefault(usage.title(process), []).append(usage.pss_bytes(process.pid))
    return tuple(
        Part(name=name, count=len(sizes), pss_mb=_mb(sum(sizes)))
        for name, sizes in sorted(found.items(), key=lambda item: -sum(item[1]))
    )


def _instances(models: Sequence[Generated], gateway: Gateway, plain: PlainProcesses) -> Held:
    """One instance for each of *models*, which have answered and are idle."""
    before = _settled(gateway)
    for model in models:
        _ask(gateway, model)
    ours = (_settled(gateway) - before) / len(models)
    with contextlib.ExitStack() as stack:
        peers = [plain.started(model.path, stack) for model in models]
        for peer, model in zip(peers, models, strict=True):
            peer.answer(model.body)
        usage.settle()
        beside = _pss(plain) / len(models)
    return Held(
        what=INSTANCE,
        model=models[0].name.rpartition("-")[0],
        count=len(models),
        pss_mb=_mb(ours),
        beside_mb=_mb(beside),
        beside="a plain process",
    )


def _cuts(model: Generated, gateway: Gateway, plain: PlainProcesses, folder: Path) -> Held:
    """The whole model in one instance, then every cut of it."""
    parts = suffixes(model, folder, most=CUTS)
    _ask(gateway, model)
    before = _settled(gateway)
    for part in parts:
        called = gateway.ask(model.name, part.request(model.name))
        check(f"{model.name} after {part.cut}", called.answer, part.answer())
    ours = (_settled(gateway) - before) / len(parts)
    return Held(
        what=CUT,
        model=model.name,
        count=len(parts),
        pss_mb=_mb(ours),
        beside_mb=_mb(_sessions(model, parts, plain)),
        beside="a session of the cut-out tail",
    )


def _sessions(model: Generated, parts: Sequence[Suffix], plain: PlainProcesses) -> float:
    """Bytes for each further one, in a process that has *model* open and then opens *parts*."""
    with contextlib.ExitStack() as stack:
        peer = plain.started(model.path, stack)
        peer.answer(model.body)
        before = _pss(plain)
        for part in parts:
            peer.open(part.path, beside=True)
            peer.answer(part.body)
        return (_pss(plain) - before) / len(parts)


def _cycles(
    processes: Processes, model: Generated, count: int, say: Callable[[str], None]
) -> tuple[Cycles, ...]:
    body, wanted = request(model, model.name), model.answer()
    with Gateway(processes, keep_alive_s=GO_S, name="go") as gateway:
        gateway.push(model.path, model.name)
        gateway.start()
        looks = []
        for number in range(1, count + 1):
            called = gateway.ask_cold(model.name, body)
            check(model.name, called.answer, wanted)
            if number == 1 or number % LOOK_EVERY == 0 or number == count:
                say(f"came and went {number} times of {count}")
                gateway.await_idle()
                usage.settle()
                looks.append(_by_name(gateway))
    plain = PlainProcesses(processes, {})
    with contextlib.ExitStack() as stack:
        peer = plain.started(model.path, stack)
        reopened = []
        for number in range(1, count + 1):
            peer.open(model.path, beside=False)
            peer.answer(model.body)
            if number == 1 or number % LOOK_EVERY == 0 or number == count:
                reopened.append(_pss(plain))
    first, last = looks[0], looks[-1]
    changes = {name: _mb(last.get(name, 0) - first.get(name, 0)) for name in {**first, **last}}
    grew = {name: change for name, change in changes.items() if abs(change) >= SEEN_MB}
    return (
        flat("Isthmus", model.name, count, [sum(look.values()) for look in looks], grew),
        flat("sessions in turn, in one process", model.name, count, reopened),
    )


def flat(
    way: str,
    model: str,
    count: int,
    sizes: Sequence[float],
    grew_mb: Mapping[str, float] = MappingProxyType({}),
) -> Cycles:
    """What *sizes* in bytes, from the first of *count* cycles to the last, say of growth."""
    late = sizes[int(len(sizes) * SETTLED_SHARE) :]
    return Cycles(
        way=way,
        model=model,
        count=count,
        first_mb=_mb(sizes[0]),
        last_mb=_mb(sizes[-1]),
        growth_mb=_mb(usage.slope(late) * (len(sizes) - 1)),
        grew_mb=dict(grew_mb),
    )


def _ask(gateway: Gateway, model: Generated) -> None:
    called = gateway.ask(model.name, request(model, model.name))
    check(model.name, called.answer, model.answer())


def _settled(gateway: Gateway) -> int:
    usage.settle()
    return usage.pss_of(each.pid for each in gateway.processes)


def _pss(plain: PlainProcesses) -> int:
    return usage.pss_of(plain.pids)


def _targets(held: Sequence[Held], turns: Sequence[Cycles]) -> tuple[Target, ...]:
    idle = max(each.pss_mb / each.beside_mb for each in held if each.what == INSTANCE)
    targets = [at_most("an idle instance over a plain process", idle, 1, "x")]
    if cuts := [each.pss_mb / each.beside_mb for each in held if each.what == CUT]:
        targets.append(at_most("a further cut over a session of it", max(cuts), 1, "x"))
    ours = turns[0]
    targets += [
        at_most(f"growth over {ours.count} cycles", ours.growth_mb, GROWTH_MB, " MB"),
        at_most("held after the cycles", ours.last_mb - ours.first_mb, RETURNED_MB, " MB"),
    ]
    return tuple(targets)


def show(result: Density) -> None:
    """Print it as tables."""
    out = console()
    table = _table("an idle server: MB, each shared page counted once", "process")
    for name in ("how many", "MB"):
        table.add_column(name, justify="right")
    for part in result.idle:
        table.add_row(part.name, str(part.count), f"{part.pss_mb:.1f}")
    table.add_row("all", str(sum(p.count for p in result.idle)), f"{_sum(result.idle):.1f}")
    out.print(table)
    table = _table("one more of it: MB, each shared page counted once", "what")
    table.add_column("model")
    for name in ("how many", "Isthmus", "beside"):
        table.add_column(name, justify="right")
    table.add_column("which is")
    for each in result.held:
        table.add_row(
            each.what, each.model, str(each.count), f"{each.pss_mb:.1f}", f"{each.beside_mb:.1f}",
            each.beside,
        )  # fmt: skip
    out.print(table)
    table = _table("a function that comes and goes: MB of all that runs", "way")
    table.add_column("model")
    for name in ("cycles", "first", "last", "growth"):
        table.add_column(name, justify="right")
    for row in result.cycles:
        figures = (row.first_mb, row.last_mb, row.growth_mb)
        table.add_row(row.way, row.model, str(row.count), *(f"{x:.1f}" for x in figures))
    out.print(table)
    if grew := result.cycles[0].grew_mb:
        text = ", ".join(f"{name} {change:+.1f}" for name, change in sorted(grew.items()))
        out.print(f"of Isthmus, from the first cycle to the last, in MB: {text}")
    show_targets(out, result.targets)


def _sum(parts: Sequence[Part]) -> float:
    return sum(part.pss_mb for part in parts)


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first)
    return table


def _mb(size: float) -> float:
    return round(size / 1e6, 2)
