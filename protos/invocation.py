"""One invocation as the rooms see it: the request, its tensors, the reply and its timing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from protos import codecs, tensors
from protos.codecs import Codec
from protos.errors import WireError
from protos.tensors import Array
from protos.timing import Timing

Parameter = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A named tensor as it travels; *datatype* and *shape* are those of the decoded array."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes
    codec: str = "raw"

    @classmethod
    def of(
        cls, name: str, array: Array, codec: str | Codec = "raw", *, datatype: str | None = None
    ) -> Self:
        """Encode *array*; see :func:`protos.codecs.encode`.

        Raises:
            WireError: no such codec, or it cannot write this array.
        """
        codec = codecs.parse(codec) if isinstance(codec, str) else codec
        try:
            datatype = datatype or tensors.datatype_of(array)
            data = codecs.encode(codec, array, datatype)
        except WireError as error:
            raise WireError(f"tensor {name!r}: {error}") from error
        return cls(name=name, datatype=datatype, shape=array.shape, data=data, codec=str(codec))

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
    *deadline_ms* counts from receipt. *key* makes repeating the request harmless.
    """

    model: str
    version: str = ""
    id: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[str, ...] = ()
    cut: str | None = None
    deadline_ms: float | None = None
    key: str | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to one request; the gateway adds *timing*, *cold* and *instance*."""

    model: str
    version: str = ""
    id: str = ""
    outputs: tuple[Tensor, ...] = ()
    timing: Timing | None = None
    cold: bool = False
    instance: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What the gateway must know of a request before it hands the bytes on."""

    model: str
    version: str
    id: str
    input_names: tuple[str, ...]
    outputs: tuple[str, ...]
    cut: str | None
    deadline_ms: float | None
    key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamError:
    """A stream's answer to a request that failed."""

    id: str
    message: str


def checked(many: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Give *many* if they may travel together; contents are sized but not decoded.

    Raises:
        WireError: a name is empty or used twice, a datatype, shape or codec is none or does not
            suit, or raw contents are not of the exact size.
    """
    names = set()
    for tensor in many:
        if tensor.name in names or not tensor.name:
            raise WireError(f"tensor name {tensor.name!r} is empty or used twice: name each once")
        names.add(tensor.name)
        try:
            _check(tensor)
        except WireError as error:
            raise WireError(f"tensor {tensor.name!r}: {error}") from error
    return tuple(many)


def _check(tensor: Tensor) -> None:
    codec = codecs.parse(tensor.codec)
    codecs.check_suits(codec, tensor.datatype, tensor.shape)
    tensors.count(tensor.shape)
    if codec == codecs.RAW:
        tensors.check_size(tensor.data, tensor.datatype, tensor.shape)
