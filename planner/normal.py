"""The normal form of an ONNX file: dims fixed, constants folded, every tensor's shape known.

Measured over 33 real models: fixing the dims, dropping stale shapes, saving ONNX Runtime's
basic-level optimisation and inferring again leaves 30 fully static; one real run fills the rest.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError

from planner.errors import ModelError
from planner.graph import UNKNOWN, TensorInfo
from planner.sessions import open_session
from protos.tensors import datatype_of

# What ONNX Runtime's CPU build brings; other domains need the model's own functions.
KNOWN_DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.preview"}
)
SILENT = ort.RunOptions()
SILENT.log_severity_level = 4  # a made-up input may be refused, and that is an answer too
IMAGE_SIDE = 224
SEQUENCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal:
    """A model in normal form.

    ``proto`` is the model with unique node names; ``tensors`` describes every value of its main
    graph; ``assumed`` names the dimensions that nobody gave and what was taken for them.
    """

    proto: onnx.ModelProto
    tensors: Mapping[str, TensorInfo]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    assumed: Mapping[str, int]
    digest: str


def load(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read and check an ONNX file; returns it with the SHA-256 of its bytes.

    Raises:
        ModelError: no such file, no ONNX model, truncated, or with ops nobody here can run.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"model {path} does not exist: check the path") from error
    except OSError as error:
        raise ModelError(f"model {path} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(data)
    try:
        proto = onnx.load_from_string(data)
    except DecodeError as error:
        raise ModelError(
            f"{path} is no ONNX model or is truncated ({len(data)} bytes): export or copy it again"
        ) from error
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"{path} holds no graph: it is no ONNX model, or an empty one")
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{path} keeps weights in a file beside it that cannot be read: {_line(error)}"
        ) from error
    for tensor in proto.graph.initializer:
        if tensor.HasField("raw_data"):
            digest.update(hashlib.sha256(tensor.raw_data).digest())
    _check(proto, path)
    return proto, digest.hexdigest()


def normalise(path: Path, dims: Mapping[str, int] | None = None) -> Normal:
    """Bring the model at *path* into normal form.

    Args:
        path: the ONNX file.
        dims: sizes of dynamic dimensions, by the model's own name for them or as
            ``"input.axis"``. Axis 0 is 1 where nothing is said; a spatial axis of an image 224;
            any other 128. What was assumed is in the answer.

    Raises:
        ModelError: the file cannot be read, or ONNX Runtime cannot run it.
    """
    proto, digest = load(path)
    proto.ir_version = max(proto.ir_version, 4)
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    fixed = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in inputs]
    assumed = _fix_dims(fixed, dict(dims or {}), path)
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    original = onnx.ModelProto()
    original.CopyFrom(proto)
    del proto.graph.input[:]
    proto.graph.input.extend(fixed)
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    folded = _fold(proto, original, path, assumed)
    _name_nodes(folded.graph)
    tensors = _tensors(folded, {value.name: _info(value) for value in fixed})
    return Normal(
        proto=folded,
        tensors=tensors,
        inputs=tuple(value.name for value in folded.graph.input),
        outputs=tuple(value.name for value in folded.graph.output),
        assumed=assumed,
        digest=digest,
    )


def random_inputs(infos: Mapping[str, TensorInfo], seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded input of the right types and shapes: normal floats, small integers, true and false."""
    rng = np.random.default_rng(seed)
    out: dict[str, np.ndarray] = {}
    for name, info in infos.items():
        shape = tuple(1 if size == UNKNOWN else size for size in info.shape)
        if info.datatype in ("FP32", "FP16", "FP64"):
            kind = {"FP32": np.float32, "FP16": np.float16, "FP64": np.float64}[info.datatype]
            out[name] = rng.standard_normal(shape).astype(kind)
        elif info.datatype == "BOOL":
            out[name] = np.ones(shape, dtype=np.bool_)
        elif info.datatype == "BYTES":
            out[name] = np.full(shape, b"isthmus", dtype=np.object_)
        else:
            out[name] = rng.integers(0, 2, shape).astype(info.datatype.lower())
    return out


