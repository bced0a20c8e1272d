"""One step run by itself, and small networks to put steps around."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from planner.model import Model, read
from planner.steps import After, Before
from planner.steps.binding import Ask, Run, Step, Value, fits
from protos.tensors import DATATYPES, datatype_of

Array = np.ndarray
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
Build = Callable[..., Model]
RunStep = Callable[..., tuple[Array, ...]]


def a_message(data: bytes) -> Array:
    """The sensor's message as the BYTES tensor that it is."""
    message = np.empty(1, dtype=np.object_)
    message[0] = data
    return message


def a_step(fields: Mapping[str, Any]) -> Step:
    """A step as a steps file declares it, checked as reading it does."""
    try:
        step: Step = msgspec.convert(fields, Before)
    except msgspec.ValidationError:
        step = msgspec.convert(fields, After)
    if problem := step.problem():
        raise ValueError(problem)
    return step


def run_step(
    fields: Mapping[str, Any],
    *given: Array | bytes,
    files: Mapping[str, bytes] | None = None,
    values: Mapping[str, Any] | None = None,
) -> tuple[Array, ...]:
    """Fit a step to *given*, run it, and check that what it makes is what it said it would.

    *values* are more facts about the first tensor (``columns``, ``rate``, ``colour``).
    """
    step = a_step(fields)
    arrays = [a_message(each) if isinstance(each, bytes) else each for each in given]
    known = [
        Value(
            name=f"in{index}",
            datatype=datatype_of(array),
            shape=array.shape,
            **(values or {} if index == 0 else {}),
        )
        for index, array in enumerate(arrays)
    ]
    roles = step.roles[: len(step.named)] if step.feeds else step.roles
    makes = (*step.named, *roles[len(step.named) :])
    bound = step.bind(Ask(given=known, makes=makes, files=files or {}))
    inputs = tuple(f"in{index}" for index in range(len(arrays)))
    outputs = tuple(value.name for value in bound.makes)
    run = Run(step=step, inputs=inputs, outputs=outputs, function=bound.run)
    made = run(dict(zip(inputs, arrays, strict=True)))
    for value in bound.makes:
        array = made[value.name]
        assert (value.datatype, True) == (datatype_of(array), fits(array.shape, value.shape)), value
    return tuple(made.values())


@pytest.fixture(scope="session", name="run_step")
def run_step_() -> RunStep:
    return run_step


@pytest.fixture
def around(tmp_path: Path) -> Build:
    """Build a model: a network that hands its inputs through, between the given steps.

    ``inputs`` maps names to datatypes and shapes; each has an output of its name and ``_out``.
    """

    def build(steps: Mapping[str, Any], inputs: Shapes, files: Mapping[str, bytes] = {}) -> Model:
        return read(a_network(tmp_path, inputs), steps=a_file(tmp_path, steps, files))

    return build


def a_network(folder: Path, inputs: Shapes) -> Path:
    """An ONNX file of Identity nodes."""
    numbers = {dtype: name for name, dtype in DATATYPES.items() if name not in ("BF16", "BYTES")}
    types = {name: helper.np_dtype_to_tensor_dtype(dtype) for dtype, name in numbers.items()}
    types["BYTES"] = TensorProto.STRING
    infos = {name: (types[datatype], list(shape)) for name, (datatype, shape) in inputs.items()}
    graph = helper.make_graph(
        [
            helper.make_node("Identity", [name], [f"{name}_out"], name=f"id_{name}")
            for name in infos
        ],
        "through",
        [helper.make_tensor_value_info(name, *info) for name, info in infos.items()],
        [helper.make_tensor_value_info(f"{name}_out", *info) for name, info in infos.items()],
    )
    path = folder / "through.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


def a_file(folder: Path, steps: Mapping[str, Any], files: Mapping[str, bytes] = {}) -> Path:
    """A steps file with the files that it names."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    path = folder / "steps.json"
    path.write_text(json.dumps({"schema": "isthmus.steps/1", **steps}))
    return path
