"""The normal form of an ONNX file: dims fixed, constants folded, every tensor's shape known.

A large model's normal form is made once and kept (:mod:`planner.store`) with its weights in one
file that nobody loads: neither to read the model again nor to cut it.
"""

import errno
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import onnx
import onnxruntime as ort

from planner.dims import candidates, fixed_inputs
from planner.errors import ModelError
from planner.external import outside, relocate
from planner.fold import fold, tidy
from planner.graph import TensorInfo
from planner.infos import info_of, tensors_of
from planner.memo import sha256_of
from planner.sessions import WEIGHTS_FILE
from planner.source import Source, load
from planner.store import Kept, Store, default_folder, key_of, temporary_store
from planner.weights import Weights
from protos.documents import DocumentError, read_json, write_json

_MODEL, _VALUES = "model.onnx", "values.json"
_SPARE = 1.05  # an entry takes this many times its weights, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal:
    """A model in normal form.

    ``proto`` is the model with unique node names; ``tensors`` describes every value of its main
    graph; ``assumed`` names the dimensions that nobody gave and what was taken for them.
    ``weights`` is the file that ``proto`` refers to, None where it holds its weights itself.
    """

    proto: onnx.ModelProto
    tensors: Mapping[str, TensorInfo]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    assumed: Mapping[str, int]
    digest: str
    weights: Weights | None


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor of a kept normal form; see :class:`planner.graph.TensorInfo`."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Values(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a kept normal form says beside its model; ``weights`` is a file's name."""

    schema: Literal["isthmus.values/1"]
    tensors: tuple[Value, ...]
    weights: str | None


def normalise(
    path: Path, dims: Mapping[str, int] | None = None, *, kept_in: Path | None = None
) -> Normal:
    """Bring the model at *path* into normal form.

    Args:
        path: the ONNX file.
        dims: sizes of dynamic dimensions, by the model's own name for them or as
            ``"input.axis"``. Axis 0 is 1 where nothing is said; a spatial axis of an image 224;
            any other 128. What was assumed is in the answer.
        kept_in: the folder for normal forms of large models, by default
            :func:`planner.store.default_folder`; a temporary one where it cannot be written.

    Raises:
        ModelError: the file cannot be read, or ONNX Runtime cannot run it.
    """
    store = Store(kept_in or default_folder())
    source = load(path, store.memo)
    fixed, assumed = fixed_inputs(source.proto, dict(dims or {}), path)
    options = candidates(source.proto, fixed)
    hint = ", ".join(f"{name}={size}" for name, size in assumed.items())
    try:
        if source.folder is None:
            proto, tensors, weights = _made_inline(options, fixed)
        else:
            proto, tensors, weights = _made_outside(source, options, fixed, store)
    except ModelError as error:
        raise ModelError(
            f"{path} cannot be run: {error}"
            + (f" (assumed {hint}: give the true sizes with --dim NAME=SIZE)" if hint else "")
        ) from error
    return Normal(
        proto=proto,
        tensors=tensors,
        inputs=tuple(value.name for value in proto.graph.input),
        outputs=tuple(value.name for value in proto.graph.output),
        assumed=assumed,
        digest=source.digest,
        weights=weights,
    )


_Made = tuple[onnx.ModelProto, Mapping[str, TensorInfo], Weights | None]


def _made_inline(options: Sequence[onnx.ModelProto], fixed: Sequence[onnx.ValueInfoProto]) -> _Made:
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        proto = fold(options, Path(folder) / _MODEL)
    tidy(proto)
    return proto, tensors_of(proto, _infos(fixed), None), None


def _made_outside(
    source: Source,
    options: Sequence[onnx.ModelProto],
    fixed: Sequence[onnx.ValueInfoProto],
    store: Store,
) -> _Made:
    nbytes = _weight_bytes(source)

    def make(folder: Path) -> dict[str, str]:
        if shutil.disk_usage(folder).free < nbytes * _SPARE:
            raise OSError(errno.ENOSPC, f"no room for {nbytes / 1e6:.0f} MB of weights in {folder}")
        return _write_entry(folder, source, options, fixed)

    shapes = json.dumps([[i.name, i.datatype, i.shape] for i in _infos(fixed).values()])
    key = key_of(source.digest.encode(), shapes.encode(), ort.__version__.encode())
    try:
        return _opened(store.get(key, make))
    except (OSError, DocumentError):  # a folder that cannot be written, or not by us
        spare, owner = temporary_store()
        try:
            kept = spare.get(key, make)
            return _opened(Kept(folder=kept.folder, lease=(kept.lease, owner)))
        except OSError as error:
            raise ModelError(f"its normal form cannot be written: {error.strerror}") from error


def _write_entry(
    folder: Path,
    source: Source,
    options: Sequence[onnx.ModelProto],
    fixed: Sequence[onnx.ValueInfoProto],
) -> dict[str, str]:
    """Write the normal form; returns the digest of the weights, which also is their name."""
    target, draft = folder / _MODEL, folder / WEIGHTS_FILE
    proto = fold(options, target, source.folder)
    tidy(proto)
    known: dict[str, str] = {}
    weights = None
    if draft.is_file() and draft.stat().st_size > 0:
        digest = sha256_of(draft).hex()
        weights = f"weights-{digest[:16]}.bin"
        known[weights] = digest
        draft.rename(folder / weights)
        for tensor in outside(proto):
            relocate(tensor, weights)
    else:
        draft.unlink(missing_ok=True)
    tensors = tensors_of(proto, _infos(fixed), folder)
    target.unlink()
    target.write_bytes(proto.SerializeToString())
    rows = tuple(Value(name=i.name, datatype=i.datatype, shape=i.shape) for i in tensors.values())
    write_json(folder / _VALUES, Values(schema="isthmus.values/1", tensors=rows, weights=weights))
    return known


def _opened(kept: Kept) -> _Made:
    values = read_json(kept.folder / _VALUES, Values, what="normal form")
    proto = onnx.ModelProto.FromString((kept.folder / _MODEL).read_bytes())
    tensors = {
        row.name: TensorInfo(name=row.name, datatype=row.datatype, shape=row.shape)
        for row in values.tensors
    }
    if values.weights is None:
        return proto, tensors, None
    weights = Weights(
        folder=kept.folder,
        name=values.weights,
        nbytes=(kept.folder / values.weights).stat().st_size,
        lease=kept.lease,
    )
    return proto, tensors, weights


def _weight_bytes(source: Source) -> int:
    sizes = (
        int(entry.value)
        for tensor in outside(source.proto)
        for entry in tensor.external_data
        if entry.key == "length"
    )
    return sum(sizes) + source.proto.ByteSize()


def _infos(values: Sequence[onnx.ValueInfoProto]) -> dict[str, TensorInfo]:
    return {value.name: info_of(value) for value in values}
