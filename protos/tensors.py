"""Tensors as the Open Inference Protocol writes them: numpy arrays <-> raw contents.

Raw contents are little-endian, row-major and without padding. Numbers come back without a copy
where the buffer is aligned, and are then read-only when the buffer is.
"""

import struct
from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from protos.errors import WireError

Array = npt.NDArray[Any]
Buffer = bytes | bytearray | memoryview

DATATYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "BOOL": np.dtype("?"),
        "UINT8": np.dtype("<u1"),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype("<i1"),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
        "BF16": np.dtype("<f4"),
        "BYTES": np.dtype(object),
    }
)
"""Datatype -> numpy's type for it. numpy has no bfloat16: an array of BF16 is float32."""

_DATATYPE_OF = {dtype: name for name, dtype in DATATYPES.items() if name != "BF16"}
_LENGTH = struct.Struct("<I")
_MAX_RANK = 64  # numpy's own
_MAX_ELEMENTS = 1 << 48  # keeps every product below numpy's 2**63 bytes


def datatype_of(array: Array) -> str:
    """Name the OIP datatype of *array*; texts and object arrays are BYTES.

    Raises:
        WireError: the protocol has no such type (complex, dates, structures).
    """
    if array.dtype.kind in "OSU":
        return "BYTES"
    name = _DATATYPE_OF.get(array.dtype.newbyteorder("<"))
    if name is None:
        raise WireError(
            f"dtype {array.dtype} has no wire datatype: cast it to float32 or an integer"
        )
    return name


def element_bytes(datatype: str) -> int | None:
    """Size of one element on the wire; None for BYTES, whose elements differ.

    Raises:
        WireError: no such datatype.
    """
    if datatype == "BF16":
        return 2
    dtype = DATATYPES.get(datatype)
    if dtype is None:
        raise WireError(f"datatype {datatype!r} is unknown: use one of {', '.join(DATATYPES)}")
    return None if datatype == "BYTES" else dtype.itemsize


def count(shape: Sequence[int]) -> int:
    """Count the elements of *shape*; ``()`` is one element.

    Raises:
        WireError: a negative dimension, more than 64 of them, or more than 2**48 elements.
    """
    if len(shape) > _MAX_RANK or any(size < 0 for size in shape):
        raise WireError(f"shape {_short(shape)} is not one: use at most 64 sizes, none below 0")
    if prod(size or 1 for size in shape) > _MAX_ELEMENTS:
        raise WireError(f"shape {_short(shape)} is too large: no tensor has that many elements")
    return prod(shape)


def raw_bytes(datatype: str, shape: Sequence[int]) -> int | None:
    """Size of a tensor's raw contents in bytes; None for BYTES.

    Raises:
        WireError: no such datatype, or a shape that is none.
    """
    elements, each = count(shape), element_bytes(datatype)
    return None if each is None else elements * each


def to_raw(array: Array, datatype: str | None = None) -> bytes:
    """Write *array* as raw contents.

    Args:
        array: any layout; elements of an object array must be bytes or text (written as UTF-8).
        datatype: the datatype to write, by default :func:`datatype_of`. BF16 rounds float32 to
            the nearest, ties to even.

    Raises:
        WireError: the array is not of that datatype, or of none.
    """
    found = datatype_of(array)
    if datatype == "BF16" and found == "FP32":
        return _to_bf16(array)
    if datatype is not None and datatype != found:
        raise WireError(f"an array of {found} cannot be written as {datatype}: cast it first")
    if found == "BYTES":
        return b"".join(_LENGTH.pack(len(item)) + item for item in map(_as_bytes, array.flat))
    return array.astype(DATATYPES[found], copy=False).tobytes()


def from_raw(data: Buffer, datatype: str, shape: Sequence[int]) -> Array:
    """Read raw contents.

    Nothing is allocated before the size of *data* was found to be exactly what *datatype* and
    *shape* ask for.

    Returns:
        An array of :data:`DATATYPES` and *shape*. Numbers share *data*'s memory when it is
        aligned; BYTES is an object array of ``bytes``; BF16 is a new float32 array.

    Raises:
        WireError: unknown datatype, impossible shape, wrong size, or a BOOL not 0 or 1.
    """
    elements = count(shape)
    if datatype == "BYTES":
        return _from_lengths(memoryview(data), elements).reshape(shape)
    check_size(data, datatype, shape)
    if elements == 0:
        return np.empty(tuple(shape), DATATYPES[datatype])
    if datatype == "BF16":
        wide = np.frombuffer(data, "<u2").astype("<u4")
        wide <<= 16
        return wide.view("<f4").reshape(shape)
    array = np.frombuffer(data, DATATYPES[datatype])
    if datatype == "BOOL" and array.view(np.uint8).max() > 1:
        raise WireError("a BOOL element is neither 0 nor 1: send one byte, 0 or 1, per element")
    if not array.flags.aligned:
        array = array.copy()  # onnxruntime reads it in place and wants it aligned
    return array.reshape(shape)


def check_size(data: Buffer, datatype: str, shape: Sequence[int]) -> None:
    """Refuse raw contents whose size is not exactly right; those of BYTES show it when read.

    Raises:
        WireError: unknown datatype, impossible shape or wrong size.
    """
    wanted = raw_bytes(datatype, shape)
    if wanted is not None and len(data) != wanted:
        raise WireError(
            f"{datatype} of shape {_short(shape)} takes {wanted} bytes, but there are {len(data)}: "
            "send exactly the tensor's elements"
        )


def _to_bf16(array: Array) -> bytes:
    bits = np.ascontiguousarray(array, "<f4").view("<u4")
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16  # wraps only for NaNs, replaced below
    quiet = (bits >> 16) | 0x40
    return np.where(np.isnan(array), quiet, rounded).astype("<u2").tobytes()


def _as_bytes(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise WireError(f"a BYTES element is of type {type(item).__name__}: use bytes or text")


def _from_lengths(data: memoryview, elements: int) -> Array:
    if elements * _LENGTH.size > len(data):
        raise WireError(
            f"{elements} BYTES elements do not fit in {len(data)} bytes: precede each by its length"
        )
    items = np.empty(elements, object)
    at = 0
    for index in range(elements):
        start = at + _LENGTH.size
        if start > len(data):
            raise WireError("BYTES contents end within an element: precede each by its length")
        at = start + _LENGTH.unpack_from(data, at)[0]
        if at > len(data):
            raise WireError("BYTES contents end within an element: precede each by its length")
        items[index] = bytes(data[start:at])
    if at != len(data):
        raise WireError(
            f"{len(data) - at} bytes follow the last BYTES element: send exactly {elements}"
        )
    return items


def _short(shape: Sequence[int]) -> str:
    text = ",".join(map(str, shape[:9]))
    return f"[{text},...]" if len(shape) > 9 else f"[{text}]"
