"""The pre-processing that is ours, against its definition."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from testbed.filetypes import magika_input
from testbed.images import classifier_input
from testbed.signals import EEG_SAMPLES, SCALES, scalogram, voice_inputs
from testbed.wordpiece import WordPiece

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "##s", "cafe", "!", "'", "你"]


@pytest.fixture
def tokens(tmp_path: Path) -> WordPiece:
    path = tmp_path / "tokenizer.json"
    vocab = {token: index for index, token in enumerate(VOCABULARY)}
    path.write_text(json.dumps({"version": "1.0", "model": {"type": "WordPiece", "vocab": vocab}}))
    return WordPiece(path)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("Playing plays", ["play", "##ing", "play", "##s"]),
        ("Café!", ["cafe", "!"]),
        ("play's", ["play", "'", "[UNK]"]),
        ("你play", ["你", "play"]),
        ("playx", ["[UNK]"]),
        ("play\u200b\ting\x00", ["play", "[UNK]"]),
        ("p" * 101, ["[UNK]"]),
    ],
)
def test_text_becomes_the_longest_known_pieces(
    tokens: WordPiece, text: str, pieces: list[str]
) -> None:
    assert [VOCABULARY[i] for i in tokens.ids(text)] == ["[CLS]", *pieces, "[SEP]"]


def test_tokens_are_padded_or_cut_to_the_length_and_end_alike(tokens: WordPiece) -> None:
    padded, cut = tokens.inputs("play", 5), tokens.inputs("play play play", 4)
    assert padded["input_ids"].tolist() == [[2, 4, 3, 0, 0]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1, 0, 0]]
    assert cut["input_ids"].tolist() == [[2, 4, 4, 3]]
    assert cut["attention_mask"].tolist() == [[1, 1, 1, 1]]


@given(st.binary(max_size=9000))
def test_magika_sees_the_beginning_and_the_end_of_any_file(content: bytes) -> None:
    seen = magika_input(content)[0]
    begin, end = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
    assert seen.tolist() == [
        *begin,
        *[256] * (1024 - len(begin)),
        *[256] * (1024 - len(end)),
        *end,
    ]


def test_a_classifier_sees_the_centre_normalised_channel_by_channel() -> None:
    image = Image.new("RGB", (64, 32), (255, 0, 51))
    seen = classifier_input(image, mean=(0.5, 0.5, 0.2), std=(0.5, 0.25, 1.0), short=16, side=8)
    assert seen.shape == (1, 3, 8, 8)
    assert seen[0, :, 0, 0].tolist() == pytest.approx([1.0, -2.0, 0.0], abs=1e-6)
    flipped = classifier_input(image, mean=(0,) * 3, std=(1,) * 3, short=16, side=8, bgr=True)
    assert flipped[0, :, 0, 0].tolist() == pytest.approx([0.2, 0.0, 1.0])


def test_each_frame_of_sound_begins_with_the_end_of_the_one_before() -> None:
    inputs = voice_inputs(5)
    frames = inputs["input"]
    assert (frames.shape, inputs["h"].shape, inputs["c"].shape) == (
        (5, 576),
        (1, 1, 128),
        (1, 1, 128),
    )
    assert frames[0, :64].tolist() == [0.0] * 64
    assert np.array_equal(frames[1:, :64], frames[:-1, -64:])


def test_a_tone_shows_at_the_scales_whose_band_holds_it() -> None:
    """The wavelet lets 10 to 16 cycles per scale through: 17 Hz at 250 Hz at scales 147 to 235."""
    rows = scalogram(np.sin(2 * np.pi * 17 * np.arange(EEG_SAMPLES) / 250))
    assert rows.shape == (SCALES.size, EEG_SAMPLES)
    within = (SCALES > 10 / 17 * 250) & (SCALES < 16 / 17 * 250)
    assert ((rows[:, EEG_SAMPLES // 2] > 1) == within).all()
