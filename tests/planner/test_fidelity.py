"""What a lossy crossing does to the answers, on networks small enough to know."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from planner.confidence import highest_mean, highest_mean_share, highest_share
from planner.dataset import Dataset, read_dataset
from planner.errors import CutError, InputError, PlannerError
from planner.fidelity import Effect, Evaluation, Fidelity, read_fidelity, write_fidelity
from planner.fidelity.views import cosine, view_of
from planner.model import Model, read
from testbed import models
from testbed.datasets import write_photographs

STEP_FILES = Path(__file__).resolve().parents[2] / "testbed" / "steps"
FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
TWO = (1, 2)


def a_model(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    answers: Sequence[str],
    *,
    shape: Sequence[int] = TWO,
    steps: Mapping[str, object] | None = None,
    **weights: np.ndarray,
) -> Model:
    """A network from ``x`` to *answers*."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in answers],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.shape_inference.infer_shapes(made), str(folder / "small.onnx"))
    if steps is None:
        return read(folder / "small.onnx")
    (folder / "steps.json").write_text(json.dumps({"schema": "isthmus.steps/1", **steps}))
    return read(folder / "small.onnx", steps=folder / "steps.json")


def a_classifier(folder: Path) -> Model:
    """Two scores, each the input's own: ``t`` (after Relu) crosses, ``y`` answers."""
    return a_model(
        folder,
        [helper.make_node("Relu", ["x"], ["t"]), helper.make_node("Mul", ["t", "two"], ["y"])],
        ["y"],
        two=np.full(TWO, 2, np.float32),
    )


def rows(*values: Sequence[float], labels: tuple[str, ...] | None = None) -> Dataset:
    """Inputs ``x`` of shape (1, n)."""
    samples = [{"x": np.array([value], np.float32)} for value in values]
    return Dataset(
        name="rows",
        given=("x",),
        names=tuple(f"row {at}" for at in range(len(values))),
        samples=samples,
        labels=labels,
    )


CLEAR, NARROW = (3.0, 1.0), (1.0001, 1.0002)
"""fp16 has 10 bits after the point: it makes the two numbers of NARROW one."""


def test_an_answer_that_fp16_changes_is_counted(tmp_path: Path) -> None:
    evaluation = Evaluation(a_classifier(tmp_path), rows(CLEAR, NARROW, CLEAR, CLEAR))
    effect = evaluation.effect((("t", "fp16"),))
    near = cosine(np.array(NARROW), np.array([1.0, 1.0]))
    assert effect == Effect(
        crossing=(("t", "fp16"),),
        samples=4,
        metric="top-1 agreement",
        agreement=0.75,
        cosine=effect.cosine,
        cosine_worst=effect.cosine_worst,
        drop=0.25,
        drop_high=highest_share(1, 4),
    )
    assert effect.cosine_worst == pytest.approx(near, abs=1e-9)
    assert effect.cosine == pytest.approx((3 + near) / 4, abs=1e-9)
    assert evaluation.judge((("t", "fp16"),)) == 0.25


def test_labels_say_which_changes_matter(tmp_path: Path) -> None:
    """One answer is lost and none gained; a changed answer that was wrong costs nothing."""
    model = a_classifier(tmp_path)
    data = (CLEAR, NARROW, NARROW, CLEAR)
    effect = Evaluation(model, rows(*data, labels=("0", "1", "0", "1"))).effect((("t", "fp16"),))
    assert (effect.metric, effect.agreement) == ("accuracy", 0.5)
    assert (effect.reference_accuracy, effect.accuracy, effect.drop) == (0.5, 0.5, 0.0)
    assert effect.drop_high > 0.3
    lost = Evaluation(model, rows(*data, labels=("0", "1", "1", "1"))).effect((("t", "fp16"),))
    assert (lost.reference_accuracy, lost.accuracy, lost.drop) == (0.75, 0.25, 0.5)
    assert lost.drop_high == highest_share(2, 4)
    gained = Evaluation(model, rows(*data, labels=("0", "0", "0", "1"))).effect((("t", "fp16"),))
    assert (gained.reference_accuracy, gained.accuracy, gained.drop) == (0.25, 0.75, 0.0)


def test_labels_that_are_never_the_answer_are_refused(tmp_path: Path) -> None:
    """With an accuracy of 0 there would be nothing to lose, and every codec would pass."""
    evaluation = Evaluation(a_classifier(tmp_path), rows(CLEAR, labels=("cat",)))
    with pytest.raises(PlannerError, match=r"first is 'cat', its answer '0'\): spell them as"):
        evaluation.effect((("t", "fp16"),))


