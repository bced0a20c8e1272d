"""Made-up messages, for where no sample of a sensor's is at hand."""

import io
import wave

import numpy as np
from PIL import Image

SENTENCE = "The device sends what the cloud needs to know, and answers by itself when it must."


def made_up_image(width: int = 640, height: int = 480) -> bytes:
    """A made-up photograph for where no sample is at hand: smooth shapes and some grain, JPEG."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (height, width, 3))
    pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


def made_up_sound(rate_hz: int = 16_000, seconds: float = 10.0) -> bytes:
    """A made-up recording: a buzz that comes and goes each second, in faint noise, 16-bit WAV."""
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    buzz = 0.2 * (2 * (time_s * 200 % 1) - 1) * (time_s % 2 < 1)
    noise = 0.002 * np.random.default_rng(0).standard_normal(time_s.size)
    samples = np.round((buzz + noise) * 32767).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    return out.getvalue()
