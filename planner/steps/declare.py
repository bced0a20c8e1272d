"""``steps.json``: which steps there are, and reading and checking such a file."""

from pathlib import Path
from typing import Literal, get_args

import msgspec

from planner.errors import StepsError
from planner.steps.after import (
    Argmax,
    CtcGreedy,
    MeanPool,
    Regression,
    Sigmoid,
    Softmax,
    Threshold,
    TopK,
)
from planner.steps.audio import DecodeAudio, Resample
from planner.steps.binding import Decoder, Step
from planner.steps.boxes import Boxes, Nms
from planner.steps.image import Colour, Crop, Decode, Layout, Normalise, Pad, Resize
from planner.steps.refusals import refusal
from planner.steps.signal import DecodeArray, Reshape, Scale, Scalogram, Standardise
from planner.steps.spectra import Frame, LogMel, Stft
from planner.steps.tabular import DecodeRow, Join, OneHot, Select
from planner.steps.text import Tokenise

Before = (
    Decode
    | Resize
    | Crop
    | Pad
    | Colour
    | Normalise
    | Layout
    | DecodeAudio
    | Resample
    | Frame
    | Stft
    | LogMel
    | Tokenise
    | DecodeRow
    | Select
    | OneHot
    | Join
    | DecodeArray
    | Scale
    | Standardise
    | Scalogram
    | Reshape
)
After = (
    TopK | Softmax | Sigmoid | Argmax | Threshold | Regression | MeanPool | CtcGreedy | Boxes | Nms
)


class Steps(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The steps of one model: ``before`` makes what the network takes, ``after`` the answer.

    ``input`` is the network's input that the last step before it makes; further inputs are fed by
    steps that make a tensor of their name, and those that none makes stay the user's to send.
    ``answers`` are outputs of the network or of steps after it; by default those that no step
    reads. What leads to none of them is not run.
    """

    schema: Literal["isthmus.steps/1"]
    input: str | None = None
    before: tuple[Before, ...]
    after: tuple[After, ...] = ()
    answers: tuple[str, ...] | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files that steps name, each once."""
        every: tuple[Step, ...] = (*self.before, *self.after)
        return tuple(dict.fromkeys(name for step in every for name in step.file_names))


def read_steps(path: Path) -> Steps:
    """Read and check a ``steps.json``; :func:`planner.steps.load` reads the files that it names.

    Raises:
        StepsError: unreadable, or a field is missing, unknown or out of range.
    """
    return parse_steps(read_bytes(path, "steps file"), path)


def parse_steps(data: bytes, path: Path) -> Steps:
    """As :func:`read_steps`, from the bytes of the file *path*."""
    what = f"steps file {path}"
    try:
        steps = msgspec.json.decode(data, type=Steps)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StepsError(
            refusal(error, data, what, before=get_args(Before), after=get_args(After))
        ) from error
    for part, declared in (("before", steps.before), ("after", steps.after)):
        for index, step in enumerate(declared):
            if problem := step.problem():
                raise StepsError(f"{what} is not valid: {part} step {index} {step.kind} {problem}")
    if not steps.before or not isinstance(steps.before[0], Decoder):
        raise StepsError(
            f"{what} is not valid: the first step must be decode, decode_audio, tokenise, "
            "decode_row or decode_array"
        )
    return steps


def read_bytes(path: Path, what: str) -> bytes:
    """The bytes of a file.

    Raises:
        StepsError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise StepsError(f"{what} {path} does not exist: check the path") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StepsError(f"{what} {path} cannot be read: {reason}") from error