@pytest.mark.parametrize(
    ("value", "codec", "told"),
    [
        ((1e6, 1.0), "fp16", "beyond 65504"),
        ((np.nan, 1.0), "int8", "row 1: "),
        (CLEAR, "jpeg:90", "does not suit FP32"),
    ],
)
def test_a_codec_that_cannot_write_a_value_is_not_usable(
    tmp_path: Path, value: tuple[float, float], codec: str, told: str
) -> None:
    dataset = rows(CLEAR, value) if codec != "jpeg:90" else rows(value, value)
    effect = Evaluation(a_classifier(tmp_path), dataset).effect((("t", codec),))
    assert told in effect.reason
    assert not effect.usable
    assert (effect.drop, effect.drop_high, effect.agreement) == (1.0, 1.0, 0.0)


def test_compression_without_loss_changes_nothing(tmp_path: Path) -> None:
    """It is left out of the crossing, so the effect is measured once."""
    told: list[str] = []
    evaluation = Evaluation(a_classifier(tmp_path), rows(CLEAR, NARROW), report=told.append)
    plain = evaluation.effect((("t", "fp16"),))
    assert evaluation.effect((("t", "fp16+zstd"),)) is plain
    assert told == ["running 2 samples of rows", "measuring fp16 at t on 2 samples"]
    lossless = evaluation.effect((("t", "raw+zstd"),))
    assert (lossless.crossing, lossless.drop, lossless.drop_high) == ((("t", "raw"),), 0.0, 0.0)
    assert evaluation.document().effects == (plain,)


def a_diamond(folder: Path) -> Model:
    """``t`` and ``u`` both cross; ``v``, made of ``t``, is read beside it."""
    return a_model(
        folder,
        [
            helper.make_node("Relu", ["x"], ["t"]),
            helper.make_node("Neg", ["x"], ["u"]),
            helper.make_node("Sqrt", ["t"], ["v"]),
            helper.make_node("Add", ["t", "u"], ["s"]),
            helper.make_node("Add", ["s", "v"], ["y"]),
        ],
        ["y"],
    )


def test_what_else_the_tail_needs_crosses_without_loss(tmp_path: Path) -> None:
    """``x`` is read by what makes ``u``, which is left to the tail."""
    model = a_diamond(tmp_path)
    evaluation = Evaluation(model, rows(CLEAR, NARROW))
    assert evaluation.effect((("t", "fp16"),)).crossing == (("x", "raw"), ("t", "fp16"))
    whole = (("v", "int8"), ("u", "raw"), ("t", "fp16+zstd"))
    assert evaluation.effect(whole).crossing == (("t", "fp16"), ("u", "raw"), ("v", "int8"))


def test_an_effect_is_that_of_encoding_decoding_and_the_tail(tmp_path: Path) -> None:
    """Against the same by hand, on values that all change."""
    model = a_diamond(tmp_path)
    rng = np.random.default_rng(0)
    data = rng.random((20, 2)).astype(np.float32) + np.float32(1)
    effect = Evaluation(model, rows(*data.tolist()), metric="cosine").effect(
        (("t", "fp16"), ("u", "raw"), ("v", "fp16"))
    )
    near = []
    for x in data:
        t, v = (y.astype(np.float16).astype(np.float32) for y in (x, np.sqrt(x)))
        near.append(cosine(np.sqrt(x), (t - x) + v))
    assert effect.cosine == pytest.approx(np.mean(near), abs=1e-9)
    assert effect.cosine_worst == pytest.approx(min(near), abs=1e-9)
    assert effect.drop == pytest.approx(1 - np.mean(near), abs=1e-9)
    assert effect.drop_high == pytest.approx(highest_mean([1 - each for each in near]), abs=1e-9)


@pytest.mark.parametrize("memory_bytes", [0, 40, 1 << 20])
def test_the_effect_does_not_depend_on_how_much_is_kept(tmp_path: Path, memory_bytes: int) -> None:
    """What does not fit is made again for every codec."""
    data = np.random.default_rng(1).random((9, 2)) + 1
    evaluation = Evaluation(
        a_diamond(tmp_path), rows(*data.tolist()), metric="cosine", memory_bytes=memory_bytes
    )
    found = [evaluation.effect((("s", c), ("v", d))) for c in ("fp16", "int8") for d in ("raw", c)]
    whole = Evaluation(a_diamond(tmp_path), rows(*data.tolist()), metric="cosine")
    assert found == [whole.effect(each.crossing) for each in found]
    assert sum(evaluation._passes._kept_bytes.values()) <= memory_bytes


