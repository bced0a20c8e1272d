"""A model whose weights nobody loads, from the registry to an instance's answer."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cloud_fn.functions import Function
from cloud_fn.functions.instance import Instance
from cloud_fn.registry import Catalog
from cloud_fn.registry import external as external_module
from cloud_fn.registry.push import push
from planner import normal, source
from planner.model import read
from protos import wire
from protos.invocation import Request, Tensor

WIDTH = 32
X = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None]


@pytest.fixture(autouse=True)
def few_bytes_are_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So that a model of 8 kB goes the way of a large one, and is kept here."""
    monkeypatch.setattr(source, "EXTERNAL_FROM_BYTES", 4096)
    monkeypatch.setattr(external_module, "EXTERNAL_FROM_BYTES", 4096)
    monkeypatch.setattr(normal, "default_folder", lambda: tmp_path / "normal")


def a_model(path: Path, form: str) -> Path:
    rng = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["m"]),
            helper.make_node("Tanh", ["m"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "w2"], ["y"]),
        ],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, WIDTH])],
        [
            numpy_helper.from_array(rng.standard_normal((WIDTH, WIDTH)).astype(np.float32), name)
            for name in ("w1", "w2")
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=form == "outside",
        location="wide.weights",
        size_threshold=0,
    )
    return path


@pytest.mark.parametrize(("form", "files"), [("inside", []), ("outside", ["wide.weights"])])
def test_a_large_model_is_published_and_its_tail_answers(
    catalog: Catalog, tmp_path: Path, form: str, files: list[str]
) -> None:
    model = read(a_model(tmp_path / "wide.onnx", form))
    assert model.weights is not None
    hidden = model.head(["hidden"]).run({"x": X})["hidden"]
    want = model.piece(["x"]).run({"x": X})["y"]
    manifest, _ = push(catalog, tmp_path / "wide.onnx")
    assert manifest.digest == model.digest
    assert [file.name for file in manifest.content.data] == files
    instance = Instance(Function.of(manifest, catalog))
    request = Request(
        model="wide", inputs=(Tensor.of("hidden", hidden),), cut="plan-1", version="1"
    )
    reply = wire.decode_reply(instance.execute(wire.encode_request(request)).body)
    np.testing.assert_allclose(reply.outputs[0].array(), want, atol=1e-5)
    assert instance._loader._model is None
