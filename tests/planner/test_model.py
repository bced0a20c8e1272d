"""Reading, cutting and running a model with steps."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.errors import CutError, InputError, ModelError, StepsError
from planner.model import Model, read
from planner.steps import made_up_image


def a_message() -> dict[str, np.ndarray]:
    return {"bytes": np.array([made_up_image(64, 48)], dtype=np.object_)}


def test_the_graph_starts_at_the_sensors_bytes_and_ends_at_the_answer(model: Model) -> None:
    assert model.source == ("bytes",)
    assert model.answers == ("label", "score")
    assert [op.kind for op in model.graph.ops][:5] == [
        "step:decode",
        "step:resize",
        "step:crop",
        "step:normalise",
        "step:layout",
    ]
    assert model.graph.info("crop").nbytes == 32 * 32 * 3
    assert model.graph.info("x").shape == (1, 3, 32, 32)
    assert model.assumed == {"batch": 1}


def test_every_cut_of_the_chain_gives_the_answer_of_the_whole(model: Model) -> None:
    want = model.whole().run(a_message())
    for count in range(1, len(model.graph.ops)):
        cut = model.graph.boundary(frozenset(range(count)))
        crossing = model.head(cut).run(a_message())
        got = model.tail(cut).run({name: crossing[name] for name in cut})
        assert got["label"].tolist() == want["label"].tolist()
        assert np.allclose(got["score"], want["score"], atol=1e-5)


def test_the_bare_network_is_its_inputs_to_its_outputs(model: Model) -> None:
    piece = model.piece(["x"])
    assert (piece.inputs, piece.outputs) == (("x",), ("y",))


def test_the_raw_message_can_be_the_cut(model: Model) -> None:
    assert model.head(["bytes"]).is_empty
    assert model.tail(["bytes"]).outputs == ("label", "score")


def test_an_answer_made_before_the_cut_is_returned_by_the_head(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="a"),
        helper.make_node("Exp", ["a"], ["early"], name="b"),
        helper.make_node("Neg", ["a"], ["c"], name="c"),
        helper.make_node("Abs", ["c"], ["late"], name="d"),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [value("x", onnx.TensorProto.FLOAT, [1, 4])],
        [value(name, onnx.TensorProto.FLOAT, [1, 4]) for name in ("early", "late")],
    )
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, ir_version=8), str(path))
    model = read(path)
    assert model.head(["c"]).outputs == ("c", "early")
    assert model.tail(["c"]).outputs == ("late",)
    head, tail = model.split(["c"])
    assert [v.name for v in head.graph.output] == ["c", "early"]
    assert [v.name for v in tail.graph.output] == ["late"]


def test_an_op_that_captures_outer_tensors_stays_whole(tmp_path: Path) -> None:
    """Its captures are inputs like any other, so they cross a cut."""
    value = helper.make_tensor_value_info
    branch = [
        helper.make_graph([helper.make_node(kind, ["a"], [out])], out, [], [value(out, 1, [1, 4])])
        for kind, out in (("Neg", "n"), ("Exp", "e"))
    ]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="relu"),
        helper.make_node(
            "If", ["flag"], ["y"], name="if", then_branch=branch[0], else_branch=branch[1]
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "if",
        [value("x", onnx.TensorProto.FLOAT, [1, 4]), value("flag", onnx.TensorProto.BOOL, [])],
        [value("y", onnx.TensorProto.FLOAT, [1, 4])],
    )
    path = tmp_path / "if.onnx"
    onnx.save(helper.make_model(graph, ir_version=8), str(path))
    model = read(path)
    assert model.graph.ops[1].inputs == ("flag", "a")
    crossing = {"a": np.ones((1, 4), np.float32), "flag": np.ones((), np.bool_)}
    assert model.tail(["a", "flag"]).run(crossing)["y"].tolist() == [[-1.0] * 4]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"x": np.zeros((1, 3, 32, 31), np.float32)}, "'x' has shape [1, 3, 32, 31]"),
        ({"x": np.zeros((1, 3, 32, 32), np.float64)}, "'x' is FP64: it must be FP32"),
        ({}, "the input 'x' is missing"),
        ({"z": np.zeros(1, np.float32)}, "there is no input 'z'"),
    ],
)
def test_a_wrong_input_is_named(model: Model, inputs: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(InputError) as caught:
        model.piece(["x"]).run(inputs)
    assert says in str(caught.value)


@pytest.mark.parametrize("message", [b"", b"not an image", made_up_image(64, 48)[:500]])
def test_a_message_that_is_no_image_is_refused(model: Model, message: bytes) -> None:
    with pytest.raises(InputError, match="no image that can be decoded"):
        model.whole().run({"bytes": np.array([message], dtype=np.object_)})


def test_an_image_smaller_than_the_crop_is_refused(model: Model, tmp_path: Path) -> None:
    crop_first = model.piece(["resize"], ["crop"])
    with pytest.raises(InputError, match="smaller than the crop"):
        crop_first.run({"resize": np.zeros((10, 10, 3), np.uint8)})


@pytest.mark.parametrize(
    ("cut", "says"),
    [
        (["nothing"], "has no tensor 'nothing'"),
        ([], "no tensor is named"),
        (["label"], "does not need label|depends on label|need"),
    ],
)
def test_a_cut_that_parts_nothing_is_refused(model: Model, cut: list[str], says: str) -> None:
    with pytest.raises(CutError, match=says):
        model.split(cut)


def test_a_cut_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="a"),
        helper.make_node("Neg", ["x"], ["b"], name="b"),
        helper.make_node("Add", ["a", "b"], ["y"], name="c"),
    ]
    graph = helper.make_graph(
        nodes, "skip", [value("x", 1, [1, 4])], [value("y", onnx.TensorProto.FLOAT, [1, 4])]
    )
    path = tmp_path / "skip.onnx"
    onnx.save(helper.make_model(graph, ir_version=8), str(path))
    model = read(path)
    with pytest.raises(CutError, match="x is missing"):
        model.tail(["a"])
    with pytest.raises(CutError, match="lacks the tensor 'x'"):
        model.split(["a"])


def test_files_that_are_no_models_are_refused(tiny: Path, tmp_path: Path) -> None:
    cases = {
        "text.onnx": b"hello, this is no model",
        "short.onnx": tiny.read_bytes()[: len(tiny.read_bytes()) // 2],
        "empty.onnx": b"",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match="no ONNX model"):
            read(tmp_path / name)
    with pytest.raises(ModelError, match="does not exist"):
        read(tmp_path / "missing.onnx")


def test_an_unknown_operator_domain_is_named(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Magic", ["x"], ["y"], domain="com.example")],
        "g",
        [value("x", 1, [1])],
        [value("y", 1, [1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), str(path))
    with pytest.raises(ModelError, match=r"domain 'com\.example' \(Magic\)"):
        read(path)


def test_a_dimension_that_the_model_does_not_have_is_refused(tiny: Path) -> None:
    with pytest.raises(ModelError, match="no dynamic dimension 'height': it has batch"):
        read(tiny, dims={"height": 3})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "isthmus.steps/9"}, "schema"),
        ({"extra": 1}, "extra"),
        ({"input": "z"}, "steps feed the input 'z'"),
        ({"before": []}, "first step must be decode"),
        ({"before": [{"step": "decode"}, {"step": "spin"}]}, "spin"),
        ({"before": [{"step": "decode"}, {"step": "resize"}]}, "step 1 resize needs"),
        ({"before": [{"step": "decode"}]}, "the steps make UINT8"),
        ({"after": [{"step": "top_k", "tensor": "y", "labels": ["a"]}]}, "1 labels for 3 classes"),
        ({"after": [{"step": "top_k", "tensor": "q", "labels": ["a"]}]}, "'q', which the network"),
        ({"after": [{"step": "top_k", "tensor": "y", "labels": ["a"], "k": 4}]}, "k between 1"),
    ],
)
def test_a_malformed_steps_file_is_refused(
    tiny: Path, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    steps = json.loads((tiny.parent / "steps.json").read_text()) | change
    path = tmp_path / "steps.json"
    path.write_text(json.dumps(steps))
    with pytest.raises(StepsError, match=says):
        read(tiny, steps=path)