@pytest.mark.parametrize(
    ("crossing", "told"),
    [
        ((), "names each of its tensors once"),
        ((("t", "fp16"), ("t", "int8")), "names each of its tensors once"),
        ((("z", "fp16"),), "has no tensor 'z'"),
        ((("y", "fp16"),), "nothing reads 'y' after the cut"),
        ((("x", "fp16"), ("t", "fp16")), "nothing reads 'x' after the cut"),
    ],
)
def test_a_crossing_that_is_none_is_refused(
    tmp_path: Path, crossing: tuple[tuple[str, str], ...], told: str
) -> None:
    evaluation = Evaluation(a_classifier(tmp_path), rows(CLEAR))
    with pytest.raises(CutError, match=told):
        evaluation.effect(crossing)
    assert evaluation.judge(crossing) is None


def test_a_codec_that_there_is_not_is_refused(tmp_path: Path) -> None:
    evaluation = Evaluation(a_classifier(tmp_path), rows(CLEAR))
    with pytest.raises(PlannerError, match="codec 'int9' is unknown"):
        evaluation.judge((("t", "int9"),))


def test_an_answer_that_the_head_makes_is_not_touched(tmp_path: Path) -> None:
    """``early`` is there before the crossing, and so stays as it is."""
    model = a_model(
        tmp_path,
        [
            helper.make_node("Relu", ["x"], ["early"]),
            helper.make_node("Neg", ["x"], ["t"]),
            helper.make_node("Neg", ["t"], ["late"]),
        ],
        ["early", "late"],
    )
    evaluation = Evaluation(model, rows(CLEAR, NARROW))
    assert evaluation.decided((("t", "fp16"),)) == (("0", "0"), ("1", "0"))
    assert evaluation.decided() == (("0", "0"), ("1", "1"))
    assert evaluation.effect((("t", "fp16"),)).drop == 0.5


