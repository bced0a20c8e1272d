"""Steps on raw samples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.fft

from planner.errors import InputError, StepsError
from planner.steps.wavelets import _fast as fast
from testbed.signals import scalogram

RunStep = Callable[..., tuple[np.ndarray, ...]]


@pytest.mark.parametrize("datatype", ["UINT8", "INT16", "INT64", "FP16", "FP32", "FP64"])
def test_little_endian_samples_become_the_tensor(run_step: RunStep, datatype: str) -> None:
    dtype = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}.get(datatype) or {
        "UINT8": "<u1",
        "INT16": "<i2",
        "INT64": "<i8",
    }[datatype]
    samples = np.arange(6).reshape(2, 3).astype(dtype)
    step = {"step": "decode_array", "datatype": datatype, "shape": [2, 3]}
    (made,) = run_step(step, samples.tobytes())
    assert (made.dtype, made.tolist()) == (samples.dtype, samples.tolist())


@pytest.mark.parametrize("size", [0, 1, 11, 13])
def test_a_message_of_another_size_is_refused(run_step: RunStep, size: int) -> None:
    step = {"step": "decode_array", "datatype": "INT16", "shape": [2, 3]}
    with pytest.raises(InputError, match=rf"takes 12 bytes, but there are {size}"):
        run_step(step, bytes(size))


def test_an_array_of_too_many_samples_is_refused_when_it_is_declared(run_step: RunStep) -> None:
    step = {"step": "decode_array", "datatype": "FP64", "shape": [1 << 20, 1 << 20]}
    with pytest.raises(ValueError, match="at most 67108864 samples"):
        run_step(step, b"")


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        ({"std": [32768]}, [0.5, -1]),
        ({"mean": [100, -100], "std": [2, 4]}, [8142, -8167]),
        ({"mean": [16384]}, [0, -49152]),
        ({"min": [-32768], "max": [32768]}, [0.75, 0]),
    ],
)
def test_samples_are_scaled_by_what_is_given(
    run_step: RunStep, fields: dict[str, Any], made: list[float]
) -> None:
    (out,) = run_step({"step": "scale", **fields}, np.array([[16384, -32768]], np.int16))
    assert (out.dtype.name, out.tolist()) == ("float32", [pytest.approx(made)])


def test_a_small_difference_of_large_numbers_is_kept(run_step: RunStep) -> None:
    """float32 has 24 bits: 2**40 + 1 - 2**40 is 1 only in float64."""
    large = np.array([2**40 + 1, 2**40], np.int64)
    assert run_step({"step": "scale", "mean": [2**40]}, large)[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "needs either mean and std, one of these, or min and max"),
        ({"mean": [0], "max": [1]}, "needs either mean and std"),
        ({"min": [0]}, "needs either mean and std"),
        ({"min": [0], "max": [0]}, "has min 0 and max 0: min must be below max"),
        ({"min": [0], "max": [1, 2]}, "has 1 in min and 2 in max: as many in each"),
    ],
)
def test_a_scale_that_contradicts_itself_is_refused(
    run_step: RunStep, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        run_step({"step": "scale", **fields}, np.zeros((1, 2), np.float32))


def test_a_scale_for_other_columns_is_refused(run_step: RunStep) -> None:
    with pytest.raises(StepsError, match="has 3 in std: it takes 1 or 2"):
        run_step({"step": "scale", "std": [1, 2, 3]}, np.zeros((1, 2), np.float32))


def test_each_row_gets_its_own_mean_and_deviation(run_step: RunStep) -> None:
    rows = np.array([[1, 2, 3], [10, 10, 10]], np.int16)
    (made,) = run_step({"step": "standardise"}, rows)
    assert made[0].tolist() == pytest.approx([-1.2247449, 0, 1.2247449])
    assert made[1].tolist() == [0, 0, 0]


def test_the_scalogram_is_that_of_the_continuous_wavelet_transform(run_step: RunStep) -> None:
    """Against a convolution for each scale, as the transform is defined."""
    signal = np.random.default_rng(0).standard_normal(1500).astype(np.float32)
    step = {
        "step": "scalogram",
        "wavelet": "shannon",
        "bandwidth": 6,
        "centre": 13,
        "low": 135,
        "high": 270,
        "count": 15,
    }
    (made,) = run_step(step, signal[None])
    wanted = scalogram(signal.astype(np.float64))
    assert made.shape == (1, 15, 1500)
    assert np.abs(made[0] - wanted).max() < 1e-5 * wanted.max()


def test_a_tone_is_largest_at_its_scale(run_step: RunStep) -> None:
    """A complex Morlet with centre frequency 1 at scale s sees a period of s samples."""
    tone = np.sin(2 * np.pi * np.arange(2000) / 32)
    step = {"step": "scalogram", "bandwidth": 1.5, "centre": 1, "low": 8, "high": 128, "count": 9}
    (made,) = run_step(step, tone)
    assert np.geomspace(8, 128, 9)[made[:, 1000].argmax()] == pytest.approx(32)


def test_the_transforms_size_is_the_next_without_a_prime_factor_above_5() -> None:
    sizes = range(1, 3000)
    assert [fast(n) for n in sizes] == [scipy.fft.next_fast_len(n, real=True) for n in sizes]


def test_samples_in_another_order_and_shape(run_step: RunStep) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (made,) = run_step({"step": "reshape", "order": [1, 0], "shape": [1, -1, 2]}, x)
    assert (made.shape, made.ravel().tolist()) == ((1, 3, 2), [0, 3, 1, 4, 2, 5])
    assert made.flags.c_contiguous


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"shape": [4]}, r"has shape \[4\]: what it reads is \[2, 3\]"),
        ({"shape": [4, -1]}, r"has shape \[4, -1\]: what it reads is \[2, 3\]"),
        ({"shape": [6], "order": [0]}, r"has order \[0\]: it takes 0 to 1, each once"),
    ],
)
def test_a_shape_of_other_samples_is_refused(
    run_step: RunStep, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(StepsError, match=says):
        run_step({"step": "reshape", **fields}, np.zeros((2, 3), np.float32))
