"""Complex wavelets, sampled and integrated, as the continuous wavelet transform needs them.

Source: the algorithm of PyWavelets' ``cwt`` and its wavelets ``shanB-C`` and ``cmorB-C``.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Wavelet = Literal["shannon", "morlet"]

_POINTS = 4096
_REACH = {"shannon": 20.0, "morlet": 8.0}


def kernel(
    wavelet: Wavelet, *, bandwidth: float, centre: float, scale: float
) -> npt.NDArray[np.complex128]:
    """The wavelet's integral stretched to *scale* and reversed, ready to be convolved with."""
    places = np.linspace(-_REACH[wavelet], _REACH[wavelet], _POINTS)
    turn = np.exp(2j * np.pi * centre * places)
    if wavelet == "shannon":
        wave = np.sqrt(bandwidth) * np.sinc(bandwidth * places) * turn
    else:
        wave = np.exp(-(places**2) / bandwidth) * turn / np.sqrt(np.pi * bandwidth)
    step = places[1] - places[0]
    integral = np.conj(np.cumsum(wave) * step)
    points = (np.arange(scale * (places[-1] - places[0]) + 1) / (scale * step)).astype(int)
    return np.asarray(integral[points[points < integral.size]][::-1])


@lru_cache(maxsize=4)
def spectra(
    wavelet: Wavelet, *, bandwidth: float, centre: float, scales: tuple[float, ...], samples: int
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.intp]]:
    """What a signal's spectrum is multiplied with, and where each row of the result begins.

    The differences of a convolution are the convolution with the kernel's differences, so one
    product in the frequency domain gives both.

    Returns:
        Spectra, shape ``(scales, size)``, and the first of the *samples* that are kept of each row.
    """
    kernels = [
        -np.sqrt(scale)
        * np.diff(
            kernel(wavelet, bandwidth=bandwidth, centre=centre, scale=scale), prepend=0, append=0
        )
        for scale in scales
    ]
    size = _fast(samples + max(each.size for each in kernels) - 1)
    rows = np.stack([np.fft.fft(each, size) for each in kernels]).astype(np.complex64)
    # diff(convolve(x, k)) is convolve(x, diff(0, k, 0)) without its first and last entry
    starts = [1 + (each.size - 3) // 2 for each in kernels]
    rows.setflags(write=False)
    return rows, np.asarray(starts)


def _fast(size: int) -> int:
    """The least number not below *size* without a prime factor above 5: a fast transform's size."""
    best = 1 << (size - 1).bit_length()
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            best = min(best, threes << (-(-size // threes) - 1).bit_length())
            threes *= 3
        fives *= 5
    return best
