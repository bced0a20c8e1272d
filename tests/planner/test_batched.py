"""A graph for several rows: the same answers, and the weights of the graph for one."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.batched import Batched, compile_batched
from planner.compiling import compile_ready
from planner.dims import loosened_inputs
from planner.errors import ModelError
from planner.external import outside, place_of
from planner.graph import UNKNOWN
from planner.infos import info_of
from planner.model import read
from planner.sessions import open_session
from planner.sharing import share
from planner.source import load

Array = np.ndarray[Any, Any]


def run(graph: Path, folder: Path, inputs: dict[str, Array]) -> list[Array]:
    session = open_session(
        graph.read_bytes(), level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL, folder=folder
    )
    return list(session.run(None, inputs))


def batched(path: Path, folder: Path, dims: dict[str, int] | None = None) -> tuple[Path, Batched]:
    """The graph for one row and the one for several."""
    single, together = folder / "single", folder / "together"
    single.mkdir()
    together.mkdir()
    compiled = compile_ready(read(path, dims=dims), single)
    weights = None
    if compiled.weights is not None:
        weights = together / compiled.weights.name
        os.link(compiled.weights, weights)
    source = load(path)
    inputs = loosened_inputs(source.proto, dims or {}, path, with_lengths=True)
    made = compile_batched(source, inputs, together, single=compiled.optimised, weights=weights)
    return compiled.optimised, made


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    """``ids`` of [batch, sequence] through an embedding and a product to ``y``."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["m"]),
        helper.make_node("ReduceMean", ["m"], ["y"], axes=[1], keepdims=0),
    ]
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("table", (50, 32)), ("w", (32, 32)))
    ]
    graph = helper.make_graph(
        nodes,
        "sequence",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    path = tmp_path / "sequence.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


def test_several_rows_are_answered_as_each_alone_from_the_same_weights(
    tiny: Path, tmp_path: Path
) -> None:
    single, made = batched(tiny, tmp_path)
    assert [info.shape for info in made.inputs] == [(UNKNOWN, 3, 32, 32)]
    assert made.weights is None
    rows = np.random.default_rng(1).standard_normal((3, 3, 32, 32)).astype(np.float32)
    (together,) = run(made.graph, made.graph.parent, {"x": rows})
    for row, answer in zip(rows, together, strict=True):
        (alone,) = run(single, single.parent, {"x": row[None]})
        np.testing.assert_allclose(alone[0], answer, rtol=1e-5, atol=1e-5)


def test_a_length_that_nobody_gave_stays_open_and_one_that_was_given_does_not(
    sequence: Path, tmp_path: Path
) -> None:
    _, made = batched(sequence, tmp_path)
    assert [info.shape for info in made.inputs] == [(UNKNOWN, UNKNOWN)]
    (answer,) = run(made.graph, made.graph.parent, {"ids": np.ones((2, 7), np.int64)})
    assert answer.shape == (2, 32)
    source = load(sequence)
    fixed = loosened_inputs(source.proto, {"sequence": 16}, sequence, with_lengths=True)
    assert [info_of(value).shape for value in fixed] == [(UNKNOWN, 16)]
    without = loosened_inputs(source.proto, {}, sequence, with_lengths=False)
    assert [info_of(value).shape for value in without] == [(UNKNOWN, 128)]


def test_an_image_has_no_length(tiny: Path) -> None:
    source = load(tiny)
    source.proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "channels"
    loose = loosened_inputs(source.proto, {"channels": 3}, tiny, with_lengths=True)
    assert info_of(loose[0]).shape == (UNKNOWN, 3, 32, 32)


@pytest.mark.parametrize(
    ("rows", "dims", "sentence"),
    [
        (1, {}, "axis 0 of input 'x' is fixed: publish the model with a dynamic one"),
        (None, {"batch": 4}, "input 'x' was published with 4 rows: leave axis 0 to be of any size"),
    ],
)
def test_what_has_its_rows_fixed_is_not_batched_and_says_why(
    tiny: Path, rows: int | None, dims: dict[str, int], sentence: str
) -> None:
    source = load(tiny)
    if rows is not None:
        source.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = rows
    with pytest.raises(ModelError) as caught:
        loosened_inputs(source.proto, dims, tiny, with_lengths=True)
    assert str(caught.value) == sentence


def a_graph(*names: str) -> onnx.ModelProto:
    """Initializers of one page each, one after the other in ``weights``."""
    graph = helper.make_graph([], "weights", [], [])
    for number, name in enumerate(names):
        tensor = graph.initializer.add(name=name, data_type=TensorProto.UINT8, dims=[4096])
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": "weights", "offset": str(4096 * number), "length": "4096"}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
    return helper.make_model(graph)


def test_only_bytes_that_the_other_graph_lacks_are_kept_twice(tmp_path: Path) -> None:
    pages = {letter: letter.encode() * 4096 for letter in "abc"}
    own, others = tmp_path / "weights", tmp_path / "theirs"
    own.write_bytes(pages["c"] + pages["a"] + pages["c"])
    others.write_bytes(pages["a"] + pages["b"])
    model, other = a_graph("one", "two", "three"), a_graph("first", "second")
    assert share(model, own, other, others) == 4096 * 2
    places = {tensor.name: place_of(tensor) for tensor in outside(model)}
    assert {name: place.location for name, place in places.items()} == {
        "one": "weights",
        "two": "theirs",
        "three": "weights",
    }
    for name, letter in (("one", "c"), ("two", "a"), ("three", "c")):
        place = places[name]
        data = (tmp_path / place.location).read_bytes()
        assert data[place.offset : place.offset + 4096] == pages[letter]


def test_where_all_bytes_are_the_others_no_file_is_left(tmp_path: Path) -> None:
    own, others = tmp_path / "weights", tmp_path / "theirs"
    own.write_bytes(b"a" * 4096)
    others.write_bytes(b"a" * 4096)
    assert share(a_graph("one"), own, a_graph("first"), others) == 0
    assert not own.exists()
