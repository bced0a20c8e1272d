"""WordPiece tokens of an uncased BERT, from a ``tokenizer.json``.

Source: Devlin et al. 2019; the file's own settings (lower case, accents stripped, ``##`` within
words) are those of all-MiniLM-L6-v2.
"""

import unicodedata
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from protos.documents import decode_json

IntArray = npt.NDArray[np.int64]

LONGEST_WORD = 100


class _Vocabulary(msgspec.Struct, frozen=True):
    vocab: dict[str, int]


class _File(msgspec.Struct, frozen=True):
    model: _Vocabulary


class WordPiece:
    """Text to token ids."""

    def __init__(self, path: Path) -> None:
        self._vocab = decode_json(path.read_bytes(), _File, what=f"tokenizer {path}").model.vocab

    def ids(self, text: str) -> list[int]:
        """``[CLS]``, the pieces of *text*, ``[SEP]``."""
        pieces = [piece for word in _words(text) for piece in self._pieces(word)]
        return [self._vocab[token] for token in ("[CLS]", *pieces, "[SEP]")]

    def inputs(self, text: str, length: int) -> dict[str, IntArray]:
        """The three inputs of a BERT, shape ``(1, length)``, cut or padded to *length*."""
        ids = self.ids(text)
        if len(ids) > length:
            ids = [*ids[: length - 1], ids[-1]]
        padded = np.zeros((1, length), dtype=np.int64)
        padded[0, : len(ids)] = ids
        mask = np.zeros((1, length), dtype=np.int64)
        mask[0, : len(ids)] = 1
        return {
            "input_ids": padded,
            "attention_mask": mask,
            "token_type_ids": np.zeros((1, length), dtype=np.int64),
        }

    def _pieces(self, word: str) -> list[str]:
        """The longest known piece first, again and again; a word without any is unknown."""
        if len(word) > LONGEST_WORD:
            return ["[UNK]"]
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                if prefix + word[start:end] in self._vocab:
                    pieces.append(prefix + word[start:end])
                    start = end
                    break
            else:
                return ["[UNK]"]
        return pieces


def _words(text: str) -> list[str]:
    """Lower case without accents, split at spaces and around every mark and CJK character."""
    plain = "".join(
        char
        for char in unicodedata.normalize("NFD", text.lower())
        if unicodedata.category(char) != "Mn"
    )
    spaced = "".join(
        " " if char.isspace() else f" {char} " if _stands_alone(char) else char
        for char in plain
        if char.isspace() or unicodedata.category(char)[0] != "C"
    )
    return spaced.split()


def _stands_alone(char: str) -> bool:
    ascii_mark = char.isascii() and not char.isalnum() and char.isprintable()
    ideograph = 0x4E00 <= ord(char) <= 0x9FFF or 0x3400 <= ord(char) <= 0x4DBF
    return ascii_mark or ideograph or unicodedata.category(char)[0] == "P"
