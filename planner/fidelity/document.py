"""Measured effects as values, and as a JSON document: what was measured need not be again."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from planner.errors import PlannerError
from protos import codecs
from protos.documents import DocumentError, read_json, write_json
from protos.errors import WireError

SCHEMA: Literal["isthmus.fidelity/1"] = "isthmus.fidelity/1"

Metric = Literal["accuracy", "top-1 agreement", "text match", "entry agreement", "cosine"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Cosine = Annotated[float, msgspec.Meta(ge=-1, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Effect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one crossing does to the answers.

    ``crossing`` holds every tensor of the cut with its codec, ``+zstd`` left out: it changes
    nothing. ``agreement`` is the share of samples whose answer is the lossless one, or where there
    is an answer per entry (a mask, say), of entries. ``cosine`` and
    ``cosine_worst`` compare the network's outputs with the lossless ones, mean and worst sample,
    and are None where no output is of floats. ``accuracy`` and ``reference_accuracy`` (lossless)
    are there where the samples have labels.

    ``drop`` is the loss of accuracy, not below 0; without labels 1 - agreement; and where the
    answers are no choice (``metric`` is cosine) 1 - cosine. ``drop_high`` is its upper bound at
    95 % confidence (:mod:`planner.confidence`): what so few samples cannot rule out.

    ``reason`` says why the crossing cannot be used at all, and is empty where it can.
    """

    crossing: tuple[tuple[str, str], ...]
    samples: Count
    metric: Metric
    agreement: Share
    drop: Share
    drop_high: Share
    cosine: Cosine | None = None
    cosine_worst: Cosine | None = None
    accuracy: Share | None = None
    reference_accuracy: Share | None = None
    reason: str = ""

    @property
    def usable(self) -> bool:
        return not self.reason


class Fidelity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The effects measured for one model on one set of samples.

    ``digest`` is the model's, ``data_digest`` that of the samples and labels.
    """

    schema: Literal["isthmus.fidelity/1"]
    model: str
    digest: str
    data: str
    data_digest: str
    samples: Count
    labelled: bool
    metric: Metric
    effects: tuple[Effect, ...]


def read_fidelity(path: Path) -> Fidelity:
    """Read a fidelity document.

    Raises:
        PlannerError: unreadable, a field is missing, unknown or wrong, or an effect is not of the
            document's own samples and metric.
    """
    try:
        document = read_json(path, Fidelity, what="fidelity document")
    except DocumentError as error:
        raise PlannerError(str(error)) from error
    for effect in document.effects:
        if problem := _problem(document, effect):
            raise PlannerError(f"fidelity document {path} is not valid: {problem}")
    if len({effect.crossing for effect in document.effects}) != len(document.effects):
        raise PlannerError(f"fidelity document {path} is not valid: it has a crossing twice")
    return document


def write_fidelity(document: Fidelity, path: Path) -> None:
    """Write it; whoever reads *path* meanwhile finds the old document or the new one.

    Raises:
        OSError: it cannot be written.
    """
    write_json(path, document)


def _problem(document: Fidelity, effect: Effect) -> str | None:
    crossing = ", ".join(f"{name} as {codec}" for name, codec in effect.crossing)
    try:
        kinds = [codecs.parse(codec) for _, codec in effect.crossing]
    except WireError as error:
        return str(error)
    if not any(codec.lossy for codec in kinds) or any(codec.zstd for codec in kinds):
        return f"the crossing ({crossing}) must have a lossy codec, and none with +zstd"
    if (effect.samples, effect.metric) != (document.samples, document.metric):
        return f"the effect of {crossing} is of other samples or of another metric"
    if (effect.accuracy is None or effect.reference_accuracy is None) and (
        document.labelled and effect.usable
    ):
        return f"the effect of {crossing} lacks the accuracy, though the samples have labels"
    if effect.drop > effect.drop_high:
        return f"the effect of {crossing} has a drop above its upper bound"
    return None
