"""Steps on samples: frames, their spectra, and the mel bands of these."""

from typing import Annotated, Literal

import msgspec
import numpy as np

from planner.errors import InputError
from planner.graph import UNKNOWN
from planner.steps.audio import MAX_SAMPLES, Rate
from planner.steps.binding import (
    Ask,
    Bound,
    Count,
    Offset,
    Positive,
    Step,
    Unfit,
    check,
    single,
)
from planner.steps.mel import filterbank


class Frame(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="frame"):
    """Overlapping frames of ``size`` samples, one each ``hop``, shape ``(frames, size)``.

    ``left`` and ``right`` samples are put around first, zeros or the reflected signal: context
    before the first frame, or half a frame on each side to centre them. Without ``frames`` the end
    that fills no frame is dropped, or padded with zeros; with it there are always so many, of
    zeros where the signal ends before.
    """

    size: Count
    hop: Count
    left: Offset = 0
    right: Offset = 0
    padding: Literal["zeros", "reflect"] = "zeros"
    frames: Count | None = None
    end: Literal["pad", "drop"] = "pad"

    def bind(self, ask: Ask) -> Bound:
        value = check(ask.given[0], ("FP32", "INT16"), ranks=(1,), what="samples")
        count = self.frames
        if count is None:
            length = value.shape[0]
            count = UNKNOWN if length == UNKNOWN else _frame_count(self, length)
        made = value.made(ask.makes[0], shape=(count, self.size))
        return single(made, lambda samples: frame(self, samples))


class Stft(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="stft"):
    """The spectrum of each frame, float32, shape ``(frames, fft // 2 + 1)``.

    ``fft`` is the transform's size, the frame's own by default. The windows are periodic
    (``0.5 - 0.5 cos(2 pi n / size)`` and so on).
    """

    window: Literal["hann", "hamming", "none"] = "hann"
    fft: Count | None = None
    spectrum: Literal["magnitude", "power"] = "power"

    def bind(self, ask: Ask) -> Bound:
        value = check(ask.given[0], ("FP32",), ranks=(2,), what="frames")
        size = value.shape[-1]
        if size == UNKNOWN:
            raise Unfit(f"reads {value.name!r}, whose frames are of no fixed size")
        points = size if self.fft is None else self.fft
        if points < size:
            raise Unfit(f"has fft {points}: the frames are of {size} samples, so at least that")
        window = _window(self.window, size)
        made = value.made(ask.makes[0], shape=(value.shape[0], points // 2 + 1))
        return single(made, lambda frames: stft(self, frames, window, points))


class LogMel(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="log_mel"):
    """The logarithm of each spectrum's mel bands, float32, shape ``(frames, mels)``.

    ``scale`` is HTK's mel or Slaney's; ``area`` gives every band the same area (Slaney's) in place
    of the same height. What is below ``floor`` counts as ``floor``; ``log`` is natural, to base 10
    or ten times that (decibels of a power). Source: The HTK Book, eq. 5.13;
    Slaney, Auditory Toolbox 2.
    """

    rate_hz: Rate
    mels: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    low_hz: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    high_hz: Positive | None = None
    scale: Literal["htk", "slaney"] = "htk"
    area: bool = False
    log: Literal["ln", "log10", "db"] = "ln"
    floor: Positive = 1e-10

    def problem(self) -> str | None:
        high = self.rate_hz / 2 if self.high_hz is None else self.high_hz
        if high > self.rate_hz / 2:
            return f"has high_hz {high:g}: at most half of rate_hz, {self.rate_hz / 2:g}"
        if self.low_hz >= high:
            return f"has low_hz {self.low_hz:g}: below high_hz, {high:g}"
        return None

    def bind(self, ask: Ask) -> Bound:
        value = check(ask.given[0], ("FP32",), ranks=(2,), what="spectra")
        if value.shape[-1] == UNKNOWN:
            raise Unfit(f"reads {value.name!r}, whose spectra are of no fixed size")
        if isinstance(value.rate, int) and value.rate != self.rate_hz:
            raise Unfit(f"has rate_hz {self.rate_hz}: the sound that it reads has {value.rate}")
        bank = filterbank(
            bins=value.shape[-1],
            mels=self.mels,
            rate_hz=self.rate_hz,
            low_hz=self.low_hz,
            high_hz=self.rate_hz / 2 if self.high_hz is None else self.high_hz,
            scale=self.scale,
            area=self.area,
        )
        made = value.made(ask.makes[0], shape=(value.shape[0], self.mels))
        return single(made, lambda spectra: log_mel(self, spectra, bank))


def frame(step: Frame, samples: np.ndarray) -> np.ndarray:
    """Frames, shape ``(frames, size)``.

    Raises:
        InputError: the sound is too short for one frame, or for its reflection.
    """
    count = _frame_count(step, samples.size) if step.frames is None else step.frames
    if count < 1:
        raise InputError(f"the sound has {samples.size} samples: a frame needs {step.size}")
    if step.padding == "reflect":
        if samples.size <= max(step.left, step.right):
            raise InputError(
                f"the sound has {samples.size} samples: its reflection needs more than "
                f"{max(step.left, step.right)}"
            )
        samples = np.pad(samples, (step.left, step.right), mode="reflect")
    left = step.left if step.padding == "zeros" else 0
    needed = (count - 1) * step.hop + step.size
    if count * step.size > MAX_SAMPLES or needed > MAX_SAMPLES:
        raise InputError(f"the sound makes {count} frames of {step.size}: send a shorter one")
    whole = np.zeros(needed, dtype=samples.dtype)
    heard = samples[: max(needed - left, 0)]
    whole[left : left + heard.size] = heard
    windows = np.lib.stride_tricks.sliding_window_view(whole, step.size)[:: step.hop]
    return np.ascontiguousarray(windows)


def stft(step: Stft, frames: np.ndarray, window: np.ndarray | None, points: int) -> np.ndarray:
    """Magnitude or power of each frame's one-sided spectrum, float32."""
    spectrum = np.fft.rfft(frames if window is None else frames * window, points, axis=-1)
    if step.spectrum == "magnitude":
        return np.abs(spectrum).astype(np.float32, copy=False)
    power = spectrum.real**2
    power += spectrum.imag**2
    return power.astype(np.float32, copy=False)


def log_mel(step: LogMel, spectra: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Logarithms of the bands, float32."""
    bands = spectra @ bank
    np.maximum(bands, np.float32(step.floor), out=bands)
    if step.log == "ln":
        return np.asarray(np.log(bands, out=bands))
    np.log10(bands, out=bands)
    if step.log == "db":
        bands *= np.float32(10)
    return np.asarray(bands)


def _frame_count(step: Frame, samples: int) -> int:
    beyond = samples + step.left + step.right - step.size
    if step.end == "drop":
        return beyond // step.hop + 1
    return max(-(-beyond // step.hop), 0) + 1


def _window(name: str, size: int) -> np.ndarray | None:
    if name == "none":
        return None
    middle = 0.5 if name == "hann" else 0.54
    turn = 2 * np.pi * np.arange(size) / size
    return np.asarray(middle - (1 - middle) * np.cos(turn), dtype=np.float32)
