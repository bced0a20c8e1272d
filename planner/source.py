"""An ONNX file as it was given: checked, with its digest, and with its weights left where they are.

Below :data:`EXTERNAL_FROM_BYTES` everything is read into the model. Above, weights are never
loaded: the model refers to them, in the file itself or in those it names.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.external_data_helper
from google.protobuf.message import DecodeError

from planner.errors import ModelError
from planner.external import is_outside, is_within, outside, place_of
from planner.memo import Memo, sha256_of
from planner.outline import NoMessage, outline
from planner.sessions import INLINE_BELOW_BYTES

EXTERNAL_FROM_BYTES = 32 * 2**20
"""Reading is faster with outside weights from here on, and below it copies cost little: 45 MB
take 0.83 s and 400 MB of memory inline, 575 MB take 18 s and 3.9 GB (2026-11)."""

# What ONNX Runtime's CPU build brings; other domains need the model's own functions.
KNOWN_DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.preview"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model as it was given.

    ``digest`` is the SHA-256 of the file's bytes and of the SHA-256 of every initializer's.
    ``folder`` is where the model's references to weights start from, None where it has none.
    """

    proto: onnx.ModelProto
    digest: str
    folder: Path | None


def load(path: Path, memo: Memo | None = None) -> Source:
    """Read and check an ONNX file.

    Args:
        path: the file.
        memo: digests of large files, so that an unchanged one is not read again.

    Raises:
        ModelError: no such file, no ONNX model, truncated, or with ops nobody here can run.
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size < EXTERNAL_FROM_BYTES else None
        if data is None:
            return _load_large(path, memo)
        proto = onnx.ModelProto.FromString(data)
        _has_graph(proto, path)
        if len(data) + sum(_sizes(proto, path)) >= EXTERNAL_FROM_BYTES:
            return _with_outside(path, proto, memo)
        return _with_everything(path, proto, data)
    except FileNotFoundError as error:
        raise ModelError(f"model {path} does not exist: check the path") from error
    except OSError as error:
        raise ModelError(f"model {path} cannot be read: {error.strerror}") from error
    except (DecodeError, NoMessage) as error:
        raise ModelError(
            f"{path} is no ONNX model or is truncated ({size} bytes): export or copy it again"
        ) from error


def line_of(error: Exception) -> str:
    """An exception's text as part of one sentence."""
    return " ".join(str(error).split())[:200]


def _with_everything(path: Path, proto: onnx.ModelProto, data: bytes) -> Source:
    """A small model: all weights, also those in other files, become part of it."""
    others = list(outside(proto, but_initializers=True))
    _inline(path, outside(proto))
    digest = hashlib.sha256(data)
    for tensor in (*proto.graph.initializer, *others):
        if tensor.HasField("raw_data"):
            digest.update(hashlib.sha256(tensor.raw_data).digest())
    _check(proto, path)
    return Source(proto=proto, digest=digest.hexdigest(), folder=None)


def _load_large(path: Path, memo: Memo | None) -> Source:
    # Links are followed: ONNX Runtime takes no weights from outside the folder it is told.
    real = path.resolve()
    found = outline(real, least_bytes=INLINE_BELOW_BYTES)
    _has_graph(found.proto, path)
    own = [t for t in found.proto.graph.initializer if is_outside(t)]
    if len(own) < sum(1 for _ in outside(found.proto)) or any(
        place_of(tensor).location != real.name for tensor in own
    ):
        return _with_outside(path, onnx.load_model(str(path), load_external_data=False), memo)
    weights = [t for t in found.proto.graph.initializer if t.name not in found.hoisted]
    digest = _remembered(memo, [path], real.parent, weights, path)
    _check(found.proto, path)
    return Source(proto=found.proto, digest=digest, folder=real.parent)


def _with_outside(path: Path, proto: onnx.ModelProto, memo: Memo | None) -> Source:
    """A large model with weights in files beside it: those of the main graph stay there.

    Those of subgraphs, functions and ``Constant`` nodes, few and small as a rule, are loaded.
    """
    files = [path, *_files(proto, path)]
    others = list(outside(proto, but_initializers=True))
    _inline(path, others)
    weights = [*proto.graph.initializer, *others]
    digest = _remembered(memo, files, path.parent, weights, path)
    _check(proto, path)
    return Source(proto=proto, digest=digest, folder=path.parent)


def _remembered(
    memo: Memo | None, files: list[Path], folder: Path, weights: list[onnx.TensorProto], path: Path
) -> str:
    """The digest over *files*' bytes, which are read through and not kept."""
    if memo is not None and (known := memo.recall(files)) is not None:
        return known
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    for tensor in weights:
        if is_outside(tensor):
            place = place_of(tensor)
            try:
                digest.update(sha256_of(folder / place.location, place.offset, place.length))
            except EOFError as error:
                raise ModelError(
                    f"{path} keeps weights in a file beside it that is truncated: {error}; "
                    "copy it again"
                ) from error
        elif tensor.HasField("raw_data"):
            digest.update(hashlib.sha256(tensor.raw_data).digest())
    if memo is not None:
        memo.remember(files, digest.hexdigest())
    return digest.hexdigest()


def _inline(path: Path, tensors: Iterable[onnx.TensorProto]) -> None:
    try:
        for tensor in tensors:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{path} keeps weights in a file beside it that cannot be read: {line_of(error)}"
        ) from error


def _files(proto: onnx.ModelProto, path: Path) -> list[Path]:
    """The files beside *path* that hold its weights.

    Raises:
        ModelError: one is not there, or not beside it.
    """
    try:
        locations = dict.fromkeys(place_of(tensor).location for tensor in outside(proto))
    except ValueError as error:
        raise ModelError(f"{path} is not a valid ONNX model: {line_of(error)}") from error
    for location in locations:
        if not is_within(location, path.parent) or not (path.parent / location).is_file():
            raise ModelError(
                f"{path} keeps weights in a file beside it that cannot be read: "
                f"{location[:80]!r} is no file there"
            )
    return [path.parent / location for location in locations]


def _sizes(proto: onnx.ModelProto, path: Path) -> Iterator[int]:
    for file in _files(proto, path):
        yield file.stat().st_size


def _has_graph(proto: onnx.ModelProto, path: Path) -> None:
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"{path} holds no graph: it is no ONNX model, or an empty one")


def _check(proto: onnx.ModelProto, path: Path) -> None:
    domains = {node.domain for node in proto.graph.node}
    own = {function.domain for function in proto.functions}
    for domain in sorted(domains - KNOWN_DOMAINS - own):
        kinds = sorted({node.op_type for node in proto.graph.node if node.domain == domain})
        raise ModelError(
            f"{path} uses operators of the domain {domain!r} ({', '.join(kinds[:3])}), which "
            "onnxruntime does not have: export it with standard operators or include its functions"
        )
    try:
        if proto.ByteSize() < 2**31:
            onnx.checker.check_model(_without_outside(proto))
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path} is not a valid ONNX model: {line_of(error)}") from error


def _without_outside(proto: onnx.ModelProto) -> onnx.ModelProto:
    """*proto* for the checker, which would look for outside weights in the working directory.

    They become inputs of the same type and shape.
    """
    weights = [tensor for tensor in proto.graph.initializer if is_outside(tensor)]
    if not weights:
        return proto
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    inside = [tensor for tensor in bare.graph.initializer if not is_outside(tensor)]
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in inside]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(kept)
    have = {value.name for value in bare.graph.input}
    bare.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in weights
        if tensor.name not in have
    )
    return bare
