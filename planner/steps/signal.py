"""Steps on raw samples of any kind (EEG, radar): numbers to the float32 tensor of a network."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np

from planner.errors import InputError
from planner.graph import UNKNOWN
from planner.steps.binding import (
    Ask,
    Bound,
    Count,
    Decoder,
    Finite,
    Positive,
    Step,
    Unfit,
    Value,
    check,
    message_of,
    single,
    spread,
)
from planner.steps.wavelets import spectra
from protos.errors import WireError
from protos.tensors import DATATYPES, from_raw

_NUMBERS = (
    "UINT8", "UINT16", "UINT32", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"
)  # fmt: skip
_FLOATS = Annotated[tuple[Finite, ...], msgspec.Meta(min_length=1)]
_POSITIVES = Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)]
_MOST = 1 << 26


class DecodeArray(
    Decoder, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="decode_array"
):
    """Raw little-endian samples of a datatype, row by row, to a tensor of ``shape``.

    ``rate_hz`` says how many come in a second, for ``resample``.
    """

    datatype: Literal[
        "UINT8", "UINT16", "UINT32", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"
    ]
    shape: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1, max_length=8)]
    rate_hz: Count | None = None

    def problem(self) -> str | None:
        count = math.prod(self.shape)
        return f"has shape {list(self.shape)}: at most {_MOST} samples" if count > _MOST else None

    def bind(self, ask: Ask) -> Bound:
        check(ask.given[0], ("BYTES",), ranks=(1,), what="the sensor's message")
        made = Value(name=ask.makes[0], datatype=self.datatype, shape=self.shape, rate=self.rate_hz)
        return single(made, lambda value: decode_array(self, message_of(value)))

    def made_up(self) -> bytes:
        noise = 8 * np.random.default_rng(0).standard_normal(self.shape)
        if self.datatype.startswith("UINT"):
            noise = np.abs(noise)
        return noise.astype(DATATYPES[self.datatype]).tobytes()


class Scale(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="scale"):
    """``(x - mean) / std``, or from ``min`` .. ``max`` to 0 .. 1, to float32 of the same shape.

    One number, or one for each entry of the last dimension. 16-bit samples to -1 .. 1: std 32768.
    """

    mean: _FLOATS | None = None
    std: _POSITIVES | None = None
    min: _FLOATS | None = None
    max: _FLOATS | None = None

    def problem(self) -> str | None:
        standard = self.mean is not None or self.std is not None
        ranged = self.min is not None or self.max is not None
        if standard == ranged or (self.min is None) != (self.max is None):
            return "needs either mean and std, one of these, or min and max"
        if self.min is not None and self.max is not None:
            if len(self.min) != len(self.max):
                return f"has {len(self.min)} in min and {len(self.max)} in max: as many in each"
            for low, high in zip(self.min, self.max, strict=True):
                if low >= high:
                    return f"has min {low:g} and max {high:g}: min must be below max"
        return None

    def bind(self, ask: Ask) -> Bound:
        width = check(ask.given[0], _NUMBERS).shape[-1]
        if self.min is not None and self.max is not None:
            start = spread(self.min, width, "min")
            span = spread(self.max, width, "max") - start
        else:
            start = spread(self.mean or (0.0,), width, "mean")
            span = spread(self.std or (1.0,), width, "std")
        made = ask.given[0].made(ask.makes[0], datatype="FP32")
        return single(made, lambda x: scale(x, start, span))


class Standardise(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="standardise"):
    """Each row of the last dimension less its own mean, by its own deviation, to float32.

    A row that is the same throughout becomes zeros.
    """

    def bind(self, ask: Ask) -> Bound:
        check(ask.given[0], _NUMBERS)
        return single(ask.given[0].made(ask.makes[0], datatype="FP32"), standardise)


class Scalogram(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="scalogram"):
    """Magnitude of the continuous wavelet transform, float32, shape ``(..., scales, samples)``.

    ``count`` scales from ``low`` to ``high`` samples, in equal ratios, of a complex wavelet with
    ``bandwidth`` and ``centre`` frequency. Source: PyWavelets'
    ``cwt`` and its wavelets ``shanB-C`` and ``cmorB-C``.
    """

    wavelet: Literal["shannon", "morlet"] = "morlet"
    bandwidth: Positive
    centre: Positive
    low: Annotated[float, msgspec.Meta(ge=1, le=65_536)]
    high: Annotated[float, msgspec.Meta(ge=1, le=65_536)]
    count: Annotated[int, msgspec.Meta(ge=1, le=512)]

    def problem(self) -> str | None:
        if self.low > self.high:
            return f"has low {self.low:g}: at most high, {self.high:g}"
        return None

    def bind(self, ask: Ask) -> Bound:
        shape = check(ask.given[0], _NUMBERS).shape
        if shape[-1] == UNKNOWN:
            raise Unfit(f"reads {ask.given[0].name!r}, whose number of samples is not fixed")
        made = ask.given[0].made(
            ask.makes[0], datatype="FP32", shape=(*shape[:-1], self.count, shape[-1])
        )
        return single(made, lambda x: scalogram(self, x))


class Reshape(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="reshape"):
    """Another shape for the same numbers, after ``order`` has put the dimensions in another order.

    One size of ``shape`` may be -1: what is left.
    """

    shape: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=-1, le=1 << 24)], ...],
        msgspec.Meta(min_length=1, max_length=8),
    ]
    order: tuple[Annotated[int, msgspec.Meta(ge=0, le=7)], ...] | None = None

    def problem(self) -> str | None:
        if self.shape.count(-1) > 1 or 0 in self.shape:
            return f"has shape {list(self.shape)}: sizes of at least 1, and at most one -1"
        return None

    def bind(self, ask: Ask) -> Bound:
        before = check(ask.given[0], _NUMBERS).shape
        if self.order is not None and sorted(self.order) != list(range(len(before))):
            raise Unfit(f"has order {list(self.order)}: it takes 0 to {len(before) - 1}, each once")
        made = ask.given[0].made(ask.makes[0], shape=_new_shape(self, before))
        return single(made, lambda x: reshape(self, x))


def decode_array(step: DecodeArray, message: bytes) -> np.ndarray:
    """The tensor.

    Raises:
        InputError: the message is of another size.
    """
    try:
        return from_raw(message, step.datatype, step.shape)
    except WireError as error:
        raise InputError(f"the message does not fit: {error}") from error


def scale(x: np.ndarray, start: np.ndarray, span: np.ndarray) -> np.ndarray:
    """``(x - start) / span``; numbers that float32 does not hold exactly are moved in float64."""
    if x.dtype.itemsize > 2 and x.dtype != np.float32:
        return np.asarray(((x - start) / span).astype(np.float32))
    out = x.astype(np.float32)
    out -= start.astype(np.float32)
    out *= (1 / span).astype(np.float32)
    return out


def standardise(x: np.ndarray) -> np.ndarray:
    """Zero mean and unit deviation along the last dimension."""
    wide = x.astype(np.float64)
    wide -= wide.mean(axis=-1, keepdims=True)
    deviation = wide.std(axis=-1, keepdims=True)
    wide /= np.where(deviation > 0, deviation, 1)
    return np.asarray(wide.astype(np.float32))


def scalogram(step: Scalogram, x: np.ndarray) -> np.ndarray:
    """The rows of all scales."""
    samples = x.shape[-1]
    scales = tuple(np.geomspace(step.low, step.high, step.count).tolist())
    rows, starts = spectra(
        step.wavelet,
        bandwidth=step.bandwidth,
        centre=step.centre,
        scales=scales,
        samples=samples,
    )
    ahead = np.fft.fft(x.astype(np.float32), rows.shape[-1], axis=-1)[..., None, :]
    back = np.fft.ifft(ahead * rows, axis=-1)
    out = np.empty((*x.shape[:-1], step.count, samples), dtype=np.float32)
    for row, start in enumerate(starts.tolist()):
        np.abs(back[..., row, start : start + samples], out=out[..., row, :])
    return out


def reshape(step: Reshape, x: np.ndarray) -> np.ndarray:
    """The same numbers, in memory as the new shape has them.

    Raises:
        InputError: there are more or fewer than the shape has.
    """
    ordered = x if step.order is None else x.transpose(step.order)
    try:
        return np.ascontiguousarray(ordered).reshape(step.shape)
    except ValueError as error:
        raise InputError(
            f"shape {list(ordered.shape)} cannot become {list(step.shape)}: send as many samples"
        ) from error


def _new_shape(step: Reshape, before: Sequence[int]) -> tuple[int, ...]:
    if UNKNOWN in before:
        return tuple(UNKNOWN if size == -1 else size for size in step.shape)
    total, known = math.prod(before), math.prod(size for size in step.shape if size != -1)
    if total % known or (-1 not in step.shape and total != known):
        raise Unfit(f"has shape {list(step.shape)}: what it reads is {list(before)}")
    return tuple(total // known if size == -1 else size for size in step.shape)
