"""Boxes, and one of those that overlap."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import StepsError

RunStep = Callable[..., tuple[np.ndarray, ...]]


def as_lists(*arrays: np.ndarray) -> list[list[Any]]:
    return [array.tolist() for array in arrays]


@pytest.mark.parametrize(
    ("form", "box"),
    [("xyxy", [10, 20, 30, 60]), ("cxcywh", [20, 40, 20, 40]), ("xywh", [10, 20, 20, 40])],
)
def test_a_box_has_its_corners_whichever_way_it_was_written(
    run_step: RunStep, form: str, box: list[float]
) -> None:
    found = np.array([[[*box, 0.2, 0.75]]], np.float32)
    step = {"step": "boxes", "format": form, "scale": [2, 0.5]}
    assert as_lists(*run_step(step, found)) == [[[20, 10, 60, 30]], [0.75], [1]]


def test_what_scores_too_little_is_left_out_and_the_order_kept(run_step: RunStep) -> None:
    found = np.zeros((1, 3, 6), np.float32)
    found[0, :, 4:] = [[0.5, 0.25], [0.125, 0], [0.25, 1]]
    _, score, kind = run_step({"step": "boxes", "threshold": 0.5}, found)
    assert as_lists(score, kind) == [[0.5, 1], [0, 1]]


def test_objectness_multiplies_and_channels_may_come_first(run_step: RunStep) -> None:
    found = np.array([[[0, 0, 2, 2, 0.5, 0.5, 1]]], np.float32)
    step = {"step": "boxes", "format": "xyxy", "objectness": True, "channels_first": True}
    made = run_step(step, np.ascontiguousarray(found.transpose(0, 2, 1)))
    assert as_lists(*made) == [[[0, 0, 2, 2]], [0.5], [1]]


def test_scores_may_be_a_tensor_of_their_own(run_step: RunStep) -> None:
    step = {"step": "boxes", "format": "xyxy", "reads": ["b", "s"]}
    corners = np.array([[[0, 0, 1, 1], [0, 0, 2, 2]]], np.float32)
    scores = np.array([[[0, 0.125], [0.75, 0.5]]], np.float32)
    assert as_lists(*run_step(step, corners, scores)) == [[[0, 0, 2, 2]], [0.75], [0]]


@pytest.mark.parametrize(
    ("fields", "shape", "says"),
    [
        ({}, (1, 8, 4), "of 4 entries each: at least 5"),
        ({"objectness": True}, (1, 8, 5), "of 5 entries each: at least 6"),
        ({}, (2, 8, 6), r"of shape \[2, 8, 6\]: it takes a batch of one"),
        ({}, (8, 6), "it takes a batch of one, FP16 or FP32 or FP64 of 3 dimensions"),
    ],
)
def test_outputs_that_hold_no_boxes_are_refused(
    run_step: RunStep, fields: dict[str, Any], shape: tuple[int, ...], says: str
) -> None:
    with pytest.raises(StepsError, match=says):
        run_step({"step": "boxes", **fields}, np.zeros(shape, np.float32))


BOX = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 10]], np.float32)
SCORE = np.array([0.5, 0.75, 0.25, 0.625], np.float32)
KIND = np.array([0, 0, 0, 1])


def test_of_boxes_that_overlap_the_best_of_each_class_stays(run_step: RunStep) -> None:
    box, score, kind, label = run_step({"step": "nms", "labels": ["a", "b"]}, BOX, SCORE, KIND)
    assert as_lists(score, kind, label) == [[0.75, 0.625, 0.25], [0, 1, 0], [b"a", b"b", b"a"]]
    assert box[0].tolist() == [1, 0, 11, 10]


def test_across_classes_one_box_stays_of_all_and_no_more_than_the_limit(
    run_step: RunStep,
) -> None:
    _, score, _ = run_step({"step": "nms", "across_classes": True}, BOX, SCORE, KIND)
    assert score.tolist() == [0.75, 0.25]
    assert len(run_step({"step": "nms", "limit": 1}, BOX, SCORE, KIND)[0]) == 1


def test_nothing_found_is_an_answer(run_step: RunStep) -> None:
    made = run_step({"step": "nms"}, BOX[:0], SCORE[:0], KIND[:0])
    assert [array.shape for array in made] == [(0, 4), (0,), (0,)]


@settings(deadline=None)
@given(
    boxes=st.lists(
        st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 10)] * 2, st.integers(0, 2)),
        max_size=25,
    ),
    iou=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_it_keeps_what_the_definition_keeps(
    boxes: list[tuple[int, ...]], iou: float, run_step: RunStep
) -> None:
    """Box by box, best first: kept unless a kept one of its class overlaps it by more."""
    rows = np.array(boxes, np.float32).reshape(-1, 5)
    corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    kind = rows[:, 4].astype(np.int64)
    score = np.linspace(1, 0.5, len(rows)).astype(np.float32)

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        wide = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
        high = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high
        return float(wide * high / union)

    kept: list[int] = []
    for index in range(len(rows)):
        same = [other for other in kept if kind[other] == kind[index]]
        if all(overlap(corners[index], corners[other]) <= np.float32(iou) for other in same):
            kept.append(index)
    made, _, _ = run_step({"step": "nms", "iou": iou}, corners, score, kind)
    assert made.tolist() == corners[kept].tolist()
