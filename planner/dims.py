"""Which sizes a model's inputs have: those that were given, and what is assumed for the others."""

from collections.abc import Sequence
from pathlib import Path

import onnx

from planner.errors import ModelError
from planner.fold import make_dense
from planner.infos import info_of

IMAGE_SIDE = 224
SEQUENCE = 128

_ROWS = "isthmus_rows"
"""The same at all inputs: only then does ONNX Runtime fuse what meets."""

_WITH_LENGTH = (2, 3)
"""How many axes an input has whose axis 1 may be a length: four are an image's, 1 its channels."""


def own_inputs(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Copies of the inputs that are no initializers."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    constants |= {tensor.values.name for tensor in proto.graph.sparse_initializer}
    return [
        onnx.ValueInfoProto.FromString(value.SerializeToString())
        for value in proto.graph.input
        if value.name not in constants
    ]


def fixed_inputs(
    proto: onnx.ModelProto, dims: dict[str, int], path: Path
) -> tuple[list[onnx.ValueInfoProto], dict[str, int]]:
    """The inputs that are no initializers, without a dynamic dimension; and what was assumed.

    Raises:
        ModelError: an input cannot be served, or *dims* do not suit the model.
    """
    fixed = own_inputs(proto)
    assumed = _fix_dims(fixed, dims, path)
    for info in map(info_of, fixed):
        if not info.crosses:
            raise ModelError(
                f"{path}: input {info.name} is of a type that no message can hold: "
                "let the model take float32 or an integer type and cast it inside"
            )
    return fixed, assumed


def loosened_inputs(
    proto: onnx.ModelProto, dims: dict[str, int], path: Path, *, with_lengths: bool
) -> list[onnx.ValueInfoProto]:
    """The inputs as :func:`fixed_inputs` gives them, but for axis 0, which takes any size.

    Args:
        proto: the model as it was given.
        dims: as there.
        path: the model's file.
        with_lengths: whether axis 1 of an input that is no image takes any size too where the model
            lets it and *dims* say nothing.

    Raises:
        ModelError: axis 0 of an input is fixed, or as for :func:`fixed_inputs`.
    """
    loose, (fixed, assumed) = own_inputs(proto), fixed_inputs(proto, dims, path)
    for value, settled in zip(loose, fixed, strict=True):
        before, after = value.type.tensor_type.shape.dim, settled.type.tensor_type.shape.dim
        if not before or before[0].dim_value > 0:
            raise ModelError(
                f"axis 0 of input {value.name!r} is fixed: publish the model with a dynamic one"
            )
        if after[0].dim_value > 1:
            raise ModelError(
                f"input {value.name!r} was published with {after[0].dim_value} rows: leave axis 0 "
                "to be of any size"
            )
        after[0].dim_param = _ROWS
        if with_lengths and len(after) in _WITH_LENGTH:
            name = before[1].dim_param
            if not before[1].dim_value > 0 and {name, f"{value.name}.1"} & assumed.keys():
                after[1].dim_param = name if name.isidentifier() else f"{value.name}.1"
    return fixed


def candidates(
    proto: onnx.ModelProto, fixed: Sequence[onnx.ValueInfoProto]
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The model with fixed dims and no stale shapes, and, should that not do, as it was."""
    proto.ir_version = max(proto.ir_version, 4)  # below, initializers must be inputs too
    make_dense(proto.graph)
    names = {value.name for value in fixed}
    loose = [
        onnx.ValueInfoProto.FromString(value.SerializeToString())
        for value in proto.graph.input
        if value.name in names
    ]
    del proto.graph.input[:]
    original = onnx.ModelProto()
    original.CopyFrom(proto)
    original.graph.input.extend(loose)
    proto.graph.input.extend(fixed)
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    return proto, original


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
