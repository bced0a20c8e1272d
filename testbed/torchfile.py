"""Tensors out of a PyTorch file, without PyTorch and without running what the file says.

The format is the one from before PyTorch 1.6: pickles of a magic number, a version, the writer's
facts, the state (whose tensors refer to storages by key) and the keys, then each storage as a
count and raw values. Only three kinds of names are allowed in the pickles: the ordered
dictionary, the function that rebuilds a tensor, and the storage types; neither is ever called.
"""

import collections
import io
import math
import pickle
import pickletools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from testbed.errors import TestbedError

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
MAX_DIMS = 8
MAX_MEMO = 1_000_000

_STORAGES: Mapping[str, npt.DTypeLike] = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "<u1",
}


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class _View:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Malformed(Exception):
    """What is wrong, for the sentence that a user gets."""


def read_state(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The tensors of a state dictionary, by name.

    Raises:
        TestbedError: the file cannot be read, is of another format, is truncated, or asks for
            anything but tensors.
    """
    try:
        return parse_state(path.read_bytes())
    except OSError as error:
        raise TestbedError(f"weights {path} cannot be read: {error.strerror}") from error
    except TestbedError as error:
        raise TestbedError(f"weights {path} cannot be used: {error}") from error


def parse_state(data: bytes) -> dict[str, npt.NDArray[np.generic]]:
    """See :func:`read_state`."""
    file = io.BytesIO(data)
    try:
        _check_header(file)
        state, keys = _load(file), _load(file)
        views = _views(state)
        arrays = _arrays(file, keys, {view.storage.key: view.storage for view in views.values()})
        return {name: _strided(view, arrays) for name, view in views.items()}
    except _Malformed as error:
        raise TestbedError(str(error)) from error
    except Exception as error:  # a hostile pickle can make the unpickler raise almost anything
        raise TestbedError(f"it is malformed ({type(error).__name__})") from error


def _check_header(file: io.BytesIO) -> None:
    if _load(file) != MAGIC or _load(file) != VERSION:
        raise _Malformed("it is no PyTorch file of the format before 1.6")
    _load(file)  # the writer's type sizes; what follows is little-endian all the same


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:  # noqa: ANN401 - pickle's signature
        match module, name:
            case "collections", "OrderedDict":
                return collections.OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return _rebuild
            case "torch", kind if kind in _STORAGES:
                return kind
        raise _Malformed(f"it asks for {module}.{name}, and only tensors are allowed")

    def persistent_load(self, pid: object, /) -> _Storage:
        match pid:
            case ("storage", str(kind), str(key), str(), int(count), None) if count >= 0:
                return _Storage(key, kind, count)
        raise _Malformed("it refers to something that is no storage")


def _load(file: io.BytesIO) -> Any:  # noqa: ANN401 - whatever was pickled
    """Look before running: a memo index may not make the unpickler allocate gigabytes."""
    start = file.tell()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name.endswith("PUT") and isinstance(argument, int) and argument > MAX_MEMO:
            raise _Malformed("it numbers its parts beyond all reason")
    file.seek(start)
    return _Unpickler(file).load()


def _rebuild(
    storage: object, offset: object, shape: object, strides: object, *_gradients: object
) -> _View:
    match storage, offset, shape, strides:
        case _Storage(), int(start), tuple(sizes), tuple(steps) if len(sizes) == len(steps):
            numbers = (start, *sizes, *steps)
            if len(sizes) <= MAX_DIMS and all(isinstance(n, int) and n >= 0 for n in numbers):
                return _View(storage, start, sizes, steps)
    raise _Malformed("it holds a tensor of no sensible shape")


def _views(state: object) -> dict[str, _View]:
    if not isinstance(state, dict):
        raise _Malformed("it holds no dictionary of tensors")
    return {str(name): view for name, view in state.items() if isinstance(view, _View)}


def _arrays(
    file: io.BytesIO, keys: object, storages: Mapping[str, _Storage]
) -> dict[str, npt.NDArray[np.generic]]:
    if not isinstance(keys, list):
        raise _Malformed("it lacks the list of its storages")
    arrays = {}
    for key in keys:
        storage = storages.get(key)
        if storage is None:
            raise _Malformed(f"it holds a storage {key!r} that no tensor uses")
        kind = np.dtype(_STORAGES[storage.kind])
        (count,) = struct.unpack("<q", file.read(8))
        raw = file.read(storage.count * kind.itemsize)
        if count != storage.count or len(raw) != count * kind.itemsize:
            raise _Malformed("it is truncated")
        arrays[key] = np.frombuffer(raw, dtype=kind)
    return arrays


def _strided(view: _View, arrays: Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    array = arrays.get(view.storage.key)
    if array is None:
        raise _Malformed("it lacks a storage that a tensor uses")
    last = view.offset + sum(
        (size - 1) * step for size, step in zip(view.shape, view.strides, strict=True)
    )
    wanted = math.prod(list(view.shape))
    if wanted > array.size or (wanted and last >= array.size):
        raise _Malformed("it holds a tensor that reaches beyond its storage")
    out = np.lib.stride_tricks.as_strided(
        array[view.offset :], view.shape, [step * array.itemsize for step in view.strides]
    )
    return out.copy()
