"""Steps after the network: what it made, as the answer that the user wants."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from planner.graph import UNKNOWN
from planner.steps.binding import (
    Ask,
    Bound,
    Count,
    FileName,
    Finite,
    Step,
    Unfit,
    Value,
    as_bytes_array,
    check,
    single,
    spread,
    text_lines,
)

FLOATS = ("FP16", "FP32", "FP64")
_NUMBERS = (*FLOATS, "UINT8", "INT8", "INT16", "INT32", "INT64")
_FLOATS = Annotated[tuple[Finite, ...], msgspec.Meta(min_length=1)]


class TopK(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="top_k"):
    """The ``k`` best classes, of an output of shape ``(1, classes)``.

    Makes ``label`` (BYTES, shape ``(k,)``) and ``score`` (FP32, shape ``(k,)``), best first;
    ``softmax`` turns logits into probabilities first. Labels come from ``labels`` or a text file
    with one a line, else they are the classes' numbers. ``tensor`` is another word for ``reads``.
    """

    tensor: str | None = None
    labels: tuple[str, ...] | None = None
    labels_file: FileName | None = None
    k: Count = 1
    softmax: bool = False

    files: ClassVar[tuple[str, ...]] = ("labels_file",)

    @property
    def read(self) -> tuple[str, ...]:
        return super().read if self.tensor is None else (self.tensor,)

    @property
    def roles(self) -> tuple[str, ...]:
        return ("label", "score")

    def problem(self) -> str | None:
        if self.tensor is not None and self.reads is not None:
            return "has both tensor and reads: they mean the same"
        if self.labels is not None and self.labels_file is not None:
            return "has both labels and labels_file: give one"
        if self.labels is not None and self.k > len(self.labels):
            return f"needs k between 1 and {len(self.labels)}, got {self.k}"
        return None

    def bind(self, ask: Ask) -> Bound:
        shape = check(ask.given[0], _NUMBERS).shape
        classes = shape[-1] if shape else 1
        labels = labels_of(self.labels, self.labels_file, ask.files)
        if labels is not None and classes not in (UNKNOWN, len(labels)):
            raise Unfit(f"names {len(labels)} labels for {classes} classes")
        if classes != UNKNOWN and self.k > classes:
            raise Unfit(f"needs k between 1 and {classes}, got {self.k}")
        made = (
            Value(name=ask.makes[0], datatype="BYTES", shape=(self.k,)),
            Value(name=ask.makes[1], datatype="FP32", shape=(self.k,)),
        )
        coded = None if labels is None else as_bytes_array([each.encode() for each in labels])
        return Bound(makes=made, run=lambda scores: top_k(self, scores, coded))


class Softmax(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="softmax"):
    """Logits to probabilities along the last dimension, float32."""

    def bind(self, ask: Ask) -> Bound:
        check(ask.given[0], FLOATS)
        return single(ask.given[0].made(ask.makes[0], datatype="FP32"), softmax)


class Sigmoid(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="sigmoid"):
    """Each logit to a probability, float32."""

    def bind(self, ask: Ask) -> Bound:
        check(ask.given[0], FLOATS)
        return single(ask.given[0].made(ask.makes[0], datatype="FP32"), sigmoid)


class Argmax(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="argmax"):
    """The place of the largest entry along the last dimension, INT64; the first of equals."""

    def bind(self, ask: Ask) -> Bound:
        shape = check(ask.given[0], _NUMBERS).shape
        if not shape:
            raise Unfit(f"reads {ask.given[0].name!r}, which is a single number")
        made = ask.given[0].made(ask.makes[0], datatype="INT64", shape=shape[:-1])
        return single(made, lambda x: np.asarray(x.argmax(axis=-1), dtype=np.int64))


class Threshold(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="threshold"):
    """Whether each entry is above ``above``, BOOL of the same shape."""

    above: Finite

    def bind(self, ask: Ask) -> Bound:
        check(ask.given[0], _NUMBERS)
        made = ask.given[0].made(ask.makes[0], datatype="BOOL")
        return single(made, lambda x: np.asarray(x > self.above))


class Regression(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="regression"):
    """``x * scale + offset``, FP32: from what the network was trained on to the real unit.

    One number, or one for each entry of the last dimension.
    """

    scale: _FLOATS = (1.0,)
    offset: _FLOATS = (0.0,)

    def bind(self, ask: Ask) -> Bound:
        shape = check(ask.given[0], _NUMBERS).shape
        width = shape[-1] if shape else 1
        factor, offset = spread(self.scale, width, "scale"), spread(self.offset, width, "offset")
        made = ask.given[0].made(ask.makes[0], datatype="FP32")
        return single(made, lambda x: np.asarray((x * factor + offset).astype(np.float32)))


class MeanPool(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="mean_pool"):
    """The mean over the tokens that the mask keeps, FP32, shape ``(1, features)``.

    ``reads`` names the hidden states, shape ``(1, tokens, features)``, and the mask, shape
    ``(1, tokens)``; ``unit`` makes the mean's length 1, so that a product is a cosine.
    """

    unit: bool = True

    takes: ClassVar[int] = 2

    def problem(self) -> str | None:
        return None if len(self.read) == 2 else "needs reads with two: hidden states and mask"

    def bind(self, ask: Ask) -> Bound:
        hidden = check(ask.given[0], FLOATS, ranks=(3,), what="hidden states")
        check(ask.given[1], _NUMBERS, ranks=(2,), what="a mask")
        made = hidden.made(ask.makes[0], datatype="FP32", shape=(hidden.shape[0], hidden.shape[2]))
        return single(made, lambda x, mask: mean_pool(self, x, mask))


class CtcGreedy(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ctc_greedy"):
    """The best text of a CTC network's output, shape ``(1, time, classes)``.

    Makes ``text`` (BYTES, shape ``(1,)``) and ``score`` (FP32, shape ``(1,)``): the mean of the
    best entries that were kept, so a probability where the network gives such. ``charset``, or a
    text file with one entry a line, names the classes except ``blank``.

    Source: Graves et al. 2006, "Connectionist Temporal Classification", best path decoding.
    """

    charset: tuple[str, ...] | None = None
    charset_file: FileName | None = None
    blank: Annotated[int, msgspec.Meta(ge=0)] = 0

    files: ClassVar[tuple[str, ...]] = ("charset_file",)

    @property
    def roles(self) -> tuple[str, ...]:
        return ("text", "score")

    def problem(self) -> str | None:
        if (self.charset is None) == (self.charset_file is None):
            return "needs either charset or charset_file"
        return None

    def bind(self, ask: Ask) -> Bound:
        shape = check(ask.given[0], FLOATS, ranks=(3,), what="a batch of one").shape
        if shape[0] not in (1, UNKNOWN):
            raise Unfit(
                f"reads {ask.given[0].name!r} of shape {list(shape)}: it takes a batch of one"
            )
        known = labels_of(self.charset, self.charset_file, ask.files) or ()
        if shape[-1] not in (UNKNOWN, len(known) + 1) or self.blank > len(known):
            raise Unfit(
                f"has {len(known)} characters and a blank at {self.blank} for {shape[-1]} classes: "
                "one character for each class but the blank"
            )
        chars = np.array([*known[: self.blank], "", *known[self.blank :]], dtype=np.object_)
        made = (
            Value(name=ask.makes[0], datatype="BYTES", shape=(1,)),
            Value(name=ask.makes[1], datatype="FP32", shape=(1,)),
        )
        return Bound(makes=made, run=lambda x: ctc_greedy(x[0], chars, self.blank))


def top_k(
    step: TopK, scores: np.ndarray, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of the best classes, best first; the first of equals."""
    flat = np.asarray(scores, dtype=np.float32).reshape(-1)
    if step.softmax:
        flat = softmax(flat)
    best = np.argsort(-flat, kind="stable")[: step.k]
    if labels is None:
        return as_bytes_array([str(index).encode() for index in best.tolist()]), flat[best]
    return labels[best], flat[best]