def captured(graph: onnx.GraphProto) -> set[str]:
    """The outer tensors that a subgraph reads without having made them."""
    inside = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    free: set[str] = set()
    for node in graph.node:
        free |= {name for name in reads(node) if name and name not in inside}
        inside |= set(node.output)
    return free | {value.name for value in graph.output if value.name not in inside}


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """All that a node reads: its inputs, then what its subgraphs capture."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from sorted(captured(attribute.g))
        for graph in attribute.graphs:
            yield from sorted(captured(graph))


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
            onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path} is not a valid ONNX model: {_line(error)}") from error


def _fix_dims(
    inputs: list[onnx.ValueInfoProto], dims: dict[str, int], path: Path
) -> dict[str, int]:
    assumed: dict[str, int] = {}
    used: set[str] = set()
    dynamic: set[str] = set()
    for value in inputs:
        if not value.type.HasField("tensor_type"):
            raise ModelError(f"{path}: input {value.name} is no tensor, which cannot be served")
        shape = value.type.tensor_type.shape
        for axis, dim in enumerate(shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            keys = (f"{value.name}.{axis}", dim.dim_param)
            dynamic.add(keys[1] if keys[1].isidentifier() else keys[0])
            given = next((key for key in keys if key in dims), None)
            if given is not None:
                size = dims[given]
                used.add(given)
            else:
                image = len(shape.dim) == 4 and axis >= 2
                size = 1 if axis == 0 else IMAGE_SIDE if image else SEQUENCE
                assumed[keys[1] if keys[1].isidentifier() else keys[0]] = size
            if size < 1:
                raise ModelError(f"dimension {given} must be at least 1, got {size}")
            dim.dim_value = size
    if unknown := sorted(set(dims) - used):
        has = ", ".join(sorted(dynamic)) or "none"
        raise ModelError(f"{path} has no dynamic dimension {unknown[0]!r}: it has {has}")
    return assumed


def _fold(
    proto: onnx.ModelProto, original: onnx.ModelProto, path: Path, assumed: Mapping[str, int]
) -> onnx.ModelProto:
    """Constant folding by ONNX Runtime, which is also the proof that it can run the model."""
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        target = Path(folder) / "basic.onnx"
        for candidate in (proto, original):
            try:
                open_session(
                    candidate.SerializeToString(),
                    level=ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
                    save_to=target,
                    # The names it gives to new weights clash when a piece is optimised again.
                    without=["MatMulAddFusion"],
                )
                folded = onnx.load(str(target))
            except ModelError as error:
                failure = error
                continue
            # An untaken branch that no longer type-checks leaves the shapes as they were declared.
            try:
                return onnx.shape_inference.infer_shapes(folded, data_prop=True)
            except (onnx.shape_inference.InferenceError, ValueError):
                return folded
    hint = ", ".join(f"{name}={size}" for name, size in assumed.items())
    raise ModelError(
        f"{path} cannot be run: {failure}"
        + (f" (assumed {hint}: give the true sizes with --dim NAME=SIZE)" if hint else "")
    )


def _name_nodes(graph: onnx.GraphProto) -> None:
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}#{index}"
        seen.add(node.name)


def _tensors(proto: onnx.ModelProto, inputs: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    graph = proto.graph
    tensors = {value.name: _info(value) for value in (*graph.value_info, *graph.output)}
    tensors |= inputs
    constants = {tensor.name for tensor in graph.initializer}
    made = [name for node in graph.node for name in node.output if name and name not in constants]
    partly = [
        name
        for name in made
        if name not in tensors or (UNKNOWN in tensors[name].shape and tensors[name].crosses)
    ]
    if partly:
        tensors |= _measured(proto, inputs, partly)
    return {name: info for name, info in tensors.items() if name not in constants}


def _measured(
    proto: onnx.ModelProto, inputs: Mapping[str, TensorInfo], names: list[str]
) -> dict[str, TensorInfo]:
    """Run once with *names* as outputs too and look at what comes out."""
    extended = onnx.ModelProto()
    extended.CopyFrom(proto)
    have = {value.name for value in extended.graph.output}
    extended.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in have
    )
    none = {name: TensorInfo(name=name, datatype="", shape=()) for name in names}
    try:
        session = open_session(
            extended.SerializeToString(), level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        )
        values = session.run(names, random_inputs(inputs), SILENT)
    except Exception:  # noqa: BLE001  ONNX Runtime raises bare exceptions; unknown stays unknown
        return none
    return {
        name: TensorInfo(name=name, datatype=datatype_of(value), shape=tuple(value.shape))
        if isinstance(value, np.ndarray)
        else none[name]
        for name, value in zip(names, values, strict=True)
    }


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.elem_type:
        return TensorInfo(name=value.name, datatype="", shape=())
    if kind.elem_type == onnx.TensorProto.STRING:
        datatype = "BYTES"
    elif kind.elem_type == onnx.TensorProto.BFLOAT16:
        datatype = "BF16"
    else:
        array = np.empty(0, dtype=onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        datatype = datatype_of(array)
    shape = (
        tuple(d.dim_value if d.dim_value > 0 else UNKNOWN for d in kind.shape.dim)
        if kind.HasField("shape")
        else (UNKNOWN,)
    )
    return TensorInfo(name=value.name, datatype=datatype, shape=shape)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
