"""When may the small model answer: the threshold, and what is said of it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from planner.cascade import (
    Cascade,
    Measured,
    NoCascade,
    Rest,
    Score,
    Small,
    choose,
    confidence,
    points,
)
from planner.cascade.measuring import measure_cascade
from planner.cascade.points import point
from planner.confidence import highest_drop
from planner.dataset import Dataset, read_dataset
from planner.errors import PlannerError
from planner.fidelity import Evaluation
from planner.model import Model, read
from planner.profiles import write_profile
from planner.profiling import profile

SMALL = Small(name="little", digest="0" * 64, answer="y", score="softmax", seconds=0.010)
REST = Rest(plan="cut at t", seconds=0.100, upload_bytes=50_000)


def measured(
    confidences: Sequence[float],
    small_right: Sequence[bool],
    *,
    rest_right: Sequence[bool] | None = None,
    large_right: Sequence[bool] | None = None,
) -> Measured:
    everywhere = [True] * len(confidences)
    return Measured(
        confidence=np.array(confidences, np.float64),
        small_right=np.array(small_right, np.bool_),
        rest_right=np.array(rest_right or everywhere, np.bool_),
        large_right=np.array(large_right or everywhere, np.bool_),
        labelled=large_right is not None,
    )


def right_above(level: float, count: int = 400) -> Measured:
    """Confidences spread evenly over 0 to 1; the small model is right from *level* on."""
    sure = (np.arange(count) + 0.5) / count
    return measured(sure.tolist(), (sure >= level).tolist())


@settings(deadline=None)  # the first call imports SciPy
@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.5, 0.9, -np.inf]), *[st.booleans()] * 3),
        min_size=1,
        max_size=12,
    )
)
def test_each_threshold_is_counted_as_by_hand(
    rows: list[tuple[float, bool, bool, bool]],
) -> None:
    """Kept are the samples at least as sure; the rest takes the plan's answer."""
    sure, small, rest, large = (list(column) for column in zip(*rows, strict=True))
    seen = points(measured(sure, small, rest_right=rest, large_right=large))
    assert [each.threshold for each in seen] == sorted(
        {each for each in sure if np.isfinite(each)}, reverse=True
    )
    for each in seen:
        answers = [s if c >= each.threshold else r for c, s, r, _ in rows]
        lost = sum(was and not now for now, was in zip(answers, large, strict=True))
        gained = sum(now and not was for now, was in zip(answers, large, strict=True))
        assert (each.kept, each.right, each.lost, each.gained) == (
            sum(c >= each.threshold for c in sure),
            sum(answers),
            lost,
            gained,
        )
        assert each.drop == pytest.approx(max((sum(large) - sum(answers)) / len(rows), 0.0))
        assert each.drop_high >= highest_drop(lost, gained, len(rows))


def test_the_cascade_keeps_all_that_the_budget_allows() -> None:
    """Right from 0.6 on and a budget of nothing: 40 % stay, and 60 % are sent."""
    data = right_above(0.6)
    found = choose(data, SMALL, REST, accuracy_drop=0.0)
    assert isinstance(found, Cascade)
    order = np.random.default_rng(0).permutation(400)
    told = point(data.at(order[200:]), found.threshold)
    assert found == Cascade(
        small="little",
        digest="0" * 64,
        answer="y",
        score="softmax",
        threshold=data.confidence[order[:200]][data.confidence[order[:200]] >= 0.6].min(),
        share_on_device=told.share,
        expected_latency_s=0.010 + (1 - told.share) * 0.100,
        expected_upload_bytes=(1 - told.share) * 50_000,
        metric="agreement",
        accuracy=1.0,
        drop=0.0,
        drop_high=highest_drop(0, 0, 200),
        samples=200,
        small_s=0.010,
        plan="cut at t",
    )
    assert told.share == pytest.approx(0.4, abs=0.1)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Cascade) == found


def test_a_wider_budget_keeps_more() -> None:
    shares = []
    for budget in (0.0, 0.1, 0.3):
        found = choose(right_above(0.6), SMALL, REST, accuracy_drop=budget)
        # the second half may lie above a budget that the first just met
        shares.append(found.share_on_device if isinstance(found, Cascade) else None)
    known = [share for share in shares if share is not None]
    assert known == sorted(set(known))
    assert len(known) >= 2


