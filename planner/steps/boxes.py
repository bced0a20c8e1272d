"""Steps after a detector: boxes with their classes, and one of those that overlap."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from planner.graph import UNKNOWN
from planner.steps.after import FLOATS, labels_of
from planner.steps.binding import (
    Ask,
    Bound,
    FileName,
    Positive,
    Share,
    Step,
    Unfit,
    Value,
    as_bytes_array,
    check,
)

_ROLES = ("box", "score", "class")


class Boxes(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="boxes"):
    """Boxes whose best class scores at least ``threshold``, in the network's order.

    Reads ``(1, boxes, 4 + classes)``, or with two in ``reads`` the boxes ``(1, boxes, 4)`` and the
    scores ``(1, boxes, classes)``. ``channels_first`` takes the last two dimensions the other way
    round; with ``objectness`` the entry after the box multiplies all scores. Makes ``box`` (FP32,
    shape ``(n, 4)``: left, upper, right, lower), ``score`` (FP32, ``(n,)``) and ``class`` (INT64,
    ``(n,)``); ``scale`` multiplies x and y.
    """

    format: Literal["xyxy", "cxcywh", "xywh"] = "cxcywh"
    threshold: Share = 0.25
    objectness: bool = False
    channels_first: bool = False
    scale: tuple[Positive, Positive] = (1.0, 1.0)

    several: ClassVar[bool] = True

    @property
    def roles(self) -> tuple[str, ...]:
        return _ROLES

    def problem(self) -> str | None:
        if len(self.read) > 2:
            return f"reads {len(self.read)} tensors: it takes one, or boxes and scores"
        if self.objectness and len(self.read) == 2:
            return "takes objectness only where boxes and scores are one tensor"
        return None

    def bind(self, ask: Ask) -> Bound:
        for value in ask.given:
            shape = check(value, FLOATS, ranks=(3,), what="a batch of one").shape
            if shape[0] not in (1, UNKNOWN):
                raise Unfit(f"reads {value.name!r} of shape {list(shape)}: it takes a batch of one")
        axis = 1 if self.channels_first else 2
        width = ask.given[0].shape[axis]
        least = 6 if self.objectness else 5
        if len(ask.given) == 2 and width not in (4, UNKNOWN):
            raise Unfit(f"reads boxes {ask.given[0].name!r} of {width} entries each: it takes 4")
        if len(ask.given) == 1 and width != UNKNOWN and width < least:
            raise Unfit(f"reads {ask.given[0].name!r} of {width} entries each: at least {least}")
        return Bound(makes=_detections(ask.makes), run=lambda *found: boxes(self, *found))


class Nms(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="nms"):
    """The best box of those of a class that overlap by more than ``iou``, at most ``limit``.

    Reads what ``boxes`` makes: box, score and class. Makes the same, best first, and ``label``
    (BYTES) where ``labels`` or ``labels_file`` names the classes.
    """

    iou: Share = 0.45
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    across_classes: bool = False
    labels: tuple[str, ...] | None = None
    labels_file: FileName | None = None

    takes: ClassVar[int] = 3
    files: ClassVar[tuple[str, ...]] = ("labels_file",)

    @property
    def roles(self) -> tuple[str, ...]:
        labelled = self.labels is not None or self.labels_file is not None
        names = (f"kept_{role}" for role in _ROLES)
        return (*names, "label") if labelled else tuple(names)

    def problem(self) -> str | None:
        if self.labels is not None and self.labels_file is not None:
            return "has both labels and labels_file: give one"
        if self.read and len(self.read) != 3:
            return f"reads {len(self.read)} tensors: it takes boxes, scores and classes"
        return None

    def bind(self, ask: Ask) -> Bound:
        check(ask.given[0], ("FP32",), ranks=(2,), what="boxes")
        check(ask.given[1], ("FP32",), ranks=(1,), what="scores")
        check(ask.given[2], ("INT64",), ranks=(1,), what="classes")
        labels = labels_of(self.labels, self.labels_file, ask.files)
        coded = None if labels is None else as_bytes_array([each.encode() for each in labels])
        named = tuple(Value(name=n, datatype="BYTES", shape=(UNKNOWN,)) for n in ask.makes[3:])

        def run(box: np.ndarray, score: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, ...]:
            kept = nms(self, box, score, kind)
            found = (box[kept], score[kept], kind[kept])
            return found if coded is None else (*found, coded[kind[kept]])

        return Bound(makes=(*_detections(ask.makes), *named), run=run)


def boxes(
    step: Boxes, found: np.ndarray, scores: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners, scores and classes of the boxes that score enough."""
    rows = _rows(step, found)
    if scores is None:
        scored = rows[:, 5:] * rows[:, 4:5] if step.objectness else rows[:, 4:]
    else:
        scored = _rows(step, scores)
    kind = scored.argmax(axis=1)
    score = np.take_along_axis(scored, kind[:, None], axis=1)[:, 0]
    kept = score >= step.threshold
    return _corners(step, rows[kept, :4]), score[kept], kind[kept].astype(np.int64)


def nms(step: Nms, box: np.ndarray, score: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """The places of the kept boxes, best first.

    The best that is left is kept and takes away all that overlap it: one vectorised round for each
    box that is kept. Source: Felzenszwalb et al. 2010, "Object Detection with Discriminatively
    Trained Part-Based Models", 3.5.
    """
    order = np.argsort(-score, kind="stable")
    left, upper, right, lower = (box[:, i] for i in range(4))
    area = np.maximum(right - left, 0) * np.maximum(lower - upper, 0)
    kept: list[int] = []
    while order.size and len(kept) < step.limit:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        wide = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        high = np.minimum(lower[best], lower[rest]) - np.maximum(upper[best], upper[rest])
        shared = np.maximum(wide, 0) * np.maximum(high, 0)
        overlaps = shared > step.iou * (area[best] + area[rest] - shared)
        if not step.across_classes:
            overlaps &= kind[rest] == kind[best]
        order = rest[~overlaps]
    return np.asarray(kept, dtype=np.intp)


def _rows(step: Boxes, found: np.ndarray) -> np.ndarray:
    rows = np.asarray(found[0], dtype=np.float32)
    return rows.T if step.channels_first else rows


def _corners(step: Boxes, box: np.ndarray) -> np.ndarray:
    out = np.array(box, dtype=np.float32)
    if step.format == "cxcywh":
        out[:, :2] -= out[:, 2:] / 2
    if step.format != "xyxy":
        out[:, 2:] += out[:, :2]
    out *= np.array([*step.scale, *step.scale], dtype=np.float32)
    return out


def _detections(makes: Sequence[str]) -> tuple[Value, ...]:
    return (
        Value(name=makes[0], datatype="FP32", shape=(UNKNOWN, 4)),
        Value(name=makes[1], datatype="FP32", shape=(UNKNOWN,)),
        Value(name=makes[2], datatype="INT64", shape=(UNKNOWN,)),
    )
