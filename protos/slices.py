"""A tensor cut along one axis, so that each slice can be encoded and sent before the next is ready.

Where :func:`axis_of` names an axis, the slices, decoded and joined, are bit for bit what the whole
tensor would have decoded to.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protos import affine
from protos.codecs import Codec
from protos.errors import WireError
from protos.tensors import Array

MOST = 64
"""The most slices that a tensor may be cut into, and the most chunks of a request."""

_MOST_AXES = 32
_TEXT = re.compile(r"([0-9]{1,2})/([0-9]{1,2})@([0-9]{1,2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Slice *number* of *of* along *axis*; ``str(slice)`` is how the wire writes it: ``2/4@1``."""

    number: int
    of: int
    axis: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MOST:
            raise ValueError(f"slice {self.number} of {self.of}: use 1 <= number <= of <= {MOST}")
        if not 0 <= self.axis < _MOST_AXES:
            raise ValueError(f"axis must be 0 to {_MOST_AXES - 1}, got {self.axis}")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}@{self.axis}"


def parse(text: str) -> Slice:
    """Read what ``str(slice)`` wrote.

    Raises:
        WireError: it is no slice.
    """
    found = _TEXT.fullmatch(text)
    if found is not None:
        number, of, axis = map(int, found.groups())
        try:
            return Slice(number=number, of=of, axis=axis)
        except ValueError:
            pass
    raise WireError(
        f"slice {text[:40]!r} is not one: send number/of@axis, such as 2/4@1, with at most "
        f"{MOST} slices along an axis below {_MOST_AXES}"
    )


def axis_of(codec: Codec, shape: Sequence[int], count: int) -> int | None:
    """Where to cut a tensor of *shape*, written with *codec*, into *count* slices.

    Int8 keeps one scale per channel, so that only channels can be parted. BYTES tensors have no
    slices, whatever this says of their shape.

    Returns:
        The axis for :func:`cut`; None where the tensor must be sent whole.
    """
    if not 2 <= count <= MOST or 0 in shape:
        return None
    channels = affine.channel_axis(shape)
    match codec.kind:
        case "int8":
            axes = [] if channels is None else [channels]
        case "raw" | "fp16":
            axes = list(range(min(len(shape), _MOST_AXES)))
            if channels is not None:
                axes.insert(0, channels)
        case "jpeg" | "webp":
            axes = []
    return next((axis for axis in axes if shape[axis] >= count), None)


def cut(array: Array, count: int, axis: int) -> tuple[Array, ...]:
    """Part *array* along *axis* into *count* views; the first are the longer ones by one."""
    return tuple(np.array_split(array, count, axis))
