"""The proof that head and tail together equal the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from planner.model import Model
from planner.sessions import open_session
from planner.source import load

TOLERANCE = 1e-5
_OFF = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
_ON = ort.GraphOptimizationLevel.ORT_ENABLE_ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Largest difference between the whole and head + tail.

    ``exact`` compares with ONNX Runtime's optimisations off, where only a wrong cut can make a
    difference; ``absolute`` and ``relative`` (to the largest magnitude of the output, at least 1)
    with them on, against the file as it was given, so with ONNX Runtime's own noise.
    """

    exact: float
    absolute: float
    relative: float

    @property
    def holds(self) -> bool:
        return self.exact == 0.0 and self.relative <= TOLERANCE


class Whole:
    """A model's own answers to one input, for comparing any number of cuts with.

    Args:
        path: the file as it was given.
        model: what was read from it.
        inputs: an array for each of the network's inputs.
    """

    def __init__(self, path: Path, model: Model, inputs: Mapping[str, np.ndarray]) -> None:
        self._inputs = inputs
        self._folder = model.folder
        self._exact = _run(model.proto, inputs, _OFF, model.folder)
        source = load(path)
        self._optimised = _run(source.proto, inputs, _ON, source.folder)

    def against(self, head: onnx.ModelProto, tail: onnx.ModelProto) -> Difference:
        """Run *head* (makes the boundary tensors and early outputs), then *tail*, and compare."""
        exact = _apart(self._exact, self._both(head, tail, _OFF))
        split = self._both(head, tail, _ON)
        absolute, relative = 0.0, 0.0
        for name, value in self._optimised.items():
            apart = _apart({name: value}, split)
            absolute = max(absolute, apart)
            relative = max(relative, apart / max(1.0, _magnitude(value)))
        return Difference(exact=exact, absolute=absolute, relative=relative)

    def _both(
        self, head: onnx.ModelProto, tail: onnx.ModelProto, level: ort.GraphOptimizationLevel
    ) -> dict[str, np.ndarray]:
        early = _run(head, self._inputs, level, self._folder)
        return early | _run(tail, {**self._inputs, **early}, level, self._folder)


def _run(
    model: onnx.ModelProto,
    values: Mapping[str, np.ndarray],
    level: ort.GraphOptimizationLevel,
    folder: Path | None,
) -> dict[str, np.ndarray]:
    session = open_session(model.SerializeToString(), level=level, folder=folder)
    names = [value.name for value in session.get_outputs()]
    feeds = {value.name: values[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(names, feeds), strict=True))


def _apart(wanted: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> float:
    most = 0.0
    for name, value in wanted.items():
        other = got[name]
        if value.shape != other.shape or value.dtype != other.dtype:
            return float("inf")
        if value.dtype == np.object_ or not value.size:
            most = max(most, 0.0 if np.array_equal(value, other) else float("inf"))
            continue
        a, b = value.astype(np.float64), other.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        apart = np.where(same, 0.0, np.abs(a - b))
        most = max(most, float("inf") if np.isnan(apart).any() else float(apart.max()))
    return most


def _magnitude(value: np.ndarray) -> float:
    if value.dtype == np.object_ or not value.size:
        return 0.0
    finite = np.abs(value.astype(np.float64))
    return float(np.nanmax(np.where(np.isfinite(finite), finite, 0.0)))
