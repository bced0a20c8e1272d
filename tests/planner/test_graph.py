"""What a model may hold: each small model here reads, and is cut wherever a cut can fall."""
# ruff: noqa: ANN401  (a node takes any attribute)

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.errors import CutError, ModelError, PlannerError
from planner.graph import Graph, Op, TensorInfo
from planner.model import Model, read, sample_inputs
from planner.narrow import narrow_places

FLOAT = TensorProto.FLOAT
SHAPE = [2, 3]


def value(
    name: str, kind: int = FLOAT, shape: Sequence[int | str] | None = tuple(SHAPE)
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name: str, array: npt.ArrayLike) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def node(kind: str, reads: str, makes: str, **attributes: Any) -> onnx.NodeProto:
    """A node; names are separated by ``|``, since they may hold spaces."""
    return helper.make_node(kind, reads.split("|"), makes.split("|"), **attributes)


def a_model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    weights: Sequence[onnx.TensorProto] = (),
    opset: int = 18,
    functions: Sequence[onnx.FunctionProto] = (),
    sparse: Sequence[onnx.SparseTensorProto] = (),
) -> Path:
    """Write a model that takes ``x`` and makes ``y``, both (2, 3), unless told otherwise."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        list(inputs or [value("x")]),
        list(outputs or [value("y")]),
        list(weights),
        sparse_initializer=list(sparse),
    )
    domains = {f.domain for f in functions}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))
    onnx.save(model, str(path / "model.onnx"))
    return path / "model.onnx"


def own_answers(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime says to the file itself."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feeds = {i.name: inputs[i.name] for i in session.get_inputs()}
    return dict(zip(names, session.run(names, feeds), strict=True))


def cuts(model: Model) -> Iterator[tuple[str, ...]]:
    """What crosses after each number of ops, where it can cross and something comes after."""
    for count in range(len(model.graph.ops)):
        crossing = model.graph.boundary(frozenset(range(count)))
        if crossing and all(model.graph.info(name).crosses for name in crossing):
            yield crossing


def agree(path: Path, dims: dict[str, int] | None = None) -> list[tuple[str, ...]]:
    """Assert that head and tail say what the file says, at every cut; returns the cuts."""
    model = read(path, dims=dims)
    inputs = sample_inputs(model)
    want = own_answers(path, inputs)
    assert set(model.answers) == set(want)
    found = []
    for crossing in cuts(model):
        head = model.head(crossing)
        made = head.run({name: inputs[name] for name in head.inputs})
        got = made | model.tail(crossing).run({name: made[name] for name in crossing})
        for name, array in want.items():
            assert np.array_equal(got[name], array), (crossing, name)
        if not head.is_empty:
            _files_agree(model, crossing, inputs, want)
        found.append(crossing)
    return found


def _files_agree(
    model: Model,
    crossing: tuple[str, ...],
    inputs: dict[str, np.ndarray],
    want: dict[str, np.ndarray],
) -> None:
    """The same of the two ONNX models that ``isthmus split`` writes."""
    values = dict(inputs)
    for part in model.split(crossing):
        onnx.checker.check_model(part)
        session = ort.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
        feeds = {i.name: values[i.name] for i in session.get_inputs()}
        names = [output.name for output in session.get_outputs()]
        values |= dict(zip(names, session.run(names, feeds), strict=True))
    for name, array in want.items():
        assert np.array_equal(values[name], array), (crossing, name)


def test_weights_in_constant_nodes_stay_with_the_op_that_uses_them(tmp_path: Path) -> None:
    """Paddle's exports have nothing else."""
    nodes = [
        node("Constant", "", "w", value=constant("", np.full(SHAPE, 2, np.float32))),
        node("Add", "x|w", "a"),
        node("Exp", "a", "b"),
        node("Mul", "b|w", "y"),
    ]
    nodes[0].ClearField("input")
    assert agree(a_model(tmp_path, nodes)) == [("x",), ("a",), ("b",)]


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "x", "a"),
        node("Add", "a|z", "early"),
        node("Neg", "a", "b"),
        node("Mul", "b|z", "late"),
    ]
    path = a_model(
        tmp_path, nodes, inputs=[value("x"), value("z")], outputs=[value("early"), value("late")]
    )
    assert agree(path) == [("x", "z"), ("z", "a"), ("z", "a"), ("z", "b")]
    model = read(path)
    assert model.head(["z", "b"]).outputs == ("z", "b", "early")
    assert model.tail(["z", "b"]).outputs == ("late",)


