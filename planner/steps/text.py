"""The step on text: a sentence to the tokens that a network takes."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from planner.errors import InputError, StepsError
from planner.graph import UNKNOWN
from planner.steps.binding import (
    Ask,
    Bound,
    Count,
    Decoder,
    FileName,
    Offset,
    Unfit,
    Value,
    check,
    library,
    message_of,
)
from planner.steps.samples import SENTENCE

STANDARD = ("input_ids", "attention_mask", "token_type_ids")
"""What the networks of Hugging Face's transformers call their inputs."""

_PADDING = ("[PAD]", "<pad>", "<|endoftext|>")


class Tokenise(Decoder, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="tokenise"):
    """UTF-8 text to token ids, their mask and their types, each of shape ``(1, tokens)``.

    ``tokenizer_file`` is a Hugging Face ``tokenizer.json``. Texts are cut to ``max_length`` and,
    with ``pad``, filled up to it with ``pad_id`` (by default what the file says). It makes those of
    ``input_ids``, ``attention_mask`` and ``token_type_ids`` that the network takes; ``makes``
    names up to three others, in this order.
    """

    tokenizer_file: FileName
    max_length: Count
    pad: bool = True
    pad_id: Offset | None = None
    datatype: Literal["INT64", "INT32"] = "INT64"

    files: ClassVar[tuple[str, ...]] = ("tokenizer_file",)
    feeds: ClassVar[bool] = True

    @property
    def roles(self) -> tuple[str, ...]:
        return STANDARD

    def bind(self, ask: Ask) -> Bound:
        check(ask.given[0], ("BYTES",), ranks=(1,), what="the sensor's message")
        if not ask.makes or (not self.named and ask.makes[0] != STANDARD[0]):
            raise Unfit(
                "does not know what to make, for the network has no input input_ids: name its "
                "inputs for ids, mask and types in makes"
            )
        kinds = STANDARD[: len(ask.makes)] if self.named else tuple(ask.makes)
        data = ask.files[self.tokenizer_file]
        _check_file(data, self.tokenizer_file)
        loaded = _Later(lambda: _load(self, data))
        shape = (1, self.max_length if self.pad else UNKNOWN)
        dtype = np.dtype(np.int64 if self.datatype == "INT64" else np.int32)

        def run(message: np.ndarray) -> tuple[np.ndarray, ...]:
            tokens = tokenise(self, loaded.get(), message_of(message), dtype)
            return tuple(tokens[kind] for kind in kinds)

        made = tuple(Value(name=name, datatype=self.datatype, shape=shape) for name in ask.makes)
        return Bound(makes=made, run=run)

    def made_up(self) -> bytes:
        return SENTENCE.encode()


def tokenise(
    step: Tokenise, loaded: "_Loaded", message: bytes, dtype: "np.dtype[Any]"
) -> dict[str, np.ndarray]:
    """Ids, mask and types of one text under their standard names.

    Raises:
        InputError: the text is not UTF-8, or the tokenizer cannot read it.
    """
    try:
        text = message.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"the message ({len(message)} bytes) is no UTF-8 text") from error
    try:
        encoding = loaded.tokenizer.encode(text)
    except Exception as error:  # the library's errors have no class of their own
        raise InputError(f"the text cannot be tokenised: {_line(error)}") from error
    count = len(encoding.ids)
    length = step.max_length if step.pad else count
    ids = np.full((1, length), loaded.pad_id, dtype=dtype)
    mask, types = np.zeros((1, length), dtype=dtype), np.zeros((1, length), dtype=dtype)
    ids[0, :count] = encoding.ids
    mask[0, :count] = encoding.attention_mask
    types[0, :count] = encoding.type_ids
    return dict(zip(STANDARD, (ids, mask, types), strict=True))


class _Later:
    """A tokenizer that is loaded once, when it is first needed, by the thread that comes first."""

    def __init__(self, make: "Callable[[], _Loaded]") -> None:
        self._make = make
        self._made: _Loaded | None = None
        self._lock = threading.Lock()

    def get(self) -> "_Loaded":
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = self._make()
        return self._made


def _check_file(data: bytes, name: str) -> None:
    """A look that takes a millisecond: loading a large vocabulary takes half a second.

    Raises:
        Unfit: the file is no tokenizer.json.
    """
    try:
        found = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unfit(f"names {name}, which is no JSON document: save tokenizer.json anew") from error
    if "model" not in found:
        raise Unfit(f"names {name}, which has no model: it must be a Hugging Face tokenizer.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """The library's tokenizer, set to cut but not to pad, and the id to pad with."""

    tokenizer: Any
    pad_id: int


def _load(step: Tokenise, data: bytes) -> _Loaded:
    tokenizers = library("tokenizers", "text")
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(data)
        pad_id = _pad_id(tokenizer) if step.pad_id is None else step.pad_id
        tokenizer.no_padding()
        tokenizer.enable_truncation(step.max_length)
    except Exception as error:
        raise StepsError(
            f"the tokenizer {step.tokenizer_file} cannot be used with max_length "
            f"{step.max_length}: {_line(error)}"
        ) from error
    return _Loaded(tokenizer=tokenizer, pad_id=pad_id)


def _pad_id(tokenizer: Any) -> int:  # noqa: ANN401  the library has no types
    """What the file pads with, or else its padding token, or else 0."""
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    known = (tokenizer.token_to_id(token) for token in _PADDING)
    return next((int(found) for found in known if found is not None), 0)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
