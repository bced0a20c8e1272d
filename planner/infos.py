"""Types and shapes of a model's values, and made-up values to suit them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from planner.errors import ModelError
from planner.graph import UNKNOWN, TensorInfo
from planner.sessions import open_session
from protos.errors import WireError
from protos.tensors import datatype_of

SILENT = ort.RunOptions()
SILENT.log_severity_level = 4  # a made-up input may be refused, and that is an answer too


def info_of(value: onnx.ValueInfoProto) -> TensorInfo:
    """Name, datatype and shape; the datatype is empty where a message could not hold the value.

    That is so for sequences, optionals and maps, and for element types that numpy or the
    protocol lacks: bfloat16 (ONNX Runtime's Python cannot hand it over), 4-bit integers, float8.
    """
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.elem_type:
        return TensorInfo(name=value.name, datatype="", shape=())
    if kind.elem_type == onnx.TensorProto.STRING:
        datatype = "BYTES"
    else:
        try:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            datatype = datatype_of(np.empty(0, dtype=dtype))
        except (WireError, KeyError):
            datatype = ""
    shape = (
        tuple(d.dim_value if d.HasField("dim_value") else UNKNOWN for d in kind.shape.dim)
        if kind.HasField("shape")
        else (UNKNOWN,)
    )
    return TensorInfo(name=value.name, datatype=datatype, shape=shape)


def tensors_of(
    proto: onnx.ModelProto, inputs: Mapping[str, TensorInfo], folder: Path | None
) -> dict[str, TensorInfo]:
    """Every value of the main graph that is no constant.

    What inference leaves open is looked up in one run on made-up input.

    Args:
        proto: the model after shape inference.
        inputs: its inputs, whose sizes are fixed.
        folder: where its references to weights start from, if it has any.
    """
    graph = proto.graph
    tensors = {value.name: info_of(value) for value in (*graph.value_info, *graph.output)}
    tensors |= inputs
    constants = {tensor.name for tensor in graph.initializer}
    made = [name for node in graph.node for name in node.output if name and name not in constants]
    partly = [
        name
        for name in made
        if name not in tensors or (UNKNOWN in tensors[name].shape and tensors[name].crosses)
    ]
    if partly:
        tensors |= _measured(proto, inputs, partly, folder)
    return {name: info for name, info in tensors.items() if name not in constants}


def random_inputs(infos: Mapping[str, TensorInfo], seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded input of the right types and shapes: normal floats, small integers, true and false.

    Raises:
        ModelError: an input is of a type that numpy does not have.
    """
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
        elif info.crosses:
            out[name] = rng.integers(0, 2, shape).astype(info.datatype.lower())
        else:
            raise ModelError(f"input {name!r} is of a type that no message can hold")
    return out


def _measured(
    proto: onnx.ModelProto,
    inputs: Mapping[str, TensorInfo],
    names: list[str],
    folder: Path | None,
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
            extended.SerializeToString(),
            level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
            folder=folder,
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
