"""Requests sent in chunks while the head still works, against the same plans sent whole.

For each model and link the choice, where it hides something there, else the allowed plan that hides
most; once with the raw input allowed to leave and once kept. And for each model the prefix of its
ops that hides most by sending what is there before it is done, over whichever link, so that heads
in stages are measured even where no choice has them. Both ways of sending take turns
(:mod:`testbed.bench.race`), and what is predicted is the makespan (:mod:`planner.chunks`).
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from planner.costs import Costs
from planner.errors import PlannerError
from planner.links import Link, parse_link
from planner.model import Model
from planner.planning import LOSSLESS, plan
from planner.plans import Plan
from planner.profiles import Profile
from planner.profiling import profile
from testbed.bench.messages import message_s
from testbed.bench.race import race, typical
from testbed.bench.rig.calibration import calibrate
from testbed.bench.rig.orders import way_of
from testbed.bench.rig.parts import Rig
from testbed.bench.subjects import subject
from testbed.bench.targets import Target, at_least, at_most
from testbed.processes import Processes

MODELS = ("ppocr_det", "light_densenet121", "silero_vad_16k_sequence", "ppocr_rec")
LINKS = ("WiFi", "50Mbps,10ms", "100Mbps,5ms")
DEVICE_SPEED = 0.1
ROUNDS = 9
LEAST_SHARE = 0.02
"""A plan that is no choice is measured only if it hides so much of its latency."""

What = Literal["choice", "plan", "prefix"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One plan over one link; ratios are whole over chunks.

    ``what`` is a choice of the planner's, a plan that is none, or a prefix of the ops; ``apart`` is
    the largest difference of an answer, whole or in chunks, from the whole model's (None where a
    text or a shape differs).
    """

    model: str
    link: str
    what: What
    plan: str
    tensors: int
    chunks: int
    stages: int
    predicted_whole_ms: float
    predicted_chunks_ms: float
    measured_whole_ms: float
    measured_chunks_ms: float
    predicted_ratio: float
    measured_ratio: float
    apart: float | None


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """``skipped`` counts the documents over which nothing hides enough to be measured.

    ``message_ms`` is what a message more costs the rig's device. ``error`` and ``whole_error`` are
    how far the predictions are off on average, as a share of what was measured: where both are
    large it is not the chunks.
    """

    device_speed: float
    message_ms: float
    agent_message_ms: float
    rows: tuple[Row, ...]
    skipped: int
    error: float | None
    whole_error: float | None
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A plan to measure over *link*."""

    link: Link
    what: What
    plan: Plan

    @property
    def chunks_s(self) -> float:
        """The predicted latency in chunks."""
        return self.plan.total_s(self.link.up_bps, self.link.rtt_s, self.link.down_bps)

    @property
    def hidden_s(self) -> float:
        return self.plan.hidden_s(self.link.up_bps)

    @property
    def share(self) -> float:
        """How much of the latency sending in chunks hides."""
        return self.hidden_s / self.chunks_s


def run(
    *,
    names: Sequence[str] = MODELS,
    links: Sequence[str] = LINKS,
    speed: float = DEVICE_SPEED,
    rounds: int = ROUNDS,
    say: Callable[[str], None],
) -> Overlap:
    """Measure; about a minute a model by default.

    Args:
        names: real models.
        links: named links, or figures.
        speed: the device's, as a fraction of this machine.
        rounds: requests of each plan, whole and in chunks.
        say: told how far it is.

    Raises:
        TestbedError: a model is missing, or a part of the rig failed.
    """
    rows: list[Row] = []
    skipped = 0
    with (
        tempfile.TemporaryDirectory(prefix="isthmus-bench-") as text,
        Processes(Path(text)) as processes,
        Rig(processes, fraction=speed) as rig,
    ):
        folder = Path(text)
        say("overlap: what a message more costs")
        agent_s = message_s(processes)
        overhead = calibrate(rig, folder / "calibration")
        for name in names:
            say(f"overlap: profiling {name}")
            one = subject(name, folder / name)
            model = one.read()
            cloud = profile(model, one.sample, runs=15)
            device = overhead.on(cloud.scaled(speed))
            say(f"overlap: planning {name}")
            cells, idle = chosen(model, device, cloud, [parse_link(link) for link in links])
            skipped += idle
            ways = {cell.plan.id: way_of(cell.plan) for cell in cells}
            apart = rig.load(one, tuple(ways.values())) if cells else {}
            for cell in cells:
                say(f"overlap: {name} over {cell.link.name}, {cell.plan.id}")
                rows.append(_row(name, rig, cell, rounds, apart[cell.plan.id]))
    return Overlap(
        device_speed=speed,
        message_ms=round(overhead.message_s * 1e3, 3),
        agent_message_ms=round(agent_s * 1e3, 3),
        rows=tuple(rows),
        skipped=skipped,
        error=_error([(row.predicted_chunks_ms, row.measured_chunks_ms) for row in rows]),
        whole_error=_error([(row.predicted_whole_ms, row.measured_whole_ms) for row in rows]),
        targets=_targets(rows),
    )


def show(result: Overlap) -> Table:
    """One line for each plan and link."""
    table = Table(
        title="requests sent whole and in chunks (predicted), ms; device at "
        f"{result.device_speed:g}, a message more {result.message_ms:.1f} ms (the agent's own: "
        f"{result.agent_message_ms / result.device_speed:.1f})",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in ("model", "link", "what", "plan"):
        table.add_column(name, no_wrap=True)
    for name in ("chunks", "stages", "whole", "in chunks", "ratio", "apart"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.rows:
        table.add_row(
            row.model, row.link, row.what, row.plan,
            str(row.chunks), str(row.stages),
            f"{row.measured_whole_ms:.4g} ({row.predicted_whole_ms:.4g})",
            f"{row.measured_chunks_ms:.4g} ({row.predicted_chunks_ms:.4g})",
            f"{row.measured_ratio:.3f} ({row.predicted_ratio:.3f})",
            "differs" if row.apart is None else f"{row.apart:.1g}",
        )  # fmt: skip
    return table


def notes(result: Overlap) -> tuple[str, ...]:
    """What is to be said below the table."""
    lines = [f"skipped, as nothing there hides enough: {result.skipped}"]
    if result.error is not None and result.whole_error is not None:
        lines.append(
            f"the predicted latency is off by {result.error:.1%} in chunks and by "
            f"{result.whole_error:.1%} whole"
        )
    return tuple(lines)


def chosen(
    model: Model, device: Profile, cloud: Profile, links: Sequence[Link]
) -> tuple[list[Cell], int]:
    """The plans to measure, each once a link, and how many documents had none that pays."""
    cells: dict[tuple[Link, str], Cell] = {}
    skipped = 0
    for link in links:
        for may_leave in (True, False):
            document = plan(model, device, cloud, link, raw_input_may_leave=may_leave)
            choice = Cell(link=link, what="choice", plan=document.plan(document.choice))
            others = [
                Cell(link=link, what="plan", plan=each)
                for each in document.plans
                if each.crossing and not each.refused
            ]
            found = choice if choice.hidden_s > 0 else _most(others)
            if found is None:
                skipped += 1
            else:
                cells.setdefault((link, found.plan.id), found)
    most = _most(cell for link in links for cell in _staged(model, device, cloud, link))
    if most is not None:
        cells.setdefault((most.link, most.plan.id), most)
    return list(cells.values()), skipped


def stages(way: Plan) -> int:
    """In how many stages the head of *way* runs, where it is sent in chunks."""
    return 1 + sum(chunk.device_s > 0 for chunk in way.chunks[1:])


def _most(cells: Iterable[Cell]) -> Cell | None:
    """The cell that hides most, if it hides enough; of two alike the one of more tensors."""
    found = max(cells, key=lambda cell: (cell.share, len(cell.plan.crossing)), default=None)
    return found if found is not None and found.share >= LEAST_SHARE else None


def _staged(model: Model, device: Profile, cloud: Profile, link: Link) -> list[Cell]:
    """Prefixes of the ops from which several tensors cross, and whose heads have stages."""
    costs = Costs(model.graph, device, cloud, link, LOSSLESS)
    found = []
    for count in range(1, len(model.graph.ops)):
        try:
            way = costs.plan(frozenset(range(count)), link.up_bps)
        except PlannerError:  # something there cannot cross
            continue
        if len(way.crossing) > 1 and stages(way) > 1:
            found.append(Cell(link=link, what="prefix", plan=way))
    return found


def _row(name: str, rig: Rig, cell: Cell, rounds: int, apart: float | None) -> Row:
    """Send by turns whole and in chunks."""
    rig.over(cell.link)
    times = race(
        ("whole", "chunks"),
        lambda how: rig.ask(cell.plan.id, chunked=how == "chunks").total_s,
        kept=("whole", "chunks"),
        rounds=rounds,
    )
    whole_s, chunks_s = typical(times["whole"]), typical(times["chunks"])
    predicted_s = cell.chunks_s + cell.hidden_s
    return Row(
        model=name,
        link=cell.link.name,
        what=cell.what,
        plan=cell.plan.id,
        tensors=len(cell.plan.crossing),
        chunks=len(cell.plan.chunks),
        stages=stages(cell.plan),
        predicted_whole_ms=round(predicted_s * 1e3, 2),
        predicted_chunks_ms=round(cell.chunks_s * 1e3, 2),
        measured_whole_ms=round(whole_s * 1e3, 2),
        measured_chunks_ms=round(chunks_s * 1e3, 2),
        predicted_ratio=round(predicted_s / cell.chunks_s, 4),
        measured_ratio=round(whole_s / chunks_s, 4),
        apart=apart,
    )


def _error(pairs: Sequence[tuple[float, float]]) -> float | None:
    """The mean absolute error of (predicted, measured) *pairs*, as a share; None of none."""
    if not pairs:
        return None
    return fmean(abs(predicted / measured - 1) for predicted, measured in pairs)


def _targets(rows: Sequence[Row]) -> tuple[Target, ...]:
    if not rows:
        return ()
    ratios = [row.measured_ratio for row in rows]
    error = _error([(row.predicted_chunks_ms, row.measured_chunks_ms) for row in rows]) or 0.0
    return (
        at_least(
            "sent in chunks over sent whole, geometric mean",
            math.exp(fmean(map(math.log, ratios))),
            1.0,
            "x",
        ),
        at_least("sent in chunks over sent whole, worst cell", min(ratios), 0.98, "x"),
        at_most("predicted makespan against measured, mean absolute error", error, 0.05),
    )