STEPS = {
    "input": "x",
    "before": [
        {"step": "decode", "colour": "RGB"},
        {"step": "crop", "width": 8, "height": 8},
        {"step": "normalise", "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
        {"step": "layout", "order": "NCHW"},
    ],
    "after": [{"step": "top_k", "labels": ["red", "green", "blue"], "k": 2, "tensor": "y"}],
}


def a_colour_model(folder: Path) -> Model:
    """Which of three colours an image of 8 x 8 pixels holds the most of."""
    return a_model(
        folder,
        [
            helper.make_node("GlobalAveragePool", ["x"], ["p"]),
            helper.make_node("Flatten", ["p"], ["y"]),
        ],
        ["y"],
        shape=(1, 3, 8, 8),
        steps=STEPS,
    )


def a_picture(*colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "PNG")
    return out.getvalue()


def pictures(folder: Path, **colours: tuple[int, int, int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, colour in colours.items():
        (folder / f"{name}.png").write_bytes(a_picture(*colour))
    return folder


def test_images_are_judged_from_the_message_to_the_label(tmp_path: Path) -> None:
    """JPEG of the pixels is a crossing like any other."""
    model = a_colour_model(tmp_path / "model")
    folder = pictures(tmp_path / "data", a=(250, 0, 0), b=(0, 250, 0), c=(128, 128, 127))
    (folder / "labels.csv").write_text("a.png,red\nb.png,green\nc.png,blue\n")
    evaluation = Evaluation(model, read_dataset(folder, model))
    effect = evaluation.effect((("crop", "jpeg:90"),))
    assert evaluation.decided() == (("red",), ("green",), ("red",))
    assert (effect.metric, effect.agreement, effect.drop) == ("accuracy", 1.0, 0.0)
    assert effect.reference_accuracy == effect.accuracy == pytest.approx(2 / 3)
    assert effect.cosine is not None
    assert 0.9 < effect.cosine < 1.0
    assert evaluation.effect((("bytes", "raw"),)).drop == 0.0


def test_arrays_for_the_network_do_for_cuts_within_it_only(tmp_path: Path) -> None:
    """The pixels before the steps are not in the data: it cannot be told."""
    model = a_colour_model(tmp_path)
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((4, 3, 8, 8), np.float32))
    evaluation = Evaluation(model, read_dataset(tmp_path / "data.npz", model))
    assert evaluation.judge((("p", "int8"),)) == 0.0
    assert evaluation.judge((("crop", "jpeg:90"),)) is None
    with pytest.raises(CutError, match="the samples hold x, which does not lead to crop"):
        evaluation.effect((("crop", "jpeg:90"),))


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    model = a_colour_model(tmp_path / "model")
    folder = pictures(tmp_path / "data", a=(250, 0, 0))
    (folder / "notes.txt").write_text("no image")
    evaluation = Evaluation(model, read_dataset(folder, model))
    with pytest.raises(InputError, match=r"sample notes\.txt of .*: the message \(8 bytes\) is no"):
        evaluation.effect((("crop", "jpeg:90"),))


def an_answer(
    folder: Path, kind: str, *, shape: Sequence[int], after: dict[str, object] | None = None
) -> Model:
    """A network whose answer ``y`` is made by *kind* alone, and a step after it."""
    node = helper.make_node(kind, ["x"], ["y"])
    if after is None:
        return a_model(folder, [node], ["y"], shape=shape)
    before = [{"step": "decode_array", "datatype": "FP32", "shape": list(shape)}]
    steps: dict[str, object] = {"input": "x", "before": before, "after": [after]}
    return a_model(folder, [node], ["y"], shape=shape, steps=steps)


@pytest.mark.parametrize(
    ("kind", "shape", "after", "metric"),
    [
        ("Relu", (1, 2), None, "top-1 agreement"),
        ("Relu", (1, 3, 1, 1), None, "top-1 agreement"),
        ("Sigmoid", (1, 3), None, "cosine"),
        ("Relu", (1, 1), None, "cosine"),
        ("Relu", (2, 3), None, "cosine"),
        ("Relu", (1, 7, 1), None, "cosine"),
        ("Relu", (1, 3, 4, 4), None, "cosine"),
        ("Relu", (1, 3), {"step": "top_k"}, "top-1 agreement"),
        ("Relu", (1, 3), {"step": "argmax"}, "top-1 agreement"),
        ("Relu", (1, 5, 3), {"step": "argmax"}, "entry agreement"),
        ("Relu", (7,), {"step": "threshold", "above": 0.5}, "entry agreement"),
        ("Relu", (1, 5, 3), {"step": "ctc_greedy", "charset": ["a", "b"]}, "text match"),
        ("Relu", (1, 3), {"step": "regression", "scale": [2.0]}, "cosine"),
    ],
)
def test_the_form_of_the_answer_says_how_it_is_judged(
    tmp_path: Path,
    kind: str,
    shape: tuple[int, ...],
    after: dict[str, object] | None,
    metric: str,
) -> None:
    assert view_of(an_answer(tmp_path, kind, shape=shape, after=after)).metric == metric


def test_an_embedding_can_be_told_from_a_choice(tmp_path: Path) -> None:
    """Their shapes are the same, so the caller says it."""
    model = a_classifier(tmp_path)
    effect = Evaluation(model, rows(CLEAR, NARROW), metric="cosine").effect((("t", "fp16"),))
    assert (effect.metric, effect.agreement) == ("cosine", 0.5)
    assert 0 < effect.drop < 1e-8
    with pytest.raises(PlannerError, match="cannot be judged by text match: top-1 agreement suits"):
        Evaluation(model, rows(CLEAR), metric="text match")
    with pytest.raises(PlannerError, match="no class or text that a label could equal"):
        Evaluation(model, rows(CLEAR, labels=("0",)), metric="cosine")


def test_marks_are_counted_one_by_one(tmp_path: Path) -> None:
    """One of four marks flips in one of two samples: an eighth of all."""
    after: dict[str, object] = {"step": "threshold", "above": 1.0}
    model = an_answer(tmp_path / "model", "Relu", shape=(4,), after=after)
    folder = tmp_path / "data"
    folder.mkdir()
    for name, values in (("a", (2.0, 0.5, 2.0, 0.5)), ("b", (2.0, 0.5, 1.0001, 0.5))):
        (folder / name).write_bytes(np.array(values, "<f4").tobytes())
    effect = Evaluation(model, read_dataset(folder, model)).effect((("y", "fp16"),))
    assert (effect.metric, effect.agreement, effect.drop) == ("entry agreement", 0.875, 0.125)
    assert effect.drop_high == highest_mean_share(0.125, 2)


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [
        ([1.0, 2.0], [1.0, 2.0], 1.0),
        ([1.0, 0.0], [0.0, 1.0], 0.0),
        ([1.0, 1.0], [-1.0, -1.0], -1.0),
        ([0.0, 0.0], [0.0, 0.0], 1.0),
        ([0.0, 0.0], [0.0, 1.0], 0.0),
        ([1.0], [1.0, 1.0], 0.0),
        ([np.nan, 1.0], [np.nan, 1.0], 1.0),
        ([np.nan, 1.0], [1.0, 1.0], 0.0),
        ([np.inf, 1.0], [1.0, 1.0], 0.0),
    ],
)
def test_cosines_of_odd_vectors_are_defined(a: list[float], b: list[float], near: float) -> None:
    assert cosine(np.array(a, np.float32), np.array(b, np.float32)) == pytest.approx(near)


def test_what_was_measured_need_not_be_measured_again(tmp_path: Path) -> None:
    model, data = a_classifier(tmp_path), rows(CLEAR, NARROW)
    first = Evaluation(model, data)
    effect = first.effect((("t", "fp16"),))
    write_fidelity(first.document(), tmp_path / "fidelity.json")
    known = read_fidelity(tmp_path / "fidelity.json")
    assert known == first.document()
    told: list[str] = []
    second = Evaluation(model, data, known=known, report=told.append)
    assert second.effect((("t", "fp16+zstd"),)) == effect
    assert told == []


def test_what_was_measured_elsewhere_is_refused(tmp_path: Path) -> None:
    model = a_classifier(tmp_path / "one")
    first = Evaluation(model, rows(CLEAR, NARROW))
    first.effect((("t", "fp16"),))
    with pytest.raises(PlannerError, match="measured on other samples"):
        Evaluation(model, rows(CLEAR, CLEAR), known=first.document())
    with pytest.raises(PlannerError, match="with other bytes than this small"):
        Evaluation(a_diamond(tmp_path / "two"), rows(CLEAR, NARROW), known=first.document())


def a_document(**changes: object) -> Fidelity:
    effect = Effect(
        crossing=(("t", "fp16"),),
        samples=2,
        metric="top-1 agreement",
        agreement=0.5,
        drop=0.5,
        drop_high=0.97,
    )
    document = Fidelity(
        schema="isthmus.fidelity/1",
        model="small",
        digest="0" * 64,
        data="rows",
        data_digest="0" * 64,
        samples=2,
        labelled=False,
        metric="top-1 agreement",
        effects=(effect,),
    )
    return msgspec.structs.replace(document, **changes)


Mangle = Callable[[dict[str, object], dict[str, object]], object]


@pytest.mark.parametrize(
    ("mangle", "told"),
    [
        (lambda d, _: d.update(schema="isthmus.plan/1"), "isthmus.plan/1"),
        (lambda d, _: d.update(more=1), "more"),
        (lambda d, _: d.update(samples=0), ">= 1"),
        (lambda _, e: e.update(drop=1.5), "<= 1"),
        (lambda _, e: e.update(drop_high=0.4), "a drop above its upper bound"),
        (lambda _, e: e.update(samples=3), "of other samples or of another metric"),
        (lambda _, e: e.update(metric="cosine"), "of other samples or of another metric"),
        (lambda _, e: e.update(crossing=[["t", "raw"]]), "must have a lossy codec"),
        (lambda _, e: e.update(crossing=[["t", "fp16+zstd"]]), "none with \\+zstd"),
        (lambda _, e: e.update(crossing=[["t", "int9"]]), "codec 'int9' is unknown"),
        (lambda d, _: d.update(labelled=True), "lacks the accuracy"),
        (lambda d, e: d.update(effects=[e, e]), "has a crossing twice"),
    ],
)
def test_a_document_that_is_not_sound_is_refused(tmp_path: Path, mangle: Mangle, told: str) -> None:
    path = tmp_path / "fidelity.json"
    write_fidelity(a_document(), path)
    tree = json.loads(path.read_text())
    mangle(tree, tree["effects"][0])
    path.write_text(json.dumps(tree))
    with pytest.raises(PlannerError, match=told) as refused:
        read_fidelity(path)
    assert str(path) in str(refused.value)


def test_on_real_photographs_jpeg_changes_answers_and_int8_at_a_bottleneck_does_not(
    tmp_path: Path,
) -> None:
    """EfficientNet-Lite0 with its own steps; no labels, so against its own lossless answers."""
    write_photographs(tmp_path, 24)
    real = models.find("efficientnet_lite0")
    model = read(real.path, steps=STEP_FILES / "efficientnet_lite0.json", dims=real.dims)
    evaluation = Evaluation(model, read_dataset(tmp_path, model))
    jpeg = evaluation.effect((("crop", "jpeg:75"),))
    int8 = evaluation.effect((("blocks.5.project_conv", "int8+zstd"),))
    assert jpeg.drop > 0.1
    assert (int8.drop, int8.drop_high) == (0.0, highest_share(0, 24))
    assert jpeg.cosine is not None
    assert int8.cosine_worst is not None
    assert jpeg.cosine < 0.96
    assert int8.cosine_worst > 0.9999
