"""Steps on sound: a sound file to samples, samples to frames, spectra and mel bands."""

import io
import math
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
import numpy as np

from planner.errors import InputError
from planner.graph import UNKNOWN
from planner.steps.binding import (
    Ask,
    Bound,
    Decoder,
    Step,
    Unfit,
    Value,
    check,
    library,
    message_of,
    single,
)
from planner.steps.samples import made_up_sound

MAX_SAMPLES = 64_000_000
"""Of all channels together: 67 minutes at 16 kHz."""

_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS")
"""libsndfile reads more than these, with decoders that write their complaints to stderr."""

LOWEST_HZ, HIGHEST_HZ = 1_000, 384_000
LARGEST_FACTOR = 2_000
"""A resampling by ``up / down`` has a filter of 20 times the larger: 44.1 to 16 kHz is 160 / 441,
while an odd rate such as 44,101 Hz would take one of a million taps for every message."""

Rate = Annotated[int, msgspec.Meta(ge=LOWEST_HZ, le=HIGHEST_HZ)]


class DecodeAudio(
    Decoder, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="decode_audio"
):
    """A sound file (WAV, FLAC, OGG) to samples, shape ``(samples,)``, channels mixed to one.

    FP32 is -1 to 1, INT16 half the bytes. ``rate_hz`` is the rate that the file must have; without
    it any will do, and the step also makes the rate (INT32, shape ``(1,)``) for ``resample``.
    """

    rate_hz: Rate | None = None
    datatype: Literal["FP32", "INT16"] = "FP32"

    @property
    def roles(self) -> tuple[str, ...]:
        name = self.named[0] if self.named else self.kind
        return (name,) if self.rate_hz is not None else (name, f"{name}_hz")

    def bind(self, ask: Ask) -> Bound:
        check(ask.given[0], ("BYTES",), ranks=(1,), what="the sensor's message")
        samples = Value(
            name=ask.makes[0],
            datatype=self.datatype,
            shape=(UNKNOWN,),
            rate=self.rate_hz if self.rate_hz is not None else ask.makes[1],
        )
        rates = tuple(Value(name=name, datatype="INT32", shape=(1,)) for name in ask.makes[1:])

        def run(message: np.ndarray) -> tuple[np.ndarray, ...]:
            mono, rate_hz = decode_audio(self, message_of(message))
            return (mono, np.array([rate_hz], dtype=np.int32))[: len(ask.makes)]

        return Bound(makes=(samples, *rates), run=run)

    def made_up(self) -> bytes:
        return made_up_sound(self.rate_hz or 44_100)  # so that resampling is tried out too


class Resample(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="resample"):
    """Samples to ``rate_hz``, by polyphase filtering; INT16 stays INT16.

    Source: ``scipy.signal.resample_poly`` with its Kaiser window (beta 5.0).
    """

    rate_hz: Rate

    def bind(self, ask: Ask) -> Bound:
        value = check(ask.given[0], ("FP32", "INT16"), ranks=(1,), what="samples")
        before = value.rate
        if before is None:
            raise Unfit(f"reads {value.name!r}, whose rate nothing says: give it a rate_hz")
        if isinstance(before, str):
            made = value.made(ask.makes[0], shape=(UNKNOWN,), rate=self.rate_hz)
            return single(
                made, lambda x, rate: resample(x, int(rate[0]), self.rate_hz), also=(before,)
            )
        up, down = _ratio(before, self.rate_hz)
        length = value.shape[0]
        count = UNKNOWN if length == UNKNOWN else -(-length * up // down)
        made = value.made(ask.makes[0], shape=(count,), rate=self.rate_hz)
        return single(made, lambda x: resample(x, before, self.rate_hz))


def decode_audio(step: DecodeAudio, message: bytes) -> tuple[np.ndarray, int]:
    """Samples of a sound file, shape ``(samples,)``, and its rate in Hz.

    Raises:
        InputError: the bytes are no sound, hold over 64 million samples or none, or the rate is
            not the step's.
        StepsError: soundfile is not installed.
    """
    if not message.startswith(_MAGIC):
        raise InputError(_no_sound(message))
    soundfile = library("soundfile", "audio")
    try:
        with soundfile.SoundFile(io.BytesIO(message)) as file:
            rate_hz = int(file.samplerate)
            _check_sound(step, rate_hz, int(file.frames) * int(file.channels))
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, TypeError, ValueError, OSError, MemoryError) as error:
        raise InputError(_no_sound(message)) from error
    if not samples.size:
        raise InputError("the sound has no samples: send one that has")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    return (_to_int16(mono) if step.datatype == "INT16" else mono), rate_hz


def resample(samples: np.ndarray, before_hz: int, rate_hz: int) -> np.ndarray:
    """Samples at *rate_hz*, of the type that they were.

    Raises:
        InputError: there are none, there would be over 64 million, or the rates are too odd.
    """
    if before_hz == rate_hz:
        return samples
    try:
        up, down = _ratio(before_hz, rate_hz)
    except Unfit as error:
        raise InputError(f"the sound {error}") from error
    if not samples.size or samples.size * up // down > MAX_SAMPLES:
        raise InputError(
            f"the sound has {samples.size} samples at {before_hz} Hz: send at least 1, and at most "
            f"{MAX_SAMPLES} at {rate_hz} Hz"
        )
    signal = library("scipy.signal", "audio")
    exact = samples.dtype == np.int16
    x = samples.astype(np.float32) / np.float32(32768) if exact else samples
    out = np.asarray(signal.resample_poly(x, up, down, window=_kaiser(up, down)), np.float32)
    return _to_int16(out) if exact else out


def _no_sound(message: bytes) -> str:
    return (
        f"the message ({len(message)} bytes) is no sound that can be decoded: "
        "send a WAV, FLAC or OGG file"
    )


def _check_sound(step: DecodeAudio, rate_hz: int, count: int) -> None:
    if step.rate_hz not in (None, rate_hz):
        raise InputError(f"the sound has {rate_hz} samples a second: send {step.rate_hz}")
    if not LOWEST_HZ <= rate_hz <= HIGHEST_HZ:
        raise InputError(
            f"the sound has {rate_hz} samples a second: send {LOWEST_HZ} to {HIGHEST_HZ}"
        )
    if not 0 <= count <= MAX_SAMPLES:
        raise InputError(f"the sound has {count} samples: send at most {MAX_SAMPLES}")


def _to_int16(samples: np.ndarray) -> np.ndarray:
    scaled = samples * np.float32(32768)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768, 32767, out=scaled)
    return np.asarray(np.nan_to_num(scaled, copy=False).astype(np.int16))


def _ratio(before_hz: int, rate_hz: int) -> tuple[int, int]:
    """The whole numbers to resample by.

    Raises:
        Unfit: they are so large that the filter would be.
    """
    common = math.gcd(before_hz, rate_hz)
    up, down = rate_hz // max(common, 1), before_hz // max(common, 1)
    if not 0 < min(up, down) <= max(up, down) <= LARGEST_FACTOR:
        raise Unfit(
            f"has {before_hz} samples a second, which are no simple ratio of {rate_hz}: "
            "use a usual rate such as 16000 or 44100"
        )
    return up, down


@lru_cache(maxsize=8)
def _kaiser(up: int, down: int) -> np.ndarray:
    """SciPy's own filter for the ratio, kept: designing it takes as long as using it."""
    signal = library("scipy.signal", "audio")
    half = 10 * max(up, down)
    taps = signal.firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", 5.0))
    return np.asarray(taps, dtype=np.float32)
