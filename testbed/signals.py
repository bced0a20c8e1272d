"""Real and made signals: speech for a voice detector, EEG for a spindle detector."""

import wave

import numpy as np
import numpy.typing as npt

from testbed.errors import NotInstalled
from testbed.packages import SPEECH, SPINDLE

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]

SPEECH_HZ = 16_000
FRAME = 512
CONTEXT = 64
"""silero-vad 6.2.3, ``sequence_vad.py``: frames of 512 samples, each after 64 of the one before."""

EEG_HZ = 250
EEG_SAMPLES = 7500
SCALES = np.geomspace(135, 270, num=15)
BANDWIDTH = 6
CENTRE = 13
"""openspindlenet 0.1.1, ``inference.py``: 15 scales of the complex Shannon wavelet ``shan6-13``."""


def speech() -> tuple[FloatArray, str]:
    """Thirty seconds at 16 kHz, in -1 to 1, and where they come from.

    A real conversation where pyannote-audio's files are there, else bursts of a buzz.
    """
    try:
        path = SPEECH.file("pyannote/audio/sample/sample.wav")
    except NotInstalled:
        return _bursts(), f"bursts of a buzz (`{SPEECH.install}` brings a conversation)"
    with wave.open(str(path), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    scaled = samples[: 30 * SPEECH_HZ].astype(np.float32) / np.float32(32768)
    return scaled, f"sample.wav of {SPEECH.name}"


def voice_inputs(frames: int) -> dict[str, FloatArray]:
    """The first *frames* (32 ms each) of :func:`speech` and a cleared state."""
    audio, _ = speech()
    padded = np.zeros(CONTEXT + frames * FRAME, dtype=np.float32)
    heard = audio[: frames * FRAME]
    padded[CONTEXT : CONTEXT + heard.size] = heard
    windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + FRAME)[::FRAME]
    state = np.zeros((1, 1, 128), dtype=np.float32)
    return {"input": np.ascontiguousarray(windows), "h": state, "c": state.copy()}


def eeg_inputs() -> dict[str, FloatArray]:
    """The package's own half minute of EEG and its scalogram, each normalised row by row.

    Shapes ``(1, 1, 7500)`` and ``(1, 15, 7500)``.

    Raises:
        NotInstalled: openspindlenet is missing.
    """
    text = SPINDLE.file("openspindlenet/data/eeg_sample.txt").read_text()
    signal = np.array(text.split(), dtype=np.float64)
    return {
        "raw_signal": _standard(signal[None, None]),
        "spectrogram": _standard(scalogram(signal)[None]),
    }


def scalogram(signal: DoubleArray) -> DoubleArray:
    """Magnitude of the continuous wavelet transform, shape ``(15, len(signal))``.

    The wavelet is sampled at 4096 points on -20 to 20, integrated, stretched to each scale and
    convolved with the signal; the coefficients are the differences of the result.

    Source: the algorithm of PyWavelets' ``cwt``, which the network was trained with.
    """
    places = np.linspace(-20, 20, 4096)
    wavelet = (
        np.sqrt(BANDWIDTH) * np.sinc(BANDWIDTH * places) * np.exp(2j * np.pi * CENTRE * places)
    )
    step = places[1] - places[0]
    integral = np.conj(np.cumsum(wavelet) * step)
    rows = np.empty((SCALES.size, signal.size))
    for row, scale in enumerate(SCALES):
        points = (np.arange(scale * (places[-1] - places[0]) + 1) / (scale * step)).astype(int)
        kernel = integral[points[points < integral.size]][::-1]
        rough = -np.sqrt(scale) * np.diff(_convolve(signal, kernel))
        surplus = (rough.size - signal.size) / 2
        rows[row] = np.abs(rough[int(np.floor(surplus)) : rough.size - int(np.ceil(surplus))])
    return rows


def _convolve(
    signal: DoubleArray, kernel: npt.NDArray[np.complex128]
) -> npt.NDArray[np.complex128]:
    size = signal.size + kernel.size - 1
    return np.fft.ifft(np.fft.fft(signal, size) * np.fft.fft(kernel, size))


def _standard(rows: DoubleArray) -> FloatArray:
    centred = rows - rows.mean(axis=-1, keepdims=True)
    return np.asarray(centred / rows.std(axis=-1, keepdims=True), dtype=np.float32)


def _bursts() -> FloatArray:
    """A second of a 200 Hz buzz, a second of silence, and so on, in faint noise."""
    time_s = np.arange(30 * SPEECH_HZ) / SPEECH_HZ
    buzz = 0.2 * (2 * (time_s * 200 % 1) - 1) * (time_s % 2 < 1)
    noise = 0.002 * np.random.default_rng(0).standard_normal(time_s.size)
    return np.asarray(buzz + noise, dtype=np.float32)
