"""A small convolutional model with steps, and its profile, for the planner's tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from planner.model import Model, read
from planner.profiles import Profile
from planner.profiling import profile
from planner.steps import made_up_image

Builder = Callable[..., Path]


def a_network() -> onnx.ModelProto:
    """Conv, Relu, global pooling, Gemm: 32 x 32 pixels to 3 classes, with a dynamic batch."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="conv1", strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3"], ["y"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 3])],
        [weight("w1", 8, 3, 3, 3), weight("w2", 16, 8, 3, 3), weight("w3", 16, 3)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


STEPS: dict[str, Any] = {
    "schema": "isthmus.steps/1",
    "input": "x",
    "before": [
        {"step": "decode", "colour": "RGB"},
        {"step": "resize", "short": 36},
        {"step": "crop", "width": 32, "height": 32},
        {"step": "normalise", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        {"step": "layout", "order": "NCHW"},
    ],
    "after": [{"step": "top_k", "tensor": "y", "labels": ["a", "b", "c"], "k": 2}],
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model's file, with ``steps.json`` beside it."""
    folder = tmp_path_factory.mktemp("tiny")
    onnx.save(a_network(), str(folder / "tiny.onnx"))
    (folder / "steps.json").write_text(json.dumps(STEPS))
    return folder / "tiny.onnx"


@pytest.fixture(scope="session")
def model(tiny: Path) -> Model:
    return read(tiny, steps=tiny.parent / "steps.json")


@pytest.fixture(scope="session")
def measured(model: Model) -> Profile:
    """The small model on this machine."""
    sample = {"bytes": np.array([made_up_image(64, 48)], dtype=np.object_)}
    return profile(model, sample, runs=5)