def test_what_chance_made_look_good_is_not_believed() -> None:
    """Where confidence means nothing, a threshold chosen on 20 samples fails on 20 others."""
    fooled, kept = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        luck = measured(rng.random(40).tolist(), (rng.random(40) < 0.8).tolist())
        order = np.random.default_rng(0).permutation(40)
        tempted = points(luck.at(order[:20]))[0].lost == 0
        found = choose(luck, SMALL, REST, accuracy_drop=0.0)
        kept += tempted
        fooled += isinstance(found, Cascade)
        if isinstance(found, Cascade):
            assert found.drop == 0.0
            assert found.drop_high > 0.13
    assert kept > 120
    assert fooled < kept * 2 / 3


def test_labels_count_what_the_small_model_has_right_and_the_large_has_not() -> None:
    """The budget is on accuracy, so a small model that is better costs nothing."""
    count = 40
    data = measured(
        np.linspace(0, 1, count).tolist(),
        [True] * count,
        rest_right=[False, True] * 20,
        large_right=[False, True] * 20,
    )
    found = choose(data, SMALL, REST, accuracy_drop=0.0)
    assert isinstance(found, Cascade)
    assert (found.metric, found.drop) == ("accuracy", 0.0)
    assert found.accuracy > 0.9


@pytest.mark.parametrize(
    ("data", "small_s", "told"),
    [
        (right_above(0.5, count=19), 0.01, "19 samples are too few"),
        (right_above(2.0), 0.01, "little may never answer"),
        (right_above(0.9), 0.09, "little is not worth asking: it is sure of"),
        (measured([-np.inf] * 40, [True] * 40), 0.01, "little may never answer"),
    ],
)
def test_a_cascade_that_gains_nothing_says_why(data: Measured, small_s: float, told: str) -> None:
    small = Small(name="little", digest="0", answer="y", score="margin", seconds=small_s)
    found = choose(data, small, REST, accuracy_drop=0.0)
    assert isinstance(found, NoCascade)
    assert found.reason.startswith(told)


def test_an_early_output_is_weighed_against_the_plan_without_it() -> None:
    """Its seconds are part of the plan's own, so asking it costs next to nothing."""
    early = Small(name="large", digest="0", answer="e", score="softmax", seconds=0.09)
    left = Rest(plan="p", seconds=0.05, upload_bytes=10, alone_s=0.14)
    found = choose(right_above(0.5), early, left, accuracy_drop=0.0)
    assert isinstance(found, Cascade)
    assert found.expected_latency_s == pytest.approx(0.09 + (1 - found.share_on_device) * 0.05)


@pytest.mark.parametrize("budget", [-0.1, 1.1, float("nan")])
def test_a_budget_that_is_no_share_is_refused(budget: float) -> None:
    with pytest.raises(PlannerError, match="accuracy drop of"):
        choose(right_above(0.5), SMALL, REST, accuracy_drop=budget)


def test_costs_that_are_none_are_refused() -> None:
    with pytest.raises(PlannerError, match="finite and not below 0"):
        choose(
            right_above(0.5),
            SMALL,
            Rest(plan="p", seconds=float("inf"), upload_bytes=1),
            accuracy_drop=0.0,
        )


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        measured([0.1, 0.2], [True])


@pytest.mark.parametrize(
    ("score", "values", "sure"),
    [
        ("softmax", [0.7, 0.2, 0.1], 0.7),
        ("softmax", [[[[0.0]], [[0.0]]]], 0.5),
        ("softmax", [1000.0, 1000.0 - np.log(3)], 0.75),
        ("margin", [0.7, 0.2, 0.1], 0.5),
        ("margin", [np.log(3), 0.0], 0.5),
        ("score", [0.9, 0.1], 0.9),
        ("softmax", [np.nan, 1.0], -np.inf),
        ("margin", [], -np.inf),
    ],
)
def test_confidence_is_taken_from_probabilities_or_logits(
    score: str, values: list[float], sure: float
) -> None:
    kind = msgspec.convert(score, type=Score)
    assert confidence(kind, np.array(values, np.float64)) == pytest.approx(sure)


