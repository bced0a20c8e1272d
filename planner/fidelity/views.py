"""Which of a model's values tell whether its answer is still the same, and how they are compared.

An answer is a *decision* where it names one thing: the first label of ``top_k``, the best class of
a classifier's scores, a text. Rows of marks (a mask, a class for each frame) are a decision per
entry. Other answers are compared as directions, by their cosine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.errors import PlannerError
from planner.fidelity.document import Metric
from planner.graph import UNKNOWN, TensorInfo
from planner.model import Model
from protos.tensors import Array

Values = Mapping[str, Array]

FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})
_NO_CHOICE = frozenset({"Sigmoid", "Tanh", "LpNormalization"})
"""What makes values that stand each for itself, or a direction, and no scores of one choice."""
_PICKS = frozenset({"step:top_k", "step:argmax", "step:threshold", "step:ctc_greedy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One thing that the model decides, from the tensor ``name``.

    ``scores`` is the tensor with one score per class behind it, where there is one, and
    ``classes`` how many there are. ``single`` is False where there is a decision per entry.
    """

    name: str
    by: Literal["first", "argmax", "text", "entries"]
    scores: str | None = None
    classes: int | None = None
    single: bool = True

    def of(self, values: Values) -> str:
        """The decision itself: a label, a class's index, or the whole text."""
        value = values[self.name]
        match self.by:
            case "first":
                return _text(value.flat[0]) if value.size else ""
            case "argmax":
                return str(int(value.argmax())) if value.size else ""
            case "text" | "entries":
                return "\n".join(_text(item) for item in value.flat)

    def agreement(self, wanted: Values, got: Values) -> float:
        """1 where both decide alike, else 0; the share of equal entries where each is decided."""
        if self.single:
            return float(self.of(wanted) == self.of(got))
        a, b = wanted[self.name], got[self.name]
        if a.shape != b.shape:
            return 0.0
        return float((a == b).mean()) if a.size else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """``observed`` are the tensors to run for; ``decisions`` and ``compared`` how to judge them.

    ``final`` is the place among ``decisions`` of the one that is made last: where a network has
    early outputs too, it is the one that a label is compared with.
    """

    observed: tuple[str, ...]
    decisions: tuple[Decision, ...]
    compared: tuple[str, ...]
    metric: Metric
    final: int = 0

    def decided(self, values: Values) -> tuple[str, ...]:
        return tuple(decision.of(values) for decision in self.decisions)

    def agreement(self, wanted: Values, got: Values) -> float:
        """That of the decision that changed most."""
        return min(decision.agreement(wanted, got) for decision in self.decisions)

    def cosine(self, wanted: Values, got: Values) -> float | None:
        """That of the output that is furthest off, None where there is nothing to compare."""
        return min((cosine(wanted[name], got[name]) for name in self.compared), default=None)


def view_of(model: Model, *, labelled: bool = False, metric: Metric | None = None) -> View:
    """How *model*'s answers are to be judged.

    Args:
        model: what :func:`planner.read` returned.
        labelled: whether the right answers are known.
        metric: take this one; None lets the answers' form decide. ``cosine`` is for scores that
            are no choice, such as an embedding of shape ``(1, n)``.

    Raises:
        PlannerError: there are labels and nothing that they could be compared with, or *metric*
            does not fit.
    """
    found = (_decision(model, name) for name in model.answers)
    decisions = tuple(each for each in found if each is not None)
    near = (_nearest(model, name) for name in model.answers)
    compared = tuple(dict.fromkeys(name for name in near if name is not None))
    observed = tuple(dict.fromkeys((*model.answers, *compared)))
    fits = _metric(decisions)
    if metric == "cosine" or fits == "cosine":
        decisions = ()
    if not decisions and not compared:
        raise PlannerError(
            f"the answers of {model.name} ({', '.join(model.answers)}) are neither classes, texts "
            "nor numbers: add a step that makes one of them"
        )
    final = _final(model, decisions)
    if labelled and not (decisions and decisions[final].single):
        raise PlannerError(
            f"the answer of {model.name} is no class or text that a label could equal: leave the "
            "labels out, or add a step such as top_k to its steps.json"
        )
    if metric not in (None, "cosine", "accuracy" if labelled else fits):
        raise PlannerError(
            f"the answers of {model.name} cannot be judged by {metric}: {fits} suits them"
        )
    return View(
        observed=observed,
        decisions=decisions,
        compared=compared,
        metric="accuracy" if labelled else fits if decisions else "cosine",
        final=final,
    )


