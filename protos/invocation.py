"""One invocation as the rooms see it: the request, its tensors, the reply and its timing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Self

import numpy as np

from protos import codecs, tensors
from protos.codecs import Codec
from protos.errors import WireError
from protos.slices import Slice
from protos.tensors import Array
from protos.timing import Timing, Waits

Parameter = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A named tensor as it travels, or one *slice* of it.

    *datatype* and *shape* are those of the decoded array, and in a slice of that slice.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes
    codec: str = "raw"
    slice: Slice | None = None

    @classmethod
    def of(
        cls,
        name: str,
        array: Array,
        codec: str | Codec = "raw",
        *,
        datatype: str | None = None,
        slice: Slice | None = None,  # noqa: A002  the field's name
    ) -> Self:
        """Encode *array*; see :func:`protos.codecs.encode`.

        Args:
            name: the tensor's, in all of its slices.
            array: the whole tensor, or what *slice* says it is of it.
            codec: must suit *array*.
            datatype: by default the array's own.
            slice: None for a whole tensor; see :func:`protos.slices.axis_of`.

        Raises:
            WireError: no such codec, or it cannot write this array.
        """
        codec = codecs.parse(codec) if isinstance(codec, str) else codec
        try:
            datatype = datatype or tensors.datatype_of(array)
            data = codecs.encode(codec, array, datatype)
        except WireError as error:
            raise WireError(f"tensor {name!r}: {error}") from error
        return cls(
            name=name,
            datatype=datatype,
            shape=array.shape,
            data=data,
            codec=str(codec),
            slice=slice,
        )

    def array(self) -> Array:
        """Decode it; see :func:`protos.codecs.decode`.

        Raises:
            WireError: the contents are not those of such a tensor.
        """
        try:
            return codecs.decode(codecs.parse(self.codec), self.data, self.datatype, self.shape)
        except WireError as error:
            raise WireError(f"tensor {self.name!r}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One invocation. An empty *version* is the newest, empty *outputs* are the default ones.

    *cut* names the plan whose boundary tensors the inputs are; None is the whole model.
    *deadline_ms* counts from receipt. *key* makes repeating the request harmless. *chunk* (number,
    of) says that the inputs are only a part of the request's; see :func:`protos.wire.joined`.
    """

    model: str
    version: str = ""
    id: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[str, ...] = ()
    cut: str | None = None
    deadline_ms: float | None = None
    key: str | None = None
    chunk: tuple[int, int] | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to one request; the gateway adds *timing*, *cold* and *instance*.

    To a plan's it adds *waits*, for the choice of the next one.
    """

    model: str
    version: str = ""
    id: str = ""
    outputs: tuple[Tensor, ...] = ()
    timing: Timing | None = None
    cold: bool = False
    instance: str = ""
    waits: Waits | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What the gateway must know of a request before it hands the bytes on.

    *input_names* has the name of a tensor in slices once.
    """

    model: str
    version: str
    id: str
    input_names: tuple[str, ...]
    outputs: tuple[str, ...]
    cut: str | None
    deadline_ms: float | None
    key: str | None
    chunk: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamError:
    """A stream's answer to a request that failed."""

    id: str
    message: str


def checked(many: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Give *many* if they may travel together; contents are sized but not decoded.

    Raises:
        WireError: a name is empty or used twice, a datatype, shape or codec is none or does not
            suit, raw contents are not of the exact size, or a tensor's slices are not all there,
            one directly after the other, or do not fit each other.
    """
    names = set()
    for name, those in groupby(many, key=lambda tensor: tensor.name):
        same = tuple(those)
        whole = any(tensor.slice is None for tensor in same)
        if name in names or not name or (whole and len(same) > 1):
            raise WireError(f"tensor name {name!r} is empty or used twice: name each once")
        names.add(name)
        try:
            for tensor in same:
                _check(tensor)
        except WireError as error:
            raise WireError(f"tensor {name!r}: {error}") from error
        if not whole and (wrong := next(_misfits(same), None)):
            raise WireError(f"tensor {name!r} {wrong}")
    return tuple(many)


def arrays(many: Sequence[Tensor]) -> dict[str, Array]:
    """Decode *many*, and join the slices of each tensor that came in some.

    Raises:
        WireError: see :func:`checked` and :meth:`Tensor.array`.
    """
    found: dict[str, list[Tensor]] = {}
    for tensor in checked(many):
        found.setdefault(tensor.name, []).append(tensor)
    return {name: _joined(same) for name, same in found.items()}


def _joined(same: Sequence[Tensor]) -> Array:
    parts = [tensor.array() for tensor in same]
    first = same[0].slice
    return parts[0] if first is None else np.concatenate(parts, axis=first.axis)


def _check(tensor: Tensor) -> None:
    codec = codecs.parse(tensor.codec)
    codecs.check_suits(codec, tensor.datatype, tensor.shape)
    tensors.count(tensor.shape)
    if codec == codecs.RAW:
        tensors.check_size(tensor.data, tensor.datatype, tensor.shape)


def _misfits(same: Sequence[Tensor]) -> Iterator[str]:
    """What is wrong with these slices of one tensor, each of which is sound by itself.

    Only the first is to be read: those after it take what it denies for granted.
    """
    slices = [tensor.slice for tensor in same if tensor.slice is not None]
    of, axis = slices[0].of, slices[0].axis
    if any((each.of, each.axis) != (of, axis) for each in slices):
        yield f"has slices {_some(slices)}: cut it once, along one axis"
    numbers = [each.number for each in slices]
    if numbers != list(range(1, of + 1)):
        yield f"has slices {_some(numbers)} of {of}: send all, in order"
    if any(len(tensor.shape) <= axis for tensor in same):
        yield f"has slices along axis {axis}, which its shape lacks: name one of its axes"
    if len({(each.datatype, each.shape[:axis], each.shape[axis + 1 :]) for each in same}) > 1:
        yield f"has slices that do not fit each other along axis {axis}: cut one array"
    sizes = [tensors.raw_bytes(tensor.datatype, tensor.shape) or 0 for tensor in same]
    if same[0].datatype == "BYTES":
        yield "is BYTES in slices: send it whole"
    if sum(sizes) > codecs.MAX_EXPANDED_BYTES:
        yield f"has slices of over {codecs.MAX_EXPANDED_BYTES} bytes together: send it whole"


def _some(many: Sequence[object]) -> str:
    return ", ".join(map(str, many[:9])) + (", ..." if len(many) > 9 else "")