def softmax(x: np.ndarray) -> np.ndarray:
    """Probabilities along the last dimension, float32; the largest logit is taken off first."""
    out = np.exp(x.astype(np.float32) - x.max(axis=-1, keepdims=True).astype(np.float32))
    out /= out.sum(axis=-1, keepdims=True)
    return np.asarray(out)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``, by the half that cannot overflow."""
    wide = x.astype(np.float32)
    small = np.exp(-np.abs(wide))
    return np.asarray(np.where(wide >= 0, 1, small) / (1 + small))


def mean_pool(step: MeanPool, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean of the kept tokens; zeros where the mask keeps none."""
    weight = mask.astype(np.float32)[..., None]
    mean = (hidden.astype(np.float32) * weight).sum(axis=1)
    mean /= np.maximum(weight.sum(axis=1), 1e-9)
    if step.unit:
        mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
    return np.asarray(mean, dtype=np.float32)


def ctc_greedy(scores: np.ndarray, chars: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """Text and mean score of the best path: repeats count once, blanks not at all."""
    best = scores.argmax(axis=-1)
    kept = best != blank
    kept[1:] &= best[1:] != best[:-1]
    text = "".join(chars[best[kept]].tolist())
    peaks = scores[kept].max(axis=-1) if kept.any() else np.zeros(1, np.float32)
    return as_bytes_array([text.encode()]), np.array([peaks.mean()], dtype=np.float32)


def labels_of(
    inline: tuple[str, ...] | None, file: str | None, files: Mapping[str, bytes]
) -> tuple[str, ...] | None:
    """Labels as they stand in the steps file or in a text file beside it, one a line.

    Raises:
        Unfit: the file is no text, or empty.
    """
    return inline if file is None else text_lines(files[file], file)
