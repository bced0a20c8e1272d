"""Running a small model, or an early output, and the large one on the same data."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.cascade.choosing import Small
from planner.cascade.document import Score
from planner.cascade.points import Bools, Measured
from planner.cascade.scores import confidence
from planner.errors import InputError, PlannerError
from planner.fidelity.evaluation import Crossing, Evaluation
from planner.fidelity.views import Decision, view_of
from planner.model import Model
from planner.pieces import Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was measured, ready for :func:`planner.cascade.choose`.

    ``small.seconds`` is the median on this machine, steps included: put the device's own in its
    place (``dataclasses.replace``), from a profile of the small model or by scaling.
    """

    measured: Measured
    small: Small


@dataclass(frozen=True, slots=True)
class _Asked:
    """The small model's piece, what it decides, and the tensor that its confidence is of."""

    piece: Piece
    decision: Decision
    scored: str


def measure_cascade(
    evaluation: Evaluation,
    small: Model | None = None,
    *,
    early: str | None = None,
    crossing: Crossing = (),
    score: Score = "softmax",
    threads: int = 1,
    report: Callable[[str], None] = lambda _: None,
) -> Run:
    """Run the small model on the evaluation's samples and compare it with the large one.

    ::

        run = measure_cascade(evaluation, read(Path("small.onnx"), steps=...))
        cascade = choose(
            run.measured,
            replace(run.small, seconds=run.small.seconds / device_speed),
            Rest(plan=plan.id, seconds=plan.total_s(...), upload_bytes=plan.upload_bytes),
            accuracy_drop=0.005,
        )

    Args:
        evaluation: the large model and the samples.
        small: a model that takes the same message, and answers in the same words or classes.
        early: in place of *small*, an answer of the large model that is made before the cut. The
            answer that its network makes last is then the large model's.
        crossing: how the plan for the rest crosses, for its effect on the answers; empty where
            nothing lossy does.
        score: how the confidence is taken: from one score per class, or (``score``) as ``top_k``
            gave it.
        threads: ONNX Runtime's intra-op threads, for the small model.
        report: told what is being run.

    Raises:
        PlannerError: the answers of the two cannot be compared, the small model takes other
            inputs, or an early output is made after the cut.
        InputError: a sample cannot be read or run.
    """
    if (small is None) == (early is None):
        raise ValueError("a cascade needs either a small model or an early output")
    large = evaluation.model
    if early is not None:
        model, asked, last = _early(evaluation, early, crossing, score, threads)
    else:
        assert small is not None
        model, asked = small, _small(evaluation, small, score, threads)
        last = _scored(large.name, evaluation.view.decisions)
    _check_comparable(model, asked.decision, large, evaluation.view.decisions[last])
    whole = [each[last] for each in evaluation.decided()]
    rest = [each[last] for each in evaluation.decided(crossing)] if crossing else whole
    wanted: Sequence[str] = evaluation.dataset.labels or whole
    report(f"running {model.name} on {len(evaluation.dataset)} samples")
    answers, sure, seconds = _answers(evaluation, asked, score)
    if not set(answers) & {*whole, *wanted}:
        raise PlannerError(
            f"{model.name} says {answers[0]!r} where {large.name} says {whole[0]!r}, and never the "
            "same on any sample: give both the same labels"
        )
    return Run(
        measured=Measured(
            confidence=np.array(sure, dtype=np.float64),
            small_right=_equal(answers, wanted),
            rest_right=_equal(rest, wanted),
            large_right=_equal(whole, wanted),
            labelled=evaluation.dataset.labels is not None,
        ),
        small=Small(
            name=model.name,
            digest=model.digest,
            answer=asked.scored,
            score=score,
            seconds=seconds,
        ),
    )


def _scored(name: str, decisions: Sequence[Decision]) -> int:
    """The place of the one decision that has a score for each class.

    The class's number that classifiers often give beside the scores says the same once more.
    """
    found = [at for at, each in enumerate(decisions) if each.single and each.scores is not None]
    if len(found) != 1:
        raise PlannerError(
            f"a cascade needs one answer with a score for each class, and {name} has {len(found)}"
        )
    return found[0]


