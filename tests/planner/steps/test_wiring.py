"""Steps as a DAG around the network, and what is refused when they are read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.errors import StepsError
from planner.graph import UNKNOWN
from planner.model import Model
from planner.steps import load, made_up_message, read_steps

Build = Callable[..., Model]

ARRAY = {"step": "decode_array", "datatype": "INT16", "shape": [1, 4]}
X = {"x": ("FP32", (1, 4))}
TWO = {"x": ("FP32", (1, 4)), "z": ("FP32", (4,))}
BRANCHES: Mapping[str, Any] = {
    "before": [
        ARRAY,
        {"step": "scale", "std": [2], "makes": "x"},
        {"step": "standardise", "reads": "decode_array"},
        {"step": "reshape", "shape": [4], "makes": "z"},
    ],
    "after": [
        {"step": "softmax", "reads": "x_out"},
        {"step": "argmax"},
        {"step": "threshold", "reads": "softmax", "above": 0.5},
        {"step": "regression", "reads": "x", "makes": "echo"},
    ],
}


def run(model: Model, message: bytes) -> dict[str, np.ndarray]:
    return model.whole().run({"bytes": np.array([message], np.object_)})


def test_one_message_feeds_two_inputs_and_an_answer_reads_what_was_before(around: Build) -> None:
    model = around(BRANCHES, TWO)
    assert [(op.kind, op.inputs, op.outputs) for op in model.graph.ops if op.is_step] == [
        ("step:decode_array", ("bytes",), ("decode_array",)),
        ("step:scale", ("decode_array",), ("x",)),
        ("step:standardise", ("decode_array",), ("standardise",)),
        ("step:reshape", ("standardise",), ("z",)),
        ("step:softmax", ("x_out",), ("softmax",)),
        ("step:argmax", ("softmax",), ("argmax",)),
        ("step:threshold", ("softmax",), ("threshold",)),
        ("step:regression", ("x",), ("echo",)),
    ]
    assert (model.source, model.answers) == (("bytes",), ("argmax", "threshold", "echo", "z_out"))
    message = np.array([2, 4, 6, 20], "<i2").tobytes()
    made = run(model, message)
    assert made["argmax"].tolist() == [3]
    assert made["threshold"].tolist() == [[False, False, False, True]]
    assert made["echo"].tolist() == [[1, 2, 3, 10]]


def test_every_cut_of_the_dag_gives_the_answer_of_the_whole(around: Build) -> None:
    model = around(BRANCHES, TWO)
    message = np.array([2, 4, 6, 20], "<i2").tobytes()
    sample = {"bytes": np.array([message], np.object_)}
    want = model.whole().run(sample)
    for count in range(1, len(model.graph.ops)):
        cut = model.graph.boundary(frozenset(range(count)))
        head = model.head(cut).run(sample)
        got = head | model.tail(cut).run({name: head[name] for name in cut})
        assert {name: got[name].tolist() for name in want} == {
            name: array.tolist() for name, array in want.items()
        }


def test_each_op_says_on_which_side_of_the_network_it_is(around: Build) -> None:
    sides = [(op.is_before, op.is_after) for op in around(BRANCHES, TWO).graph.ops]
    assert sides == [(True, False)] * 4 + [(False, False)] * 2 + [(False, True)] * 4


def test_an_input_that_no_step_makes_stays_a_source(around: Build) -> None:
    model = around({"before": [ARRAY, {"step": "scale", "std": [2], "makes": "x"}]}, TWO)
    assert (model.source, model.answers) == (("bytes", "z"), ("x_out", "z_out"))


def test_answers_may_be_named_and_what_leads_to_none_of_them_is_left_out(around: Build) -> None:
    model = around({**BRANCHES, "answers": ["argmax", "echo"]}, TWO)
    assert model.answers == ("argmax", "echo")
    assert [op.outputs[0] for op in model.graph.ops] == [
        "decode_array",
        "x",
        "x_out",
        "softmax",
        "argmax",
        "echo",
    ]
    assert [info.name for info in model.outputs] == ["x_out"]
    message = np.array([2, 4, 6, 20], "<i2").tobytes()
    sample = {"bytes": np.array([message], np.object_)}
    for count in range(1, len(model.graph.ops)):
        cut = model.graph.boundary(frozenset(range(count)))
        head = model.head(cut).run(sample)
        got = head | model.tail(cut).run({name: head[name] for name in cut})
        assert (got["argmax"].tolist(), got["echo"].tolist()) == ([3], [[1, 2, 3, 10]])


def test_an_input_of_what_is_left_out_is_no_source(around: Build) -> None:
    steps = {"before": [ARRAY, {"step": "scale", "std": [2], "makes": "x"}], "answers": ["x_out"]}
    assert around(steps, TWO).source == ("bytes",)


def test_a_rate_that_only_the_message_knows_travels_to_where_it_is_needed(around: Build) -> None:
    steps = {
        "before": [
            {"step": "decode_audio", "makes": "wave"},
            {"step": "resample", "rate_hz": 8000},
            {"step": "frame", "size": 4, "hop": 4, "frames": 2, "makes": "x"},
        ]
    }
    model = around(steps, {"x": ("FP32", (2, 4))})
    assert model.graph.ops[1].inputs == ("wave", "wave_hz")
    cut = model.graph.boundary({0})
    assert cut == ("wave", "wave_hz")
    head = model.head(cut).run({"bytes": np.array([made_up_message(model.steps)], np.object_)})
    assert head["wave_hz"].tolist() == [44100]
    assert model.tail(cut).run(head)["x_out"].shape == (2, 4)


def test_names_that_are_taken_get_the_steps_number(around: Build) -> None:
    """The network's own tensors are taken too: a step never feeds an input by accident."""
    steps = {
        "before": [
            ARRAY,
            {"step": "scale", "std": [2]},
            {"step": "scale", "std": [3]},
            {"step": "standardise", "makes": "x"},
        ]
    }
    model = around(steps, {**X, "scale": ("FP32", (1, 4))})
    assert [op.outputs[0] for op in model.graph.ops[:4]] == [
        "decode_array",
        "scale#1",
        "scale#2",
        "x",
    ]
    assert model.source == ("bytes", "scale")