def a_model(folder: Path, name: str, matrix: np.ndarray, *, early: bool = False) -> Model:
    """``y = relu(x) @ matrix``, and with *early* its own input's Relu ``t`` as an answer before."""
    folder.mkdir(parents=True, exist_ok=True)
    answers = [*(["t"] if early else []), "y"]
    sizes = {"t": matrix.shape[0], "y": matrix.shape[1]}
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["t"]), helper.make_node("MatMul", ["t", "m"], ["y"])],
        name,
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, matrix.shape[0]])],
        [helper.make_tensor_value_info(a, onnx.TensorProto.FLOAT, [1, sizes[a]]) for a in answers],
        [numpy_helper.from_array(matrix.astype(np.float32), "m")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, str(folder / f"{name}.onnx"))
    return read(folder / f"{name}.onnx")


def data(*rows: Sequence[float], labels: tuple[str, ...] | None = None) -> Dataset:
    return Dataset(
        name="rows",
        given=("x",),
        names=tuple(str(at) for at in range(len(rows))),
        samples=[{"x": np.array([row], np.float32)} for row in rows],
        labels=labels,
    )


TURN = np.array([[0.0, 1.0], [1.0, 0.0]])
ROWS = ((2.0, 1.0), (1.0, 3.0), (4.0, 1.0))


def test_both_models_run_on_the_same_samples(tmp_path: Path) -> None:
    """The small one ignores the second entry; without labels the large one's answer is wanted."""
    large = a_model(tmp_path, "large", np.eye(2))
    little = a_model(tmp_path, "little", np.array([[1.0, 0.0], [0.0, 0.1]]))
    run = measure_cascade(Evaluation(large, data(*ROWS)), little)
    assert (run.small.name, run.small.digest) == ("little", little.digest)
    assert (run.small.answer, run.small.score) == ("y", "softmax")
    assert run.small.seconds > 0
    assert run.measured.small_right.tolist() == [True, False, True]
    assert run.measured.rest_right.tolist() == run.measured.large_right.tolist() == [True] * 3
    wanted = [1 / (1 + np.exp(-apart)) for apart in (1.9, 0.7, 3.9)]
    assert run.measured.confidence.tolist() == pytest.approx(wanted)
    assert not run.measured.labelled


def test_labels_are_what_is_wanted_where_there_are_any(tmp_path: Path) -> None:
    large, little = a_model(tmp_path, "large", np.eye(2)), a_model(tmp_path, "little", TURN)
    run = measure_cascade(Evaluation(large, data(*ROWS, labels=("1", "1", "0"))), little)
    assert run.measured.labelled
    assert run.measured.small_right.tolist() == [True, False, False]
    assert run.measured.large_right.tolist() == [False, True, True]


def test_what_the_plan_for_the_rest_loses_is_counted(tmp_path: Path) -> None:
    """fp16 makes the second row's entries one, so that its plan answers 0."""
    large = a_model(tmp_path, "large", np.eye(2))
    evaluation = Evaluation(large, data((2.0, 1.0), (1.0001, 1.0002)))
    little = a_model(tmp_path, "little", np.diag([1.0, 2.0]))
    run = measure_cascade(evaluation, little, crossing=(("t", "fp16"),))
    assert run.measured.rest_right.tolist() == [True, False]
    assert run.measured.large_right.tolist() == [True, True]


def test_an_early_output_of_the_same_model_can_answer(tmp_path: Path) -> None:
    model = a_model(tmp_path, "large", np.array([[1.0, 0.0], [0.0, 2.0]]), early=True)
    run = measure_cascade(Evaluation(model, data((3.0, 2.0), (1.0, 3.0))), early="t")
    assert (run.small.name, run.small.answer) == ("large", "t")
    assert run.measured.small_right.tolist() == [False, True]


def test_an_early_output_must_be_made_before_the_cut(tmp_path: Path) -> None:
    model = a_model(tmp_path, "large", np.eye(2), early=True)
    evaluation = Evaluation(model, data(*ROWS))
    with pytest.raises(PlannerError, match="'t' is made after the cut at x: cut later"):
        measure_cascade(evaluation, early="t", crossing=(("x", "raw"),))
    with pytest.raises(PlannerError, match="'y' is no early answer of large: it decides t, y"):
        measure_cascade(evaluation, early="y")


