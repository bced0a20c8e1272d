"""A network made ready for this machine: the same answers, from one graph and one weights file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.compiling import compile_ready, opened, race
from planner.correspondence import Graphs, alike, corresponding
from planner.cuttable import Chosen
from planner.errors import CutError
from planner.external import outside, place_of
from planner.graph import TensorInfo
from planner.laid_out import lay_out
from planner.model import Model, read, sample_inputs
from planner.ready import ReadyModel
from planner.target import Target, this_target

FLOAT = TensorProto.FLOAT


def a_weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) / 4
    return numpy_helper.from_array(values, name)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    x: Sequence[int],
    y: Sequence[int],
) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "ready",
        [helper.make_tensor_value_info("x", FLOAT, x)],
        [helper.make_tensor_value_info("y", FLOAT, y)],
        list(weights),
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


def an_encoder(folder: Path) -> Path:
    """Matrices and a GELU, which is fused out of four ops."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w1"], ["m"]),
        node("Add", ["m", "b1"], ["up"]),
        node("Div", ["up", "root2"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["e1"]),
        node("Mul", ["up", "e1"], ["g"]),
        node("Mul", ["g", "half"], ["gelu"]),
        node("MatMul", ["gelu", "w2"], ["down"]),
        node("Add", ["down", "x"], ["sum"]),
        node("Softmax", ["sum"], ["y"], axis=-1),
    ]
    scalars = {"root2": 2**0.5, "one": 1.0, "half": 0.5}
    weights = [a_weight("w1", 32, 64), a_weight("b1", 64), a_weight("w2", 64, 32)]
    weights += [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in scalars.items()]
    return save(folder / "encoder.onnx", nodes, weights, [1, 6, 32], [1, 6, 32])