SCALE = {"step": "scale", "std": [2]}


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (
            {"before": [ARRAY, {**SCALE, "reads": "q"}]},
            "before step 1 scale reads 'q', which no step makes: there are bytes, decode_array",
        ),
        (
            {"before": [ARRAY, SCALE]},
            "the steps feed none of the network's inputs, x",
        ),
        (
            {"before": [ARRAY, {**SCALE, "makes": "x"}, {"step": "standardise"}]},
            (
                "step:standardise makes standardise, which nothing reads: leave it out or name one "
                "of the network's inputs, x, in makes"
            ),
        ),
        (
            {"before": [ARRAY, SCALE, {**SCALE, "makes": "scale"}], "input": "x"},
            "before step 2 scale makes 'scale', which is made already: give it another in makes",
        ),
        (
            {"before": [ARRAY, {**SCALE, "makes": "x_out"}], "input": "x"},
            (
                "the steps make x_out, which the network has already: give before step 1 scale "
                "another name in makes"
            ),
        ),
        (
            {"before": [ARRAY, {**SCALE, "makes": ["x", "y"]}]},
            "before step 1 scale has 2 names in makes: it makes scale",
        ),
        (
            {"before": [ARRAY, {**SCALE, "reads": ["bytes", "decode_array"]}], "input": "x"},
            "before step 1 scale reads 2 tensors: it takes 1",
        ),
        (
            {"before": [ARRAY, {"step": "crop", "width": 2, "height": 2}], "input": "x"},
            (
                "before step 1 crop reads 'decode_array', which is INT16 [1, 4]: it takes pixels "
                "(height, width, channels), UINT8 or FP32 of 3 dimensions: mend steps.json"
            ),
        ),
        (
            {"before": [ARRAY, {"step": "reshape", "shape": [4]}], "input": "x"},
            "the steps make INT16 [4] but the network's input x takes FP32 [1, 4]: mend steps.json",
        ),
        (
            {"before": [ARRAY, SCALE], "input": "q"},
            "steps feed the input 'q': the network has x",
        ),
        (
            {"before": [ARRAY, SCALE], "input": "x", "after": [{"step": "nms"}]},
            "after step 0 nms must say what it reads: the network makes x_out",
        ),
        (
            {
                "before": [ARRAY, SCALE],
                "input": "x",
                "after": [{"step": "argmax", "reads": "q"}],
            },
            (
                "after step 0 argmax reads 'q', which the network does not make: there are "
                "decode_array, x, x_out"
            ),
        ),
        (
            {"before": [ARRAY, SCALE], "input": "x", "answers": ["q"]},
            (
                "answers names 'q', which neither the network nor a step after it makes: there are "
                "x_out"
            ),
        ),
    ],
)
def test_steps_that_lead_nowhere_are_refused(
    around: Build, steps: dict[str, Any], says: str
) -> None:
    with pytest.raises(StepsError) as caught:
        around(steps, X)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            (
                '{"schema": "isthmus.steps/1", "before": [{"step": "decode"}, '
                '{"step": "crop", "width": 0, "height": 2}]}'
            ),
            "before step 1 crop, field `width`: Expected `int` >= 1, found 0",
        ),
        (
            '{"schema": "isthmus.steps/1", "before": [{"step": "decode", "colour": "CMYK"}]}',
            "before step 0 decode, field `colour`: Invalid enum value 'CMYK', found \"CMYK\"",
        ),
        (
            (
                '{"schema": "isthmus.steps/1", "before": [{"step": "decode"}, '
                '{"step": "normalise", "mean": [0], "std": [1, -1]}]}'
            ),
            "before step 1 normalise, field `std[1]`: Expected `float` >= 1e-30, found -1",
        ),
        (
            '{"schema": "isthmus.steps/1", "before": [{"step": "frame", "hop": 2, "size": "9"}]}',
            'before step 0 frame, field `size`: Expected `int`, got `str`, found "9"',
        ),
        (
            '{"schema": "isthmus.steps/1", "before": [{"step": "argmax"}]}',
            (
                "before step 0 argmax, field `step`: Invalid value 'argmax'; there are colour, "
                "crop, decode, decode_array, decode_audio, decode_row, frame, join, layout, "
                "log_mel, normalise, one_hot, pad, resample, reshape, resize, scale, scalogram, "
                "select, standardise, stft, tokenise"
            ),
        ),
        (
            '{"schema": "isthmus.steps/1", "before": [{"step": "crop", "fps": 3}]}',
            (
                "before step 0 crop: Object contains unknown field `fps`; it may have step, reads, "
                "makes, width, height, left, top"
            ),
        ),
        (
            '{"schema": "isthmus.steps/1", "before": [], "befor": []}',
            (
                "the file: Object contains unknown field `befor`; it may have schema, input, "
                "before, after, answers"
            ),
        ),
        ('{"before": []}', "the file: Object missing required field `schema`"),
        ("[]", "the file: Expected `object`, got `array`"),
        (
            (
                '{"schema": "isthmus.steps/1", "before": [{"step": "decode"}], "after": '
                '[{"step": "ctc_greedy"}]}'
            ),
            "after step 0 ctc_greedy needs either charset or charset_file",
        ),
        (
            '{"schema": "isthmus.steps/1", "before": [{"step": "layout"}]}',
            "the first step must be decode, decode_audio, tokenise, decode_row or decode_array",
        ),
    ],
)
def test_the_step_the_field_what_was_found_and_what_is_allowed_are_named(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "steps.json"
    path.write_text(text)
    with pytest.raises(StepsError) as caught:
        read_steps(path)
    assert str(caught.value) == f"steps file {path} is not valid: {says}"


def test_what_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    for text in ("[" * 100_000, '{"input": ' + "[" * 100_000, '{"before": ' + "[" * 100_000):
        path.write_text(text)
        with pytest.raises(StepsError, match=r"is not valid|is nested too deeply"):
            load(path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"schema": "\xff"}'])
def test_what_is_no_json_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "steps.json"
    path.write_bytes(data)
    with pytest.raises(StepsError, match="is not a JSON document"):
        load(path)


def test_a_message_of_unknown_size_leaves_the_sizes_open(around: Build) -> None:
    steps = {
        "before": [
            {"step": "decode"},
            {"step": "normalise", "mean": [0], "std": [1]},
            {"step": "layout"},
        ],
        "input": "x",
    }
    model = around(steps, {"x": ("FP32", (1, 3, 4, 4))})
    assert model.graph.info("normalise").shape == (UNKNOWN, UNKNOWN, 3)
    assert model.graph.info("x").shape == (1, 3, 4, 4)
