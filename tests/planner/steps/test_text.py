"""The step on text, with a tokenizer of nine words."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from planner.errors import InputError, StepsError
from planner.model import Model

RunStep = Callable[..., tuple[np.ndarray, ...]]
Build = Callable[..., Model]

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "##s", "the", "game"]
TOKENIZER = msgspec.json.encode(
    {
        "version": "1.0",
        "added_tokens": [
            {
                "id": index,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, token in enumerate(VOCABULARY[:4])
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "BertProcessing",
            "sep": ["[SEP]", 3],
            "cls": ["[CLS]", 2],
        },
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: index for index, token in enumerate(VOCABULARY)},
        },
    }
)
FILES = {"tokenizer.json": TOKENIZER}
STEP = {"step": "tokenise", "tokenizer_file": "tokenizer.json", "max_length": 6}


def tokens(run_step: RunStep, text: str, **changes: object) -> list[list[int]]:
    named = {"makes": ["ids", "mask", "types"]}
    made = run_step({**STEP, **named, **changes}, text.encode(), files=FILES)
    return [array[0].tolist() for array in made]


def test_a_text_becomes_ids_their_mask_and_types_filled_up_to_the_length(
    run_step: RunStep,
) -> None:
    assert tokens(run_step, "Playing") == [[2, 4, 5, 3, 0, 0], [1, 1, 1, 1, 0, 0], [0] * 6]


def test_a_long_text_is_cut_and_still_ends_as_it_should(run_step: RunStep) -> None:
    assert tokens(run_step, "the game plays the game")[0] == [2, 7, 8, 4, 6, 3]


def test_an_empty_text_and_an_unknown_word(run_step: RunStep) -> None:
    assert tokens(run_step, "")[0] == [2, 3, 0, 0, 0, 0]
    assert tokens(run_step, "chess")[0] == [2, 1, 3, 0, 0, 0]


def test_without_padding_there_are_as_many_as_the_text_has(run_step: RunStep) -> None:
    assert tokens(run_step, "the game", pad=False) == [[2, 7, 8, 3], [1] * 4, [0] * 4]


def test_another_id_to_fill_with_and_another_type(run_step: RunStep) -> None:
    step = {**STEP, "makes": "ids", "pad_id": 7, "datatype": "INT32"}
    (ids,) = run_step(step, b"game", files=FILES)
    assert (ids.dtype.name, ids.tolist()) == ("int32", [[2, 8, 3, 7, 7, 7]])


def test_the_network_gets_those_of_the_standard_inputs_that_it_has(around: Build) -> None:
    inputs = dict.fromkeys(("attention_mask", "input_ids"), ("INT64", (1, 6)))
    model = around({"before": [STEP]}, inputs, FILES)
    assert model.source == ("bytes",)
    made = model.whole().run({"bytes": np.array([b"game"], np.object_)})
    assert made["input_ids_out"].tolist() == [[2, 8, 3, 0, 0, 0]]
    assert made["attention_mask_out"].tolist() == [[1, 1, 1, 0, 0, 0]]


def test_a_network_with_inputs_of_other_names_asks_for_them(around: Build) -> None:
    with pytest.raises(StepsError, match="the network has no input input_ids: name its inputs"):
        around({"before": [STEP]}, {"x": ("INT64", (1, 6))}, FILES)
    named = {**STEP, "makes": ["x"]}
    assert around({"before": [named]}, {"x": ("INT64", (1, 6))}, FILES).source == ("bytes",)


def test_bytes_that_are_no_text_are_refused(run_step: RunStep) -> None:
    with pytest.raises(InputError, match=r"the message \(2 bytes\) is no UTF-8 text"):
        run_step({**STEP, "makes": "ids"}, b"\xff\xfe", files=FILES)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "which is no JSON document"),
        (TOKENIZER[:200], "which is no JSON document"),
        (b"[1]", "which is no JSON document"),
        (b'{"labels": []}', "which has no model: it must be a Hugging Face tokenizer.json"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused_when_the_steps_are_read(
    run_step: RunStep, data: bytes, says: str
) -> None:
    with pytest.raises(StepsError, match=says):
        run_step({**STEP, "makes": "ids"}, b"game", files={"tokenizer.json": data})


def test_a_tokenizer_that_the_library_cannot_read_is_refused_in_a_sentence(
    run_step: RunStep,
) -> None:
    files = {"tokenizer.json": b'{"version": "1.0", "model": {"type": "Magic"}}'}
    with pytest.raises(StepsError, match=r"tokenizer\.json cannot be used with max_length 6: "):
        run_step({**STEP, "makes": "ids"}, b"game", files=files)


def test_without_tokenizers_a_sentence_says_what_to_install(
    run_step: RunStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("planner.steps.binding.importlib.import_module", missing)
    with pytest.raises(StepsError, match=r'library tokenizers.*`pip install "isthmus\[text\]"`'):
        run_step({**STEP, "makes": "ids"}, b"game", files=FILES)
