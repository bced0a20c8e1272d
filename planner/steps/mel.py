"""Mel filterbanks: triangles on the mel scale that sum a spectrum into few bands."""

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Scale = Literal["htk", "slaney"]

_SLANEY_HZ_PER_MEL = 200 / 3
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_BREAK_MEL = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = np.log(6.4) / 27


def to_mel(hz: npt.ArrayLike, scale: Scale) -> npt.NDArray[np.float64]:
    """Frequencies on the mel scale.

    Source: ``htk``: Young et al., The HTK Book (3.4), eq. 5.13, ``2595 log10(1 + f / 700)``.
    ``slaney``: Slaney, Auditory Toolbox 2 (Interval Research TR 1998-010): linear up to 1 kHz,
    then 27 steps for each factor of 6.4.
    """
    f = np.asarray(hz, dtype=np.float64)
    if scale == "htk":
        return np.asarray(2595 * np.log10(1 + f / 700))
    over = np.log(np.maximum(f, _SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
    return np.where(f < _SLANEY_BREAK_HZ, f / _SLANEY_HZ_PER_MEL, _SLANEY_BREAK_MEL + over)


def to_hz(mel: npt.ArrayLike, scale: Scale) -> npt.NDArray[np.float64]:
    """The inverse of :func:`to_mel`."""
    m = np.asarray(mel, dtype=np.float64)
    if scale == "htk":
        return np.asarray(700 * (10 ** (m / 2595) - 1))
    over = np.exp(np.maximum(m - _SLANEY_BREAK_MEL, 0) * _SLANEY_LOG_STEP)
    return np.where(m < _SLANEY_BREAK_MEL, m * _SLANEY_HZ_PER_MEL, _SLANEY_BREAK_HZ * over)


@lru_cache(maxsize=8)
def filterbank(
    *, bins: int, mels: int, rate_hz: int, low_hz: float, high_hz: float, scale: Scale, area: bool
) -> npt.NDArray[np.float32]:
    """Triangles with their feet at the neighbours' peaks, float32, shape ``(bins, mels)``.

    Args:
        bins: of the spectrum, 0 to half of *rate_hz*.
        mels: bands.
        rate_hz: samples a second.
        low_hz: the first band's lower foot.
        high_hz: the last band's upper foot.
        scale: see :func:`to_mel`.
        area: every triangle has the same area, ``2 / width in Hz`` high (Slaney's), else height 1.
    """
    first, last = to_mel([low_hz, high_hz], scale).tolist()
    edges = to_hz(np.linspace(first, last, mels + 2), scale)
    hz = np.linspace(0, rate_hz / 2, bins)[:, None]
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hz - low) / (peak - low), (high - hz) / (high - peak)
    bank = np.maximum(0, np.minimum(rising, falling))
    if area:
        bank *= 2 / (high - low)
    out = bank.astype(np.float32)
    out.setflags(write=False)
    return out
