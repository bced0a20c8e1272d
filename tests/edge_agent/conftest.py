"""Builders: a tiny image model with steps, its plans, and pictures to ask it about."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from planner.chunks import Chunk
from planner.model import Model, read
from planner.plans import (
    Certificate,
    Crossing,
    LinkFigures,
    Plan,
    PlanDocument,
    Range,
    write_plan,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A model on disk: 8 x 8 pixels to ``cat`` or ``dog``, with its steps and its plans."""

    onnx: Path
    steps: Path
    plan: Path


def _document(digest: str) -> PlanDocument:
    """Three plans: all here (40 ms), a split after the first convolution, the picture sent."""

    def a_plan(id_: str, *crossing: Crossing, device_s: float, cloud_s: float, ops: int) -> Plan:
        return Plan(
            id=id_,
            crossing=crossing,
            ops_on_device=ops,
            ops=5,
            device_s=device_s,
            encode_s=0.0,
            decode_s=0.0,
            cloud_s=cloud_s,
            download_bytes=0,
        )

    split = Crossing(tensor="relu", codec="raw", bytes=1024)
    picture = Crossing(tensor="bytes", codec="raw", bytes=6000)
    return PlanDocument(
        schema="isthmus.plan/1",
        model="tiny",
        digest=digest,
        objective="latency",
        link=LinkFigures(name="LTE", up_bps=731_250.0, down_bps=731_250.0, rtt_s=0.005),
        choice="plan-1",
        runner_up="cloud-jpeg",
        certificate=Certificate(method="minimum cut", unit="s", cost=0.02, bound=0.02),
        plans=(
            a_plan("device-only", device_s=0.040, cloud_s=0.0, ops=5),
            a_plan("plan-1", split, device_s=0.010, cloud_s=0.004, ops=2),
            a_plan("cloud-jpeg", picture, device_s=0.0, cloud_s=0.006, ops=0),
        ),
        baselines=("device-only", "cloud-jpeg"),
        table=(
            Range(from_bps=1.0, to_bps=50_000.0, plan="device-only"),
            Range(from_bps=50_000.0, to_bps=1_000_000.0, plan="plan-1"),
            Range(from_bps=1_000_000.0, to_bps=1e9, plan="cloud-jpeg"),
        ),
        reason="a test",
    )


@pytest.fixture(scope="session")
def plan_document() -> PlanDocument:
    """The plans of :func:`_document`, of no particular model."""
    return _document("0" * 64)


def chunked_plan(*, codec: str = "raw", slices: int = 2) -> Plan:
    """A plan of the forked model: ``relu`` goes up, in slices, while ``tanh`` is computed."""
    relu, tanh = (
        Crossing(tensor="relu", codec=codec, bytes=1024),
        Crossing(tensor="tanh", codec=codec, bytes=1024),
    )
    sliced = tuple(
        Chunk(
            tensor="relu",
            number=number,
            of=slices,
            device_s=0.0 if number > 1 else 0.010,
            encode_s=0.001,
            bytes=1024 // slices,
        )
        for number in range(1, slices + 1)
    )
    return Plan(
        id="chunked",
        crossing=(relu, tanh),
        ops_on_device=4,
        ops=8,
        device_s=0.030,
        encode_s=0.001 * (slices + 1),
        decode_s=0.0,
        cloud_s=0.004,
        download_bytes=0,
        chunks=(*sliced, Chunk(tensor="tanh", device_s=0.020, encode_s=0.001, bytes=1024)),
    )


def _forked_document(digest: str) -> PlanDocument:
    """All here (60 ms), or a split that is sent in three chunks."""
    document = _document(digest)
    here = msgspec.structs.replace(document.plan("device-only"), device_s=0.060, ops=8)
    return msgspec.structs.replace(
        document,
        choice="chunked",
        runner_up="device-only",
        plans=(here, chunked_plan()),
        baselines=("device-only",),
        table=(
            Range(from_bps=1.0, to_bps=50_000.0, plan="device-only"),
            Range(from_bps=50_000.0, to_bps=1e9, plan="chunked"),
        ),
    )


@pytest.fixture(scope="session")
def forked_document() -> PlanDocument:
    """The plans of :func:`_forked_document`, of no particular model."""
    return _forked_document("0" * 64)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The tiny model's files."""
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["conv"], pads=[1] * 4),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"]),
    ]
    return _written(tmp_path_factory.mktemp("tiny"), nodes, _document)


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A model with two ways from ``conv`` to ``sum``; ``most`` is an answer on neither."""
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["conv"], pads=[1] * 4),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Conv", ["conv", "second"], ["deep"], pads=[1] * 4),
        helper.make_node("Tanh", ["deep"], ["tanh"]),
        helper.make_node("Add", ["relu", "tanh"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"]),
        helper.make_node("GlobalMaxPool", ["conv"], ["most"]),
    ]
    most = helper.make_tensor_value_info("most", TensorProto.FLOAT, [1, 4, 1, 1])
    return _written(tmp_path_factory.mktemp("forked"), nodes, _forked_document, most)


def _written(
    folder: Path,
    nodes: list[onnx.NodeProto],
    document: Callable[[str], PlanDocument],
    *outputs: onnx.ValueInfoProto,
) -> Files:
    """Write a model from 8 x 8 pixels to two logits, with *outputs* besides."""
    random = np.random.default_rng(7)
    read_by = {name for node in nodes for name in node.input}
    shapes = {"kernel": (4, 3, 3, 3), "dense": (4, 2), "second": (4, 4, 3, 3)}
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
        if name in read_by
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2]), *outputs],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    files = Files(onnx=folder / "tiny.onnx", steps=folder / "steps.json", plan=folder / "plan.json")
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), files.onnx)
    before = [
        {"step": "decode"},
        {"step": "resize", "width": 8, "height": 8},
        {"step": "normalise", "mean": [0, 0, 0], "std": [1, 1, 1]},
        {"step": "layout"},
    ]
    labels = {"step": "top_k", "tensor": "logits", "labels": ["cat", "dog"], "softmax": True}
    steps = {"schema": "isthmus.steps/1", "input": "input", "before": before, "after": [labels]}
    files.steps.write_text(json.dumps(steps))
    write_plan(document(read(files.onnx, steps=files.steps).digest), files.plan)
    return files


@pytest.fixture(scope="session")
def tiny_model(tiny: Files) -> Model:
    """The tiny model as it is read."""
    return read(tiny.onnx, steps=tiny.steps)


@pytest.fixture(scope="session")
def forked_model(forked: Files) -> Model:
    """The forked model as it is read."""
    return read(forked.onnx, steps=forked.steps)


@pytest.fixture(scope="session")
def picture() -> Callable[[int], bytes]:
    """A JPEG of 32 x 32 pixels of noise, another for each seed."""

    def a_picture(seed: int = 0) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG")
        return file.getvalue()

    return a_picture