def test_recurrent_state_goes_in_and_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return constant(name, rng.standard_normal(shape).astype(np.float32))

    nodes = [
        node("Relu", "x", "a"),
        node("LSTM", "a|w|r|b||h|c", "all|h2|c2", hidden_size=4),
        node("Tanh", "all", "y"),
    ]
    path = a_model(
        tmp_path,
        nodes,
        inputs=[value("x", shape=[5, 1, 3])]
        + [value(name, shape=[1, 1, 4]) for name in ("h", "c")],
        outputs=[value("y", shape=[5, 1, 1, 4])]
        + [value(name, shape=[1, 1, 4]) for name in ("h2", "c2")],
        weights=[weight("w", 1, 16, 3), weight("r", 1, 16, 4), weight("b", 1, 32)],
    )
    assert agree(path) == [("x", "h", "c"), ("h", "c", "a"), ("all",)]


def test_a_skip_connection_crosses_too(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "x", "a"),
        node("Exp", "a", "b"),
        node("Neg", "b", "c"),
        node("Add", "a|c", "y"),
    ]
    assert agree(a_model(tmp_path, nodes)) == [("x",), ("a",), ("a", "b"), ("a", "c")]


def test_captures_two_deep_are_inputs_of_the_whole_op(tmp_path: Path) -> None:
    inner = [
        helper.make_graph([node(kind, f"a|{other}", out)], out, [], [value(out)])
        for kind, other, out in (("Add", "x", "p"), ("Sub", "w", "q"))
    ]
    outer = [
        helper.make_graph(
            [helper.make_node("If", ["flag2"], ["m"], then_branch=inner[0], else_branch=inner[1])],
            "then",
            [],
            [value("m")],
        ),
        helper.make_graph([node("Neg", "b", "n")], "else", [], [value("n")]),
    ]
    nodes = [
        node("Relu", "x", "a"),
        node("Exp", "a", "b"),
        helper.make_node("If", ["flag"], ["i"], then_branch=outer[0], else_branch=outer[1]),
        node("Abs", "i", "y"),
    ]
    flags = [value(name, TensorProto.BOOL, []) for name in ("flag", "flag2")]
    path = a_model(
        tmp_path,
        nodes,
        inputs=[value("x"), *flags],
        weights=[constant("w", np.full(SHAPE, 3, np.float32))],
    )
    assert agree(path)[2:] == [("x", "flag", "flag2", "a", "b"), ("i",)]


def test_a_loop_and_a_scan_stay_whole(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("Identity", "going", "on"), node("Add", "carried|a", "sum")],
        "body",
        [value("i", TensorProto.INT64, []), value("going", TensorProto.BOOL, []), value("carried")],
        [value("on", TensorProto.BOOL, []), value("sum")],
    )
    scan = helper.make_graph(
        [node("Add", "state|row", "next"), node("Mul", "next|s", "out")],
        "scan",
        [value("state", shape=[3]), value("row", shape=[3])],
        [value("next", shape=[3]), value("out", shape=[3])],
    )
    nodes = [
        node("Relu", "x", "a"),
        node("ReduceSum", "a", "s", keepdims=0),
        helper.make_node("Loop", ["three", "", "x"], ["l"], body=body),
        node("Neg", "l", "m"),
        helper.make_node("Scan", ["zero", "m"], ["last", "y"], body=scan, num_scan_inputs=1),
    ]
    weights = [
        constant("three", np.array(3, np.int64)),
        constant("zero", np.zeros(3, np.float32)),
    ]
    path = a_model(tmp_path, nodes, weights=weights)
    assert [op.kind for op in read(path).graph.ops] == ["Relu", "ReduceSum", "Loop", "Neg", "Scan"]
    assert agree(path) == [("x",), ("x", "a"), ("x", "a", "s"), ("s", "l"), ("s", "m")]


def test_a_models_own_functions_may_be_on_both_sides(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    inner = helper.make_function("own", "Inner", ["a"], ["b"], [node("Exp", "a", "b")], opsets[:1])
    outer = helper.make_function(
        "own",
        "Outer",
        ["a"],
        ["b"],
        [node("Neg", "a", "t"), node("Inner", "t", "b", domain="own")],
        opsets,
    )
    nodes = [
        node("Outer", "x", "m", domain="own"),
        node("Abs", "m", "n"),
        node("Outer", "n", "y", domain="own"),
    ]
    assert len(agree(a_model(tmp_path, nodes, functions=[inner, outer]))) >= 3


def test_a_sparse_initializer_goes_where_it_is_used(tmp_path: Path) -> None:
    sparse = helper.make_sparse_tensor(
        constant("w", np.array([1, 2], np.float32)), constant("", np.array([0, 4])), SHAPE
    )
    path = a_model(tmp_path, [node("Relu", "x", "a"), node("Add", "a|w", "y")], sparse=[sparse])
    assert agree(path) == [("x",), ("a",)]
    head, tail = read(path).split(["a"])
    assert [[t.name for t in part.graph.initializer] for part in (head, tail)] == [[], ["w"]]


def test_names_may_hold_anything(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "in put", "model/é:0;a b"),
        node("Exp", "model/é:0;a b", "слой/1"),
        node("Neg", "слой/1", "y/out:0"),
    ]
    path = a_model(tmp_path, nodes, inputs=[value("in put")], outputs=[value("y/out:0")])
    assert agree(path) == [("in put",), ("model/é:0;a b",), ("слой/1",)]