def cosine(a: Array, b: Array) -> float:
    """Of two arrays as vectors, -1 to 1: 1 for equal ones, 0 where the shapes differ or one is 0.

    Also 0 where one holds NaN or infinity and the other is not the same.
    """
    if a.shape != b.shape:
        return 0.0
    if np.array_equal(a, b, equal_nan=True):
        return 1.0
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    length = float(np.sqrt(np.dot(x, x)) * np.sqrt(np.dot(y, y)))
    if not 0 < length < np.inf:
        return 0.0
    return float(np.clip(np.dot(x, y) / length, -1.0, 1.0))


def _final(model: Model, decisions: tuple[Decision, ...]) -> int:
    producer = model.graph.producer
    at = [producer[decision.name] for decision in decisions]
    return at.index(max(at)) if at else 0


def _decision(model: Model, name: str) -> Decision | None:
    graph = model.graph
    info, op = graph.info(name), graph.ops[graph.producer[name]]
    if op.kind == "step:top_k":
        if info.datatype != "BYTES":
            return None  # the score of what was decided
        scores = op.inputs[0]
        return Decision(name=name, by="first", scores=scores, classes=_last(graph.info(scores)))
    if info.datatype not in FLOATS:
        return _picked(model, name)
    classes = _classes(info)
    if classes is None or op.kind in _NO_CHOICE or (op.is_step and op.kind != "step:softmax"):
        return None
    return Decision(name=name, by="argmax", scores=name, classes=classes)


def _picked(model: Model, name: str) -> Decision | None:
    """The decision behind a text, a class's number or marks."""
    info = model.graph.info(name)
    if info.datatype == "BYTES":
        return Decision(name=name, by="text")
    if not info.datatype:
        return None
    op = model.graph.ops[model.graph.producer[name]]
    scores = op.inputs[0] if op.kind == "step:argmax" else None
    classes = None if scores is None else _classes(model.graph.info(scores))
    return Decision(
        name=name,
        by="entries",
        scores=scores if classes is not None else None,
        classes=classes,
        single=all(size == 1 for size in info.shape),
    )


def _nearest(model: Model, name: str) -> str | None:
    """The tensor of floats that shows how far the answer *name* is off, if there is one.

    A step that picks something hides what happened to the values it picked from.
    """
    graph = model.graph
    op = graph.ops[graph.producer[name]]
    if op.kind in _PICKS:
        name = op.inputs[0]
    return name if graph.info(name).datatype in FLOATS else None


def _metric(decisions: tuple[Decision, ...]) -> Metric:
    if not decisions:
        return "cosine"
    if not all(decision.single for decision in decisions):
        return "entry agreement"
    texts = any(decision.by == "text" for decision in decisions)
    return "text match" if texts else "top-1 agreement"


def _classes(info: TensorInfo) -> int | None:
    """How many classes a tensor scores: shape ``(1, n)``, or ``(1, n, 1, 1)`` as pooling leaves it.

    None where it is neither, or n is below 2.
    """
    if len(info.shape) not in (2, 4) or info.shape[0] not in (1, UNKNOWN):
        return None
    return info.shape[1] if info.shape[1] >= 2 and set(info.shape[2:]) <= {1} else None


def _last(info: TensorInfo) -> int | None:
    """How many classes ``top_k`` chooses from."""
    sizes = [size for size in info.shape if size != 1]
    return sizes[0] if len(sizes) == 1 and sizes[0] != UNKNOWN else None


def _text(item: object) -> str:
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)