def a_pyramid(folder: Path) -> Path:
    """Convolutions with activations, a gate and a sum, all of which are fused into blocks."""
    node = helper.make_node
    same: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["x", "c1"], ["conv1"], **same),
        node("Relu", ["conv1"], ["relu1"]),
        node("Conv", ["relu1", "c2"], ["conv2"], **same),
        node("Add", ["conv2", "relu1"], ["add2"]),
        node("Relu", ["add2"], ["relu2"]),
        node("Conv", ["relu2", "c3"], ["conv3"], **same),
        node("HardSigmoid", ["conv3"], ["gate3"], alpha=1 / 6, beta=0.5),
        node("Mul", ["conv3", "gate3"], ["swish3"]),
        node("MaxPool", ["swish3"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["pool"], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("MatMul", ["flat", "w"], ["y"]),
    ]
    weights = [a_weight("c1", 16, 3, 3, 3), a_weight("c2", 16, 16, 3, 3, seed=1)]
    weights += [a_weight("c3", 32, 16, 3, 3, seed=2), a_weight("w", 32, 4)]
    return save(folder / "pyramid.onnx", nodes, weights, [1, 3, 12, 12], [1, 4])


MODELS = {"encoder": an_encoder, "pyramid": a_pyramid}


def made_ready(model: Model, folder: Path) -> ReadyModel:
    folder.mkdir()
    return opened(compile_ready(model, folder)).model()


def answers(ready: ReadyModel, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """What the tail at *inputs* makes, None where the optimised graph cannot be cut there."""
    chosen = ready.choose_tail(list(inputs))
    part = ready.part(chosen)
    return None if part is None else run(ready, chosen, part, inputs)


def run(
    ready: ReadyModel, chosen: Chosen, part: bytes, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return ready.assembled(chosen, ready.ready.session(part)).run(inputs)


@pytest.fixture(params=sorted(MODELS))
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Model, ReadyModel]:
    model = read(MODELS[request.param](tmp_path))
    return model, made_ready(model, tmp_path / "ready")


def test_the_whole_answers_as_the_model_does(both: tuple[Model, ReadyModel]) -> None:
    model, ready = both
    inputs = sample_inputs(model)
    got = answers(ready, inputs)
    assert got is not None
    np.testing.assert_allclose(got["y"], model.whole().run(inputs)["y"], atol=1e-5)
    assert (ready.graph, ready.digest) == (model.graph, model.digest)


def test_the_network_alone_needs_no_look_at_its_graph(both: tuple[Model, ReadyModel]) -> None:
    model, ready = both
    whole = ready.ready.whole()
    assert whole == ready.choose(["x"]) == ready.ready.whole(["x"])
    assert [ready.ready.whole(names) for names in ([], ["q"], ["x", "q"])] == [None] * 3
    assert whole is not None
    inputs = sample_inputs(model)
    made = ready.assembled(whole, ready.ready.open(whole)).run(inputs)
    np.testing.assert_allclose(made["y"], model.whole().run(inputs)["y"], atol=1e-5)


def test_an_input_that_no_output_needs_is_not_asked_for(tmp_path: Path) -> None:
    nodes = [helper.make_node("Exp", ["x"], ["y"])]
    path = save(tmp_path / "idle.onnx", nodes, [], [1, 4], [1, 4])
    proto = onnx.load(str(path))
    proto.graph.input.append(helper.make_tensor_value_info("idle", FLOAT, [1]))
    onnx.save(proto, str(path))
    model = read(path)
    ready = made_ready(model, tmp_path / "ready")
    assert ready.ready.whole() is None
    with pytest.raises(CutError, match="does not need idle: leave it out"):
        ready.choose(["x", "idle"], ["y"])
    got = answers(ready, {"x": np.zeros((1, 4), np.float32)})
    assert got is not None
    assert got["y"].tolist() == [[1.0] * 4]


def test_an_output_that_comes_of_no_input_is_an_answer_as_it_is_in_the_model(
    tmp_path: Path,
) -> None:
    nodes = [helper.make_node("Exp", ["x"], ["y"]), helper.make_node("Neg", ["w"], ["c"])]
    path = save(tmp_path / "constant.onnx", nodes, [a_weight("w", 4)], [1, 4], [1, 4])
    proto = onnx.load(str(path))
    proto.graph.output.append(helper.make_tensor_value_info("c", FLOAT, [4]))
    onnx.save(proto, str(path))
    model = read(path)
    ready = made_ready(model, tmp_path / "ready")
    assert ready.ready.whole() is None
    assert ready.choose(["x"]).outputs == model.choose(["x"]).outputs == ("y",)


def test_every_cut_answers_as_the_models_own_tail_or_says_that_it_cannot(
    both: tuple[Model, ReadyModel],
) -> None:
    model, ready = both
    inputs, cut = sample_inputs(model), []
    for count in range(1, len(model.graph.ops)):
        crossing = model.graph.boundary(set(range(count)))
        given = model.piece(["x"], crossing).run(inputs)
        got = answers(ready, given)
        if got is not None:
            cut.append(crossing)
            np.testing.assert_allclose(got["y"], model.tail(crossing).run(given)["y"], atol=1e-5)
    assert len(cut) >= 4


def test_a_piece_may_end_inside_too(both: tuple[Model, ReadyModel]) -> None:
    """As a stage of several does."""
    model, ready = both
    inputs = sample_inputs(model)
    wanted = [name for name in ("relu2", "swish3", "m", "gelu") if name in model.graph.tensors]
    for name in wanted:
        chosen = ready.choose(["x"], [name])
        part = ready.part(chosen)
        assert part is not None
        made = run(ready, chosen, part, inputs)[name]
        np.testing.assert_allclose(made, model.piece(["x"], [name]).run(inputs)[name], atol=1e-5)


def test_all_cuts_refer_to_the_one_file_of_weights(tmp_path: Path) -> None:
    model = read(an_encoder(tmp_path))
    ready = made_ready(model, tmp_path / "ready")
    weights = (tmp_path / "ready" / "weights.bin").stat().st_size
    assert weights > 16_000
    for crossing in (["x"], ["gelu", "x"]):
        part = ready.part(ready.choose_tail(crossing))
        assert part is not None
        assert len(part) < 4096
    assert {path.name for path in (tmp_path / "ready").iterdir()} == {
        "optimised.onnx",
        "ready.json",
        "weights.bin",
    }


def test_weights_lie_in_the_order_in_which_a_run_reads_them(tmp_path: Path) -> None:
    made_ready(read(a_pyramid(tmp_path)), tmp_path / "ready")
    proto = onnx.load(str(tmp_path / "ready" / "optimised.onnx"), load_external_data=False)
    places = {each.name: place_of(each) for each in outside(proto)}
    read_by = dict.fromkeys(name for node in proto.graph.node for name in node.input)
    offsets = [places[name].offset for name in read_by if name in places]
    assert len(offsets) >= 3
    assert offsets == sorted(offsets)
    assert [offset % 64 for offset in offsets] == [0] * len(offsets)


def test_weights_that_several_tensors_share_are_written_once(tmp_path: Path) -> None:
    def a_tensor(name: str, offset: int, length: int) -> onnx.TensorProto:
        tensor = TensorProto(name=name, data_type=FLOAT, dims=[length // 4])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "w"), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    data = np.random.default_rng(0).bytes(100_000)
    (tmp_path / "before").write_bytes(data)
    weights = [
        a_tensor("late", 0, 80_000),
        a_tensor("early", 80_000, 20),
        a_tensor("also", 0, 80_000),
    ]
    nodes = [
        helper.make_node("Add", ["early", "late"], ["y"]),
        helper.make_node("Exp", ["also"], ["z"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "shared", [], [], weights))
    lay_out(model, tmp_path / "before", tmp_path / "after")
    places = {each.name: place_of(each) for each in model.graph.initializer}
    assert {name: place.offset for name, place in places.items()} == {
        "early": 0,
        "late": 4096,
        "also": 4096,
    }
    after = (tmp_path / "after").read_bytes()
    assert after == data[80_000:80_020] + bytes(4076) + data[:80_000]


def test_a_tensor_that_was_fused_away_is_no_place_to_cut(tmp_path: Path) -> None:
    ready = made_ready(read(an_encoder(tmp_path)), tmp_path / "ready")
    assert ready.part(ready.choose_tail(["e1", "up", "x"])) is None
    assert "e1" not in ready.detail.plain


def test_a_convolutions_sum_and_gate_are_what_its_blocks_hold(tmp_path: Path) -> None:
    ready = made_ready(read(a_pyramid(tmp_path)), tmp_path / "ready")
    if not ready.detail.blocked:
        pytest.skip("ONNX Runtime has no blocks of channels for this processor")
    assert {"relu1", "relu2", "swish3", "pool"} <= set(ready.detail.blocked)
    assert {"conv1", "add2", "conv3", "gate3"}.isdisjoint(ready.detail.blocked)


def test_what_the_graph_does_not_hold_is_refused_as_the_model_does(tmp_path: Path) -> None:
    model = read(an_encoder(tmp_path))
    ready = made_ready(model, tmp_path / "ready")
    for inputs, outputs in ((["q"], None), (["gelu"], None), (["x"], ["q"]), ([], None)):
        with pytest.raises(CutError) as ours:
            ready.choose(inputs, outputs)
        with pytest.raises(CutError) as theirs:
            model.choose(inputs, outputs)
        assert str(ours.value).replace("optimised", "encoder") == str(theirs.value)


def test_a_value_that_has_a_tensors_name_and_not_its_numbers_is_not_taken_for_it(
    tmp_path: Path,
) -> None:
    def a_chain(kind: str) -> onnx.ModelProto:
        nodes = [helper.make_node(kind, ["x"], ["a"]), helper.make_node("Exp", ["a"], ["b"])]
        nodes.append(helper.make_node("Sum", ["b"], ["y"]))
        return onnx.load(str(save(tmp_path / kind, nodes, [], [1, 8], [1, 8])))

    infos = {
        name: TensorInfo(name=name, datatype="FP32", shape=(1, 8)) for name in ("x", "a", "b", "y")
    }

    def found(kind: str) -> tuple[str, ...]:
        graphs = Graphs(
            normal=a_chain("Tanh"),
            normal_folder=None,
            optimised=a_chain(kind),
            optimised_folder=tmp_path,
        )
        return corresponding(graphs, {"x": infos["x"]}, infos)[0]

    assert found("Tanh") == ("x", "y", "a", "b")
    assert found("Sigmoid") == ("x", "y")


@pytest.mark.parametrize(
    ("got", "wanted", "same"),
    [
        ([1.0, 1000.0], [1.0005, 1000.0], True),
        ([1.0, 1000.0], [1.0, 1003.0], False),
        ([1.0, np.nan], [1.0, np.nan], True),
        ([1.0, np.inf], [1.0, 5.0], False),
        ([1.0], [[1.0]], False),
    ],
)
def test_values_are_alike_up_to_a_thousandth_of_the_largest(
    got: Any,  # noqa: ANN401  nested lists
    wanted: Any,  # noqa: ANN401  nested lists
    same: bool,  # noqa: FBT001
) -> None:
    assert alike(np.array(got, np.float32), np.array(wanted, np.float32)) is same


def test_quantised_values_are_alike_up_to_one_step_and_other_integers_if_equal() -> None:
    five, six, seven = (np.array([n], np.uint8) for n in (5, 6, 7))
    assert (alike(five, six), alike(five, seven)) == (True, False)
    assert not alike(five.astype(np.int64), six.astype(np.int64))
    assert not alike(five, five.astype(np.int8))


def test_prepacking_pays_or_not_as_a_race_says(tmp_path: Path) -> None:
    found = race(made_ready(read(an_encoder(tmp_path)), tmp_path / "ready").ready)
    assert found is not None
    assert 0 < min(found.mapped_s, found.prepacked_s) <= max(found.mapped_s, found.prepacked_s)


def test_a_machine_is_told_from_another_by_its_instructions(tmp_path: Path) -> None:
    def target(name: str, text: str) -> Target:
        (tmp_path / name).write_text(text)
        return this_target(tmp_path / name)

    old = target(
        "old", "processor : 0\nflags\t\t: fpu sse4_1 avx\nprocessor : 1\nflags : avx fpu\n"
    )
    new = target("new", "flags\t\t: fpu sse4_1 avx avx2 avx512f hypervisor\n")
    arm = target("arm", "Features\t: fp asimd asimddp\n")
    assert (old.features, arm.features) == (("avx",), ("asimd", "asimddp"))
    assert new.features == ("avx", "avx2", "avx512f", "sse4_1")
    assert len({old.id, new.id, arm.id, this_target(tmp_path / "none").id}) == 4
    assert target("again", "flags : sse4_1 avx512f avx2 avx\n").id == new.id