def test_an_initializer_that_is_an_input_too_is_a_constant(tmp_path: Path) -> None:
    path = a_model(
        tmp_path,
        [node("Relu", "x", "a"), node("Add", "a|w", "y")],
        inputs=[value("x"), value("w")],
        weights=[constant("w", np.ones(SHAPE, np.float32))],
    )
    model = read(path)
    assert [info.name for info in model.inputs] == ["x"]
    assert list(cuts(model)) == [("x",), ("a",)]


def test_an_output_that_is_constant_is_the_heads(tmp_path: Path) -> None:
    """An initializer, or what is made from one: no input leads to it."""
    path = a_model(
        tmp_path,
        [node("Relu", "x", "a"), node("Add", "a|w", "y"), node("Neg", "w", "n")],
        outputs=[value("y"), value("w"), value("n")],
        weights=[constant("w", np.ones(SHAPE, np.float32))],
    )
    model = read(path)
    assert ("a",) in agree(path)
    assert model.head(["a"]).outputs == ("a", "w", "n")
    assert model.tail(["a"]).outputs == ("y",)


def test_an_input_may_be_an_output_as_it_is(tmp_path: Path) -> None:
    path = a_model(
        tmp_path, [node("Relu", "x", "a"), node("Neg", "a", "y")], outputs=[value("y"), value("x")]
    )
    assert agree(path) == [("x",), ("a",)]
    assert read(path).head(["a"]).outputs == ("a", "x")


def test_one_tensor_may_be_listed_as_an_output_twice(tmp_path: Path) -> None:
    path = a_model(
        tmp_path, [node("Relu", "x", "a"), node("Neg", "a", "y")], outputs=[value("y"), value("y")]
    )
    assert read(path).answers == ("y",)
    assert agree(path) == [("x",), ("a",)]


def test_what_is_random_is_drawn_once(tmp_path: Path) -> None:
    """Both sides of a cut may not draw it, each its own."""
    nodes = [
        node("RandomNormal", "", "r", shape=SHAPE, seed=1.0),
        node("Add", "x|r", "a"),
        node("Exp", "a", "b"),
        node("Mul", "b|r", "y"),
    ]
    nodes[0].ClearField("input")
    model = read(a_model(tmp_path, nodes))
    assert list(cuts(model)) == [("x",), ("x", "r"), ("r", "a"), ("r", "b")]
    assert model.tail(["x"]).outputs == ("y",)
    assert model.tail(["r", "b"]).outputs == ("y",)
    for refused in (model.tail, model.split):
        with pytest.raises(CutError, match=r"draws random values for both sides.*let r cross"):
            refused(["b"])


def test_an_input_that_is_left_out_is_no_tensor(tmp_path: Path) -> None:
    path = a_model(
        tmp_path,
        [node("Exp", "x", "a"), node("Clip", "a||most", "y")],
        weights=[constant("most", np.float32(0.5))],
    )
    assert agree(path) == [("x",), ("a",)]


@pytest.mark.parametrize(
    "middle",
    [
        [node("SequenceConstruct", "a|a", "s"), node("SequenceAt", "s|zero", "b")],
        [node("Optional", "a", "s"), node("OptionalGetElement", "s", "b")],
        [node("Cast", "a", "s", to=TensorProto.BFLOAT16), node("Cast", "s", "b", to=FLOAT)],
        [node("Cast", "a", "s", to=TensorProto.UINT4), node("Cast", "s", "b", to=FLOAT)],
        [node("Cast", "a", "s", to=TensorProto.FLOAT8E4M3FN), node("Cast", "s", "b", to=FLOAT)],
    ],
    ids=["sequence", "optional", "bfloat16", "uint4", "float8"],
)
def test_what_no_message_can_hold_never_crosses(
    tmp_path: Path, middle: list[onnx.NodeProto]
) -> None:
    path = a_model(
        tmp_path,
        [node("Relu", "x", "a"), *middle, node("Neg", "b", "y")],
        weights=[constant("zero", np.array(0, np.int64))],
        opset=21,
    )
    assert agree(path) == [("x",), ("a",), ("b",)]
    model = read(path)
    assert not model.graph.info("s").crosses
    assert [names for _, _, names in narrow_places(model.graph)] == [("x",)]
    for refused in (model.tail, model.split):
        with pytest.raises(CutError, match="'s' is of a type that no message can hold"):
            refused(["s"])


