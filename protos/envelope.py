"""Tensors in one self-delimiting message (``application/vnd.isthmus.tensor``): MQTT, spool, files.

``IST1``, the header's length (4 bytes, little-endian), a JSON header, then the contents of one
tensor after the other. The header is the Open Inference JSON request: ``inputs`` with ``name``,
``datatype``, ``shape`` and ``parameters``, where ``binary_data_size`` is the size of the contents
and ``isthmus_codec`` how they are coded, and the message's own ``parameters``.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from protos.errors import WireError
from protos.invocation import Parameter, Tensor, checked
from protos.tensors import Buffer

MEDIA_TYPE = "application/vnd.isthmus.tensor"
MAGIC = b"IST1"
MAX_HEADER_BYTES = 1 << 20

_PREFIX = struct.Struct("<4sI")


class _TensorParameters(Struct, frozen=True, kw_only=True, omit_defaults=True):
    binary_data_size: Annotated[int, Meta(ge=0)]
    isthmus_codec: str | None = None


class _Tensor(Struct, frozen=True, kw_only=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: _TensorParameters


class _Header(Struct, frozen=True, kw_only=True, omit_defaults=True):
    inputs: tuple[_Tensor, ...]
    parameters: dict[str, bool | int | float | str] = {}


def pack(inputs: Sequence[Tensor], parameters: Mapping[str, Parameter] | None = None) -> bytes:
    """Write *inputs* and *parameters* as one message.

    Raises:
        WireError: the tensors may not travel together (see :func:`protos.invocation.checked`), one
            is a slice, or the header exceeds 1 MiB.
    """
    for each in inputs:
        if each.slice is not None:
            raise WireError(f"tensor {each.name!r} is a slice: a tensor message has whole ones")
    described = tuple(
        _Tensor(
            name=each.name,
            datatype=each.datatype,
            shape=each.shape,
            parameters=_TensorParameters(
                binary_data_size=len(each.data),
                isthmus_codec=None if each.codec == "raw" else each.codec,
            ),
        )
        for each in checked(inputs)
    )
    header = msgspec.json.encode(_Header(inputs=described, parameters=dict(parameters or {})))
    if len(header) > MAX_HEADER_BYTES:
        raise WireError(f"the header takes {len(header)} bytes: send fewer or shorter parameters")
    return b"".join((_PREFIX.pack(MAGIC, len(header)), header, *(each.data for each in inputs)))


def unpack(data: Buffer) -> tuple[tuple[Tensor, ...], dict[str, Parameter]]:
    """Read a message that :func:`pack` wrote.

    Returns:
        The tensors, each with contents of its own, and the parameters.

    Raises:
        WireError: the message is not of that form, is cut short or goes on after its last tensor.
    """
    view = memoryview(data)
    if len(view) < _PREFIX.size or view[: len(MAGIC)] != MAGIC:
        raise WireError("the message is not in the tensor format: begin it with IST1")
    size = _PREFIX.unpack_from(view)[1]
    at = _PREFIX.size + size
    if size > MAX_HEADER_BYTES or at > len(view):
        raise WireError(f"the tensor message's header claims {size} bytes: send it whole")
    try:
        header = msgspec.json.decode(view[_PREFIX.size : at], type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"the tensor message's header is not valid: {error}") from error
    claimed = at + sum(each.parameters.binary_data_size for each in header.inputs)
    if claimed != len(view):
        raise WireError(
            f"the tensor message has {len(view)} bytes, but its header describes {claimed}: "
            "send it whole, and nothing after it"
        )
    found = []
    for each in header.inputs:
        start, at = at, at + each.parameters.binary_data_size
        found.append(
            Tensor(
                name=each.name,
                datatype=each.datatype,
                shape=each.shape,
                data=bytes(view[start:at]),
                codec=each.parameters.isthmus_codec or "raw",
            )
        )
    return checked(found), dict(header.parameters)
