"""Steps on sound, against SciPy and the definitions."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError, StepsError
from planner.steps.mel import Scale, filterbank, to_hz, to_mel

RunStep = Callable[..., tuple[np.ndarray, ...]]

soundfile = pytest.importorskip("soundfile")

TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)).astype(np.float32)


def edges_of(mels: int, low_hz: float, high_hz: float, scale: Scale) -> np.ndarray:
    """Feet and peaks of bands that are equally wide on the mel scale."""
    first, last = to_mel([low_hz, high_hz], scale).tolist()
    return to_hz(np.linspace(first, last, mels + 2), scale)


def a_file(
    samples: np.ndarray, rate_hz: int = 8000, form: str = "WAV", subtype: str | None = None
) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate_hz, format=form, subtype=subtype)
    return out.getvalue()


@pytest.mark.parametrize(("form", "off"), [("WAV", 1e-4), ("FLAC", 1e-4), ("OGG", 0.05)])
def test_each_kind_of_sound_file_gives_its_samples_and_rate(
    run_step: RunStep, form: str, off: float
) -> None:
    samples, rate = run_step({"step": "decode_audio"}, a_file(TONE, form=form))
    assert rate.tolist() == [8000]
    assert np.allclose(samples, TONE, atol=off)


def test_16_bit_samples_come_back_bit_for_bit(run_step: RunStep) -> None:
    exact = np.array([0, 1, -1, 32767, -32768, 12345], np.int16)
    step = {"step": "decode_audio", "datatype": "INT16"}
    assert run_step(step, a_file(exact))[0].tolist() == exact.tolist()


def test_a_float_file_as_16_bit_is_clipped_not_wrapped(run_step: RunStep) -> None:
    loud = a_file(np.array([0.5, 2.0, -2.0], np.float32), subtype="FLOAT")
    step = {"step": "decode_audio", "datatype": "INT16"}
    assert run_step(step, loud)[0].tolist() == [16384, 32767, -32768]


def test_channels_are_mixed_to_one(run_step: RunStep) -> None:
    stereo = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    samples, _ = run_step({"step": "decode_audio"}, a_file(stereo))
    assert np.allclose(samples, TONE / 2, atol=1e-4)


def test_a_file_of_another_rate_than_declared_is_refused(run_step: RunStep) -> None:
    step = {"step": "decode_audio", "rate_hz": 16000}
    with pytest.raises(InputError, match="the sound has 8000 samples a second: send 16000"):
        run_step(step, a_file(TONE))
    assert len(run_step(step, a_file(TONE, 16000))) == 1


@pytest.mark.parametrize("data", [b"", b"RIFF", b"nothing", a_file(TONE)[:30], a_file(TONE[:0])])
def test_what_is_no_sound_is_refused(run_step: RunStep, data: bytes) -> None:
    with pytest.raises(InputError, match=r"no sound that can be decoded|has no samples"):
        run_step({"step": "decode_audio"}, data)


def test_without_soundfile_a_sentence_says_what_to_install(
    run_step: RunStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("planner.steps.binding.importlib.import_module", missing)
    with pytest.raises(StepsError) as caught:
        run_step({"step": "decode_audio"}, a_file(TONE))
    assert str(caught.value) == (
        "these steps need the library soundfile, which is not there: run "
        '`pip install "isthmus[audio]"`'
    )


@pytest.mark.parametrize("rate_hz", [16000, 11025, 44100, 3000, 8000])
def test_resampling_is_scipys(run_step: RunStep, rate_hz: int) -> None:
    step = {"step": "resample", "rate_hz": rate_hz}
    (made,) = run_step(step, TONE, values={"rate": 8000})
    common = np.gcd(rate_hz, 8000)
    wanted = scipy.signal.resample_poly(TONE.astype(np.float64), rate_hz // common, 8000 // common)
    assert made.dtype == np.float32
    assert np.allclose(made, wanted, atol=1e-5)


def test_16_bit_samples_stay_so_and_a_tone_stays_a_tone(run_step: RunStep) -> None:
    tone = np.round(TONE * 32767).astype(np.int16)
    (made,) = run_step({"step": "resample", "rate_hz": 16000}, tone, values={"rate": 8000})
    middle = made[1000:-1000].astype(float)
    peak = np.abs(np.fft.rfft(middle * np.hanning(middle.size))).argmax() * 16000 / middle.size
    assert (made.dtype.name, round(peak)) == ("int16", 440)


def test_a_rate_that_nothing_says_is_refused(run_step: RunStep) -> None:
    with pytest.raises(StepsError, match="whose rate nothing says: give it a rate_hz"):
        run_step({"step": "resample", "rate_hz": 16000}, TONE)


def test_an_odd_rate_is_refused_before_a_filter_of_a_million_taps_is_made(
    run_step: RunStep,
) -> None:
    with pytest.raises(StepsError, match="no simple ratio of 16000"):
        run_step({"step": "resample", "rate_hz": 16000}, TONE, values={"rate": 44101})


@settings(deadline=None)
@given(
    count=st.integers(0, 200),
    size=st.integers(1, 40),
    hop=st.integers(1, 40),
    left=st.integers(0, 30),
    right=st.integers(0, 30),
    end=st.sampled_from(["pad", "drop"]),
)
def test_frames_hold_the_samples_that_their_place_says(
    count: int, size: int, hop: int, left: int, right: int, end: str, run_step: RunStep
) -> None:
    """Frame f begins at sample f * hop - left; outside the sound there are zeros."""
    samples = np.arange(1, count + 1, dtype=np.float32)
    step = {"step": "frame", "size": size, "hop": hop, "left": left, "right": right, "end": end}
    whole = np.concatenate([np.zeros(left), samples, np.zeros(right + size + hop)])
    if end == "drop":
        starts = range(0, count + left + right - size + 1, hop)
    else:
        starts = range(0, max(count + left + right - size + hop, 1), hop)
    if not starts:
        with pytest.raises(InputError, match="a frame needs"):
            run_step(step, samples)
        return
    (made,) = run_step(step, samples)
    assert made.tolist() == [whole[at : at + size].tolist() for at in starts]


def test_a_fixed_number_of_frames_cuts_a_long_sound_and_fills_a_short_one(
    run_step: RunStep,
) -> None:
    step = {"step": "frame", "size": 3, "hop": 2, "left": 1, "frames": 3}
    assert run_step(step, np.arange(1, 100, dtype=np.int16))[0].tolist() == [
        [0, 1, 2],
        [2, 3, 4],
        [4, 5, 6],
    ]
    assert run_step(step, np.array([9], np.int16))[0].tolist() == [[0, 9, 0], [0, 0, 0], [0, 0, 0]]


def test_a_reflected_beginning_is_numpys(run_step: RunStep) -> None:
    step = {"step": "frame", "size": 4, "hop": 4, "left": 2, "right": 2, "padding": "reflect"}
    samples = np.arange(1, 9, dtype=np.float32)
    padded = np.pad(samples, 2, mode="reflect")
    assert run_step(step, samples)[0].ravel().tolist() == padded.tolist()
    with pytest.raises(InputError, match="its reflection needs more than 2"):
        run_step(step, samples[:2])


@pytest.mark.parametrize("window", ["hann", "hamming", "none"])
def test_the_spectrum_is_that_of_scipys_window(run_step: RunStep, window: str) -> None:
    frames = np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32)
    shape = "boxcar" if window == "none" else window
    windowed = frames * scipy.signal.get_window(shape, 40, fftbins=True)
    wanted = np.abs(np.fft.rfft(windowed, 64))
    magnitude, power = (
        run_step({"step": "stft", "window": window, "fft": 64, "spectrum": kind}, frames)[0]
        for kind in ("magnitude", "power")
    )
    assert (magnitude.dtype.name, power.dtype.name) == ("float32", "float32")
    assert np.allclose(magnitude, wanted, atol=1e-4)
    assert np.allclose(power, wanted**2, rtol=1e-4, atol=1e-4)


def test_a_transform_shorter_than_its_frames_is_refused(run_step: RunStep) -> None:
    with pytest.raises(StepsError, match="has fft 32: the frames are of 40 samples"):
        run_step({"step": "stft", "fft": 32}, np.zeros((2, 40), np.float32))


def test_the_mel_scales_are_as_published() -> None:
    """HTK: 1000 Hz is 1000 mel but for rounding. Slaney: 200/3 Hz a mel, then logarithmic."""
    assert to_mel([0, 700, 1000], "htk").tolist() == pytest.approx([0, 781.17, 999.99], abs=0.01)
    slaney = to_mel([60, 110, 440, 1000, 6400], "slaney")
    assert slaney.tolist() == pytest.approx([0.9, 1.65, 6.6, 15, 42])


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_and_back_is_the_frequency(scale: Scale) -> None:
    hz = np.linspace(0, 20_000, 101)
    assert np.allclose(to_hz(to_mel(hz, scale), scale), hz)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_bands_are_triangles_that_add_up_to_one_between_the_outer_peaks(scale: Scale) -> None:
    bank = filterbank(
        bins=4097, mels=20, rate_hz=16000, low_hz=100, high_hz=7000, scale=scale, area=False
    )
    hz = np.linspace(0, 8000, 4097)
    edges = edges_of(20, 100, 7000, scale)
    inside = (hz >= edges[1]) & (hz <= edges[-2])
    assert np.allclose(bank[inside].sum(axis=1), 1, atol=1e-6)
    assert np.allclose(hz[bank.argmax(axis=0)], edges[1:-1], atol=8000 / 4096)
    assert bank[(hz < 100) | (hz > 7000)].max() == 0


def test_bands_of_one_area_integrate_to_one() -> None:
    bank = filterbank(
        bins=65537, mels=10, rate_hz=16000, low_hz=0, high_hz=8000, scale="slaney", area=True
    )
    assert np.allclose(bank.sum(axis=0) * 8000 / 65536, 1, atol=1e-3)


@pytest.mark.parametrize(
    ("log", "of"), [("ln", np.log), ("log10", np.log10), ("db", lambda x: 10 * np.log10(x))]
)
def test_silence_is_the_logarithm_of_the_floor(
    run_step: RunStep, log: str, of: Callable[[float], float]
) -> None:
    step = {"step": "log_mel", "rate_hz": 16000, "mels": 8, "log": log, "floor": 1e-6}
    (made,) = run_step(step, np.zeros((3, 257), np.float32))
    assert np.allclose(made, of(1e-6))


def test_a_tone_is_loudest_in_its_band(run_step: RunStep) -> None:
    time_s = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 2000 * time_s).astype(np.float32)
    (frames,) = run_step({"step": "frame", "size": 400, "hop": 160, "end": "drop"}, tone)
    (power,) = run_step({"step": "stft", "fft": 512}, frames)
    (bands,) = run_step({"step": "log_mel", "rate_hz": 16000, "mels": 40}, power)
    peaks = edges_of(40, 0, 8000, "htk")[1:-1]
    assert bands.shape == (98, 40)
    assert set(bands.argmax(axis=1)) == {int(np.abs(peaks - 2000).argmin())}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"high_hz": 9000}, "has high_hz 9000: at most half of rate_hz, 8000"),
        ({"low_hz": 500, "high_hz": 400}, "has low_hz 500: below high_hz, 400"),
    ],
)
def test_bands_outside_the_spectrum_are_refused(
    run_step: RunStep, fields: dict[str, Any], says: str
) -> None:
    step = {"step": "log_mel", "rate_hz": 16000, "mels": 8, **fields}
    with pytest.raises(ValueError, match=says):
        run_step(step, np.zeros((3, 257), np.float32))


def test_bands_for_another_rate_than_the_sounds_are_refused(run_step: RunStep) -> None:
    step = {"step": "log_mel", "rate_hz": 8000, "mels": 8}
    with pytest.raises(StepsError, match="has rate_hz 8000: the sound that it reads has 16000"):
        run_step(step, np.zeros((3, 257), np.float32), values={"rate": 16000})