def test_half_precision_crosses(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "x", "h", to=TensorProto.FLOAT16),
        node("Transpose", "h", "n"),
        node("Cast", "n", "y", to=FLOAT),
    ]
    path = a_model(tmp_path, nodes, outputs=[value("y", shape=[3, 2])])
    assert agree(path) == [("x",), ("h",), ("n",)]
    assert read(path).graph.info("h").nbytes == 12


def test_an_input_that_no_message_can_hold_is_refused(tmp_path: Path) -> None:
    path = a_model(
        tmp_path,
        [node("Cast", "x", "y", to=FLOAT)],
        inputs=[value("x", TensorProto.BFLOAT16)],
    )
    with pytest.raises(ModelError, match="input x is of a type that no message can hold"):
        read(path)


def test_an_output_that_nobody_reads_does_not_cross(tmp_path: Path) -> None:
    nodes = [node("TopK", "x|k", "best|where"), node("Neg", "best", "y")]
    path = a_model(
        tmp_path, nodes, outputs=[value("y", shape=[2, 1])], weights=[constant("k", np.array([1]))]
    )
    assert agree(path) == [("x",), ("best",)]


def test_a_tensor_may_have_no_elements(tmp_path: Path) -> None:
    nodes = [
        node("Slice", "x|zero|zero", "none"),
        node("Neg", "none", "still"),
        node("Concat", "still|x", "y", axis=0),
    ]
    path = a_model(tmp_path, nodes, weights=[constant("zero", np.array([0]))])
    assert read(path).graph.info("none").shape == (0, 3)
    assert agree(path) == [("x",), ("x", "none"), ("x", "still")]


def test_a_late_shape_of_known_size_holds_nothing_back(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "x", "a"),
        node("Exp", "a", "b"),
        node("ReduceMax", "b", "c", keepdims=1),
        node("Shape", "a", "s"),
        node("Expand", "c|s", "y"),
    ]
    path = a_model(tmp_path, nodes, inputs=[value("x", shape=None)], outputs=[value("y")])
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim.add(dim_param="rows")
    model.graph.input[0].type.tensor_type.shape.dim.add(dim_value=3)
    onnx.save(model, str(path))
    assert agree(path, {"rows": 2}) == [("x",), ("a",), ("b",), ("c",)]


def test_a_late_shape_of_unknown_size_holds_only_itself_back(tmp_path: Path) -> None:
    """It is taken as soon as the tensor is there; its integers cross, not the tensor."""
    nodes = [
        node("NonZero", "x", "a"),
        node("Abs", "a", "b"),
        node("ReduceMax", "b", "c", keepdims=1),
        node("Shape", "a", "s"),
        node("Expand", "c|s", "y"),
    ]
    path = a_model(tmp_path, nodes, outputs=[value("y", TensorProto.INT64, ["rows", "columns"])])
    assert agree(path) == [("x",), ("a",), ("a", "s"), ("s", "b"), ("s", "c")]


def test_a_split_before_the_first_op_is_refused(tmp_path: Path) -> None:
    model = read(a_model(tmp_path, [node("Relu", "x", "a"), node("Neg", "a", "y")]))
    with pytest.raises(CutError, match="nothing runs before x: name a cut further on"):
        model.split(["x"])


def test_a_walk_along_the_graph_meets_every_boundary() -> None:
    """On random graphs, against the boundary of each prefix taken by itself."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        graph = a_random_graph(rng)
        live: set[str] = set()
        for count, begin, end in graph.prefixes():
            live = (live | set(begin)) - set(end)
            assert live == set(graph.boundary(frozenset(range(count))))


def a_random_graph(rng: np.random.Generator) -> Graph:
    names = ["s0", "s1"]
    ops = []
    for index in range(int(rng.integers(1, 12))):
        inputs = rng.choice(names, size=min(len(names), int(rng.integers(1, 4))), replace=False)
        outputs = tuple(f"t{index}.{i}" for i in range(int(rng.integers(1, 3))))
        ops.append(Op(name=f"op{index}", kind="K", inputs=tuple(map(str, inputs)), outputs=outputs))
        names += outputs
    tensors = {name: TensorInfo(name=name, datatype="FP32", shape=(1,)) for name in names}
    return Graph(ops=tuple(ops), tensors=tensors, sources=("s0", "s1"), answers=(names[-1],))


def test_an_output_that_no_message_can_hold_is_said_when_it_is_asked_for(tmp_path: Path) -> None:
    path = a_model(
        tmp_path,
        [node("Relu", "x", "a"), node("Cast", "a", "y", to=TensorProto.BFLOAT16)],
        outputs=[value("y", TensorProto.BFLOAT16)],
    )
    model = read(path)
    with pytest.raises(PlannerError, match="'y' is of a type that no message can hold"):
        model.whole()
