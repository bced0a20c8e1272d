"""Steps after the network."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

from planner.errors import StepsError

RunStep = Callable[..., tuple[np.ndarray, ...]]

SCORES = np.array([[0.1, 0.6, 0.3, 0.6]], np.float32)


def test_the_best_come_first_and_of_equals_the_first(run_step: RunStep) -> None:
    step = {"step": "top_k", "labels": ["a", "b", "c", "d"], "k": 3}
    label, score = run_step(step, SCORES)
    assert label.tolist() == [b"b", b"d", b"c"]
    assert score.tolist() == pytest.approx([0.6, 0.6, 0.3])


def test_labels_come_from_a_file_or_are_the_classes_numbers(run_step: RunStep) -> None:
    file = {"step": "top_k", "labels_file": "l.txt", "k": 2}
    label, _ = run_step(file, SCORES, files={"l.txt": "a\nb\r\nc\nÖ\n".encode()})
    assert label.tolist() == [b"b", "Ö".encode()]
    assert run_step({"step": "top_k", "k": 2}, SCORES)[0].tolist() == [b"1", b"3"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"labels": ["a"]}, "names 1 labels for 4 classes"),
        ({"k": 5}, "needs k between 1 and 4, got 5"),
        ({"labels_file": "l.txt"}, "names l.txt, which is no UTF-8 text"),
        ({"labels_file": "e.txt"}, "names e.txt, which is empty: write one entry a line"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    run_step: RunStep, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(StepsError, match=says):
        run_step({"step": "top_k", **fields}, SCORES, files={"l.txt": b"\xff", "e.txt": b""})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tensor": "y", "reads": "y"}, "has both tensor and reads: they mean the same"),
        ({"labels": ["a"], "labels_file": "l.txt"}, "has both labels and labels_file: give one"),
    ],
)
def test_fields_that_say_the_same_twice_are_refused(
    run_step: RunStep, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        run_step({"step": "top_k", **fields}, SCORES)


def test_softmax_and_sigmoid_are_scipys_even_where_they_saturate(run_step: RunStep) -> None:
    logits = np.array([[-1000, 0, 3, 1000], [1, 2, 3, 4]], np.float32)
    (soft,) = run_step({"step": "softmax"}, logits)
    (sig,) = run_step({"step": "sigmoid"}, logits)
    assert np.allclose(soft, scipy.special.softmax(logits, axis=-1), atol=1e-6)
    assert np.allclose(sig, scipy.special.expit(logits), atol=1e-6)
    assert (soft.dtype.name, sig.dtype.name) == ("float32", "float32")


def test_the_place_of_the_largest_and_what_is_above_a_threshold(run_step: RunStep) -> None:
    assert run_step({"step": "argmax"}, SCORES)[0].tolist() == [1]
    above = run_step({"step": "threshold", "above": 0.3}, SCORES)[0]
    assert above.tolist() == [[False, True, False, True]]


def test_a_prediction_comes_back_in_its_unit(run_step: RunStep) -> None:
    step = {"step": "regression", "scale": [10, 2], "offset": [5]}
    assert run_step(step, np.array([[1, 2]], np.float32))[0].tolist() == [[15, 9]]


def test_the_mean_is_of_the_tokens_that_the_mask_keeps(run_step: RunStep) -> None:
    hidden = np.array([[[3, 0], [0, 4], [9, 9]]], np.float32)
    mask = np.array([[1, 1, 0]], np.int64)
    step = {"step": "mean_pool", "reads": ["h", "m"]}
    assert run_step({**step, "unit": False}, hidden, mask)[0].tolist() == [[1.5, 2]]
    assert run_step(step, hidden, mask)[0].tolist() == [pytest.approx([0.6, 0.8])]
    assert run_step(step, hidden, np.zeros((1, 3), np.int64))[0].tolist() == [[0, 0]]


def path(*classes: int, width: int = 4) -> np.ndarray:
    """Scores whose best path is *classes*, each 0.5."""
    out = np.full((1, len(classes), width), 0.1, np.float32)
    out[0, range(len(classes)), list(classes)] = 0.5
    return out


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ((1, 1, 0, 1, 2, 2, 3), b"aabc"),
        ((0, 0, 0), b""),
        ((3,), b"c"),
        ((1, 2, 1), b"aba"),
    ],
)
def test_repeats_count_once_and_blanks_part_them(
    run_step: RunStep, classes: tuple[int, ...], text: bytes
) -> None:
    made, score = run_step({"step": "ctc_greedy", "charset": ["a", "b", "c"]}, path(*classes))
    assert made.tolist() == [text]
    assert score.tolist() == [pytest.approx(0.5 if text else 0)]


def test_the_blank_may_be_the_last_class_and_the_characters_in_a_file(run_step: RunStep) -> None:
    step = {"step": "ctc_greedy", "charset_file": "c.txt", "blank": 3}
    files = {"c.txt": "a\n \nÖ\n".encode()}
    text, _ = run_step(step, path(0, 3, 1, 2), files=files)
    assert text.tolist() == ["a Ö".encode()]


def test_a_charset_of_another_size_is_refused(run_step: RunStep) -> None:
    with pytest.raises(StepsError, match="has 2 characters and a blank at 0 for 4 classes"):
        run_step({"step": "ctc_greedy", "charset": ["a", "b"]}, path(1))