@pytest.mark.parametrize(
    ("matrix", "score", "told"),
    [
        (np.eye(2)[:, [0, 1, 1]], "softmax", "tells 3 classes apart and large 2"),
        (np.eye(2)[:, :1], "softmax", "a score for each class, and little has 0"),
        (TURN, "softmax", "little says '1' where large says '0', and never the same"),
        (np.eye(2), "score", "little has no top_k step"),
        (np.eye(3), "softmax", "'x' has shape"),
    ],
)
def test_models_that_cannot_stand_in_for_each_other_are_refused(
    tmp_path: Path, matrix: np.ndarray, score: str, told: str
) -> None:
    large, little = a_model(tmp_path, "large", np.eye(2)), a_model(tmp_path, "little", matrix)
    if len(matrix) == 3:
        little = a_model(tmp_path, "little", np.eye(3)[:, :2])
    kind = msgspec.convert(score, type=Score)
    with pytest.raises(PlannerError, match=told):
        measure_cascade(Evaluation(large, data((3.0, 1.0), (2.0, 1.0))), little, score=kind)


def test_it_is_either_a_small_model_or_an_early_output(tmp_path: Path) -> None:
    model = a_model(tmp_path, "large", np.eye(2))
    with pytest.raises(ValueError, match="either a small model or an early output"):
        measure_cascade(Evaluation(model, data(*ROWS)))


def test_on_real_digits_a_tiny_network_answers_most_of_them(tmp_path: Path) -> None:
    """Trained on one half of scikit-learn's handwritten digits, asked about the other."""
    pixels, digits = load_digits(return_X_y=True)
    pixels = (pixels / 16).astype(np.float32)
    learnt, asked = slice(0, None, 2), slice(1, None, 2)
    found = {}
    for name, hidden in (("large", (128,)), ("little", (8,))):
        net = MLPClassifier(hidden, max_iter=1000, random_state=0)
        net.fit(pixels[learnt], digits[learnt])
        made = to_onnx(net, pixels[:1], options={"zipmap": False})
        (tmp_path / f"{name}.onnx").write_bytes(made.SerializeToString())
        found[name] = read(tmp_path / f"{name}.onnx")
    np.savez(tmp_path / "digits.npz", X=pixels[asked], labels=digits[asked])
    evaluation = Evaluation(found["large"], read_dataset(tmp_path / "digits.npz", found["large"]))
    run = measure_cascade(evaluation, found["little"])
    chosen = choose(run.measured, replace(run.small, seconds=0.01), REST, accuracy_drop=0.02)
    assert isinstance(chosen, Cascade)
    assert chosen.samples == 449
    assert chosen.share_on_device > 0.5
    assert chosen.accuracy > 0.9
    assert chosen.drop <= 0.02 < chosen.drop_high < 0.06
    assert chosen.expected_latency_s < 0.06


def isthmus(*words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "isthmus", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def asked(tmp_path: Path) -> list[str | Path]:
    """``isthmus plan`` on a model with an early output, a profile, a WiFi link and 40 samples."""
    large = a_model(tmp_path, "large", np.eye(2), early=True)
    made = {"x": np.array([[1.0, 2.0]], np.float32)}
    profile_ = msgspec.structs.replace(profile(large, made, runs=5), local_s=0.0)
    write_profile(profile_, tmp_path / "p.json")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.uniform(0, 9, (40, 2)).astype("f4"))
    both = ("--device", tmp_path / "p.json", "--cloud", tmp_path / "p.json")
    return [
        "plan", tmp_path / "large.onnx", *both, "--link", "WiFi",
        "--evaluate", tmp_path / "data.npz",
    ]  # fmt: skip


def test_an_early_output_is_asked_for_by_its_name(asked: list[str | Path]) -> None:
    done = isthmus(*asked, "--cascade-output", "t", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["cascade"]
    assert found["small"] == "large" if found else "no cascade: " in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--cascade", "l.onnx", "--cascade-output", "t"), "give one"),
        (("--cascade-output", "nothing"), "'nothing' is no early answer of large"),
    ],
)
def test_a_cascade_that_cannot_be_is_refused(
    asked: list[str | Path], words: tuple[str, ...], sentence: str
) -> None:
    done = isthmus(*asked, *words)
    assert done.returncode == 2
    assert sentence in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_cascade_without_data_is_refused(asked: list[str | Path]) -> None:
    done = isthmus(*asked[: asked.index("--evaluate")], "--cascade-output", "t")
    assert done.returncode == 2
    assert "give --evaluate DATA" in done.stderr
