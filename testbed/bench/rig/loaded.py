"""A model's ways as something runnable: heads on the device, tails in the cloud."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from planner.model import Model, read
from planner.pieces import Piece
from testbed.bench.rig.ahead import Ahead, Stages
from testbed.bench.rig.orders import Load, TensorHead, Way
from testbed.bench.rig.wire import Values, pack
from testbed.errors import TestbedError


def read_model(order: Load) -> Model:
    """The model that *order* names.

    Raises:
        PlannerError: the model or its steps cannot be read.
    """
    steps = None if order.steps is None else Path(order.steps)
    return read(Path(order.model), steps=steps, dims=order.dims)


class Heads:
    """The device's pieces, one for each set of tensors that crosses, and their sample.

    Raises:
        PlannerError: a way's tensors do not part the model.
    """

    def __init__(self, model: Model, ways: Mapping[str, Way], sample: Values) -> None:
        self._ways, self._sample = ways, sample
        self._answers = frozenset(model.answers)
        self.pieces = _by_names(ways, lambda names: model.head(names) if names else model.whole())
        self.whole = self.pieces[()] if () in self.pieces else model.whole()
        self._stages = Stages(model, ways)

    def local(self, way: str) -> bool:
        """Whether nothing crosses."""
        return not _way(self._ways, way).crossing

    def answer(self) -> Values:
        """The whole model's answers to the sample."""
        return self._run(self.whole)

    def send(self, way: str) -> tuple[Values, tuple[TensorHead, ...], bytes]:
        """Run *way*'s head: the answers that it makes already, and what crosses, as written."""
        crossing = dict(_way(self._ways, way).crossing)
        values = self._run(self.pieces[tuple(crossing)])
        early = {name: value for name, value in values.items() if name in self._answers}
        return early, *pack({name: values[name] for name in crossing}, crossing)

    def ahead(self, way: str) -> Ahead | None:
        """A request that is sent *way* in chunks; None where it has none."""
        _way(self._ways, way)
        return self._stages.begin(way, self._sample)

    def warm(self) -> None:
        """Run each piece once: the first run allocates."""
        for piece in self.pieces.values():
            self._run(piece)
        for way in self._ways:
            for _ in self.ahead(way) or ():
                pass

    def _run(self, piece: Piece) -> Values:
        return piece.run({name: self._sample[name] for name in piece.inputs})


class Tails:
    """The cloud's pieces, one for each set of tensors that crosses."""

    def __init__(self, model: Model, ways: Mapping[str, Way]) -> None:
        self._ways = ways
        remote = {id_: way for id_, way in ways.items() if way.crossing}
        self.pieces = _by_names(remote, model.tail)

    def run(self, way: str, values: Values) -> Values:
        """The answers that *values*, what crossed on *way*, lead to."""
        names = tuple(name for name, _ in _way(self._ways, way).crossing)
        return self.pieces[names].run(values)


def difference(answers: Values, whole: Values) -> float | None:
    """The largest difference of any number; None where a text, a shape or a NaN differs."""
    if answers.keys() != whole.keys():
        return None
    most = 0.0
    for name, ours in answers.items():
        theirs = whole[name]
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return None
        if ours.dtype == np.object_:
            if not bool((ours == theirs).all()):
                return None
        elif not np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"):
            apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()
            if not math.isfinite(apart):
                return None
            most = max(most, float(apart))
    return most


def _by_names(
    ways: Mapping[str, Way], make: Callable[[tuple[str, ...]], Piece]
) -> dict[tuple[str, ...], Piece]:
    crossings = {tuple(name for name, _ in way.crossing) for way in ways.values()}
    return {names: make(names) for names in sorted(crossings)}


def _way(ways: Mapping[str, Way], id_: str) -> Way:
    if id_ not in ways:
        raise TestbedError(f"the way {id_!r} was not loaded: load {', '.join(ways) or 'a model'}")
    return ways[id_]
