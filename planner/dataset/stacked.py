"""An ``.npz`` with all samples of each input stacked in one array.

Arrays that ``numpy.savez`` wrote lie in the file as they are, and are mapped: a sample is read when
it is used. Compressed ones must be unpacked whole, and so may not be large.
"""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from planner.dataset.samples import Dataset, Sample, spread
from planner.errors import InputError
from planner.graph import UNKNOWN, TensorInfo
from planner.model import Model
from protos.errors import WireError
from protos.tensors import Array, datatype_of

LABELS = "labels"
MAX_UNPACKED_BYTES = 512 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""A member's local header in a zip file: signature, ..., lengths of the name and the extra field.

Source: PKWARE's APPNOTE.TXT, 4.3.7.
"""
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # encrypted, or compressed in a way that zipfile does not know
    struct.error,
    tokenize.TokenError,  # numpy parses an array's header as Python
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)


class Stacked(Sequence[Sample]):
    """Sample *at* is the row *at* of every array, with an axis of 1 before it where one lacks."""

    def __init__(
        self, arrays: Mapping[str, Array], infos: Sequence[TensorInfo], rows: Sequence[int]
    ) -> None:
        self._arrays, self._infos, self._rows = arrays, tuple(infos), rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: int) -> Sample:  # type: ignore[override]  # one sample, no slices
        sample = {}
        for info in self._infos:
            value = np.array(self._arrays[info.name][self._rows[at]])
            sample[info.name] = value if value.ndim == len(info.shape) else value[None]
        return sample


def read_stacked(path: Path, model: Model, limit: int | None) -> Dataset:
    """The samples in the file at *path*; see :func:`planner.dataset.read_dataset`.

    Raises:
        InputError: it cannot be read, or its arrays are not those that *model* takes.
    """
    infos = tuple(model.inputs)
    arrays = _arrays(path)
    taken = [info.name for info in infos]
    labels = None if LABELS in taken else arrays.pop(LABELS, None)
    if sorted(arrays) != sorted(taken):
        raise InputError(
            f"{path} holds {_some(arrays)}: it must hold {_some(taken)}, each with the samples "
            "along its first axis"
        )
    for info in infos:
        _check(path, info, arrays[info.name])
    counts = {name: len(array) for name, array in arrays.items()}
    count = min(counts.values())
    if count == 0:
        raise InputError(f"{path} holds no samples: every array needs at least one row")
    if labels is not None:
        counts[LABELS] = _label_count(path, labels)
    if set(counts.values()) != {count}:
        told = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise InputError(f"{path} holds different numbers of samples ({told}): make them equal")
    rows = spread(count, limit)
    return Dataset(
        name=str(path),
        given=tuple(taken),
        names=tuple(f"{path.name}[{row}]" for row in rows),
        samples=Stacked(arrays, infos, rows),
        labels=None if labels is None else tuple(_text(labels[row]) for row in rows),
    )


def read_others(path: Path, infos: Sequence[TensorInfo]) -> dict[str, Array]:
    """What every sample of a folder holds besides its message, one array for each of *infos*.

    Raises:
        InputError: it is missing or cannot be read, or its arrays are not those.
    """
    wanted = _some([info.name for info in infos])
    if not path.is_file():
        raise InputError(
            f"the model also takes {wanted}: save them with numpy.savez as {path}, once for all "
            "samples"
        )
    arrays = _arrays(path)
    if sorted(arrays) != sorted(info.name for info in infos):
        raise InputError(f"{path} holds {_some(arrays)}: it must hold {wanted}")
    for info in infos:
        array = arrays[info.name]
        _check_type(path, info, array)
        if not _fits(array.shape, info):
            raise InputError(
                f"{path}: {info.name} has shape {list(array.shape)}: it must be {list(info.shape)}"
            )
    return {name: np.array(array) for name, array in arrays.items()}


def _arrays(path: Path) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                entry.filename.removesuffix(".npy"): _array(path, archive, entry)
                for entry in archive.infolist()
            }
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"data {path} is no .npz that can be read: {reason}") from error


def _array(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    with archive.open(entry) as file:
        shape, fortran, dtype = _header(file)
        start, size = file.tell(), math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise ValueError(f"{entry.filename} holds objects: save numbers or plain text")
        if entry.file_size != start + size:
            raise ValueError(f"{entry.filename} has {entry.file_size - start} bytes, not {size}")
        if entry.compress_type != zipfile.ZIP_STORED or size == 0:
            if size > MAX_UNPACKED_BYTES:
                raise ValueError(
                    f"{entry.filename} unpacks to {size} bytes: save it with numpy.savez, which "
                    "leaves it as it is and so lets it be mapped"
                )
            flat = np.frombuffer(file.read(), dtype)
            return flat.reshape(shape, order="F" if fortran else "C")
    return np.memmap(
        path,
        dtype,
        mode="r",
        offset=_data_offset(path, entry) + start,
        shape=shape,
        order="F" if fortran else "C",
    )


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = npy.read_magic(file)
    if version == (1, 0):
        return npy.read_array_header_1_0(file)
    if version == (2, 0):
        return npy.read_array_header_2_0(file)
    raise ValueError(f"it is of the .npy version {version}: save it with numpy.savez")


def _data_offset(path: Path, entry: zipfile.ZipInfo) -> int:
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        _, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return int(entry.header_offset + _LOCAL_HEADER.size + name + extra)


def _check(path: Path, info: TensorInfo, array: Array) -> None:
    _check_type(path, info, array)
    sample = array.shape[1:]
    if len(sample) == len(info.shape) - 1 and info.shape[0] in (1, UNKNOWN):
        sample = (1, *sample)
    if array.ndim == 0 or not _fits(sample, info):
        raise InputError(
            f"{path}: {info.name} has shape {list(array.shape)}: it must be the number of samples, "
            f"then {list(info.shape)}"
        )


def _fits(shape: Sequence[int], info: TensorInfo) -> bool:
    return len(shape) == len(info.shape) and all(
        want in (UNKNOWN, got) for got, want in zip(shape, info.shape, strict=True)
    )


def _check_type(path: Path, info: TensorInfo, array: Array) -> None:
    try:
        datatype = datatype_of(array)
    except WireError as error:
        raise InputError(f"{path}: {info.name}: {error}") from error
    if datatype != info.datatype:
        raise InputError(f"{path}: {info.name} is {datatype}: it must be {info.datatype}")


def _label_count(path: Path, labels: Array) -> int:
    if labels.ndim != 1 or labels.dtype.kind not in "iuUS":
        raise InputError(f"{path}: labels must be one row of texts or whole numbers")
    return len(labels)


def _text(label: object) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def _some(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(list(names)[:8]) or "nothing"