def _small(evaluation: Evaluation, small: Model, score: Score, threads: int) -> _Asked:
    given = evaluation.dataset.given
    inputs = tuple(info.name for info in small.inputs)
    start = small.source if set(small.source) <= set(given) else inputs
    if not set(start) <= set(given):
        raise PlannerError(
            f"{small.name} takes {', '.join(small.source)}, but the samples hold "
            f"{', '.join(given)}: give both models steps that start from the same message"
        )
    decisions = view_of(small).decisions
    return _of(small, start, decisions[_scored(small.name, decisions)], score, threads)


def _early(
    evaluation: Evaluation, early: str, crossing: Crossing, score: Score, threads: int
) -> tuple[Model, _Asked, int]:
    model, view = evaluation.model, evaluation.view
    found = [each for each in view.decisions if early in (each.name, each.scores)]
    if not found or found[0] == view.decisions[view.final]:
        names = ", ".join(each.name for each in view.decisions) or "none"
        raise PlannerError(
            f"{early!r} is no early answer of {model.name}: it decides {names}, and needs one of "
            "them early and another at the end"
        )
    crossed = [name for name, _ in crossing]
    ops, _ = model.graph.needed([found[0].name], crossed)
    if any(name in crossed for at in ops for name in model.graph.ops[at].inputs):
        raise PlannerError(f"{early!r} is made after the cut at {', '.join(crossed)}: cut later")
    return model, _of(model, evaluation.dataset.given, found[0], score, threads), view.final


def _of(
    model: Model, start: tuple[str, ...], decision: Decision, score: Score, threads: int
) -> _Asked:
    graph = model.graph
    if score == "score":
        made = graph.ops[graph.producer[decision.name]].outputs
        if decision.by != "first" or len(made) < 2:
            raise PlannerError(f"{model.name} has no top_k step whose score could be taken")
        scored = made[1]
    elif decision.scores is None:
        raise PlannerError(
            f"{model.name} gives no score for each class, from which its confidence could be told"
        )
    else:
        scored = decision.scores
    outputs = tuple(dict.fromkeys((decision.name, scored)))
    ops, _ = graph.needed(outputs, start)
    read = {name for at in ops for name in graph.ops[at].inputs}
    used = tuple(name for name in start if name in read or name in outputs)
    return _Asked(model.piece(used, outputs, threads=threads), decision, scored)


def _answers(
    evaluation: Evaluation, asked: _Asked, score: Score
) -> tuple[list[str], list[float], float]:
    """The small model's answers and confidences, and its median seconds."""
    answers, sure, seconds = [], [], []
    for name, sample in evaluation.dataset:
        given = {each: sample[each] for each in asked.piece.inputs}
        start = time.perf_counter()
        try:
            values = asked.piece.run(given)
        except InputError as error:
            raise InputError(f"sample {name} of {evaluation.dataset.name}: {error}") from error
        seconds.append(time.perf_counter() - start)
        answers.append(asked.decision.of(values))
        sure.append(confidence(score, values[asked.scored]))
    return answers, sure, float(np.median(seconds))


def _check_comparable(small: Model, one: Decision, large: Model, other: Decision) -> None:
    if _kind(one) != _kind(other):
        raise PlannerError(
            f"{small.name} answers by {_kind(one)} and {large.name} by {_kind(other)}: give both "
            "steps that end in the same form"
        )
    if None not in (one.classes, other.classes) and one.classes != other.classes:
        raise PlannerError(
            f"{small.name} tells {one.classes} classes apart and {large.name} {other.classes}: a "
            "cascade needs the same ones"
        )


def _kind(decision: Decision) -> str:
    return "label" if decision.by in ("first", "text") else "class number"


def _equal(answers: Sequence[str], wanted: Sequence[str]) -> Bools:
    return np.array([a == b for a, b in zip(answers, wanted, strict=True)], dtype=np.bool_)
