"""Cutting any part out of an ONNX model.

Our own splitter: ``onnx.utils.Extractor`` fails on subgraphs that capture outer tensors and
silently pulls upstream ops into the tail when the cut is incomplete. What depends on constants
only is copied to each side that needs it; nothing constant ever crosses. Weights in a file stay
there: a piece has the model's references to them.
"""

from collections.abc import Mapping, Sequence

import onnx

from planner.errors import CutError
from planner.graph import UNKNOWN, TensorInfo
from planner.nodes import reads

_ONNX_TYPE = {
    "BOOL": onnx.TensorProto.BOOL,
    "UINT8": onnx.TensorProto.UINT8,
    "UINT16": onnx.TensorProto.UINT16,
    "UINT32": onnx.TensorProto.UINT32,
    "UINT64": onnx.TensorProto.UINT64,
    "INT8": onnx.TensorProto.INT8,
    "INT16": onnx.TensorProto.INT16,
    "INT32": onnx.TensorProto.INT32,
    "INT64": onnx.TensorProto.INT64,
    "FP16": onnx.TensorProto.FLOAT16,
    "FP32": onnx.TensorProto.FLOAT,
    "FP64": onnx.TensorProto.DOUBLE,
    "BYTES": onnx.TensorProto.STRING,
}


def extract(
    model: onnx.ModelProto,
    inputs: Sequence[str],
    outputs: Sequence[str],
    tensors: Mapping[str, TensorInfo],
) -> onnx.ModelProto:
    """The part of *model* between *inputs* and *outputs*, as a model of its own.

    Args:
        model: in normal form (:mod:`planner.normal`).
        inputs: tensors that will be given; those that no wanted output needs are left out.
        outputs: tensors that are wanted; none of them may be in *inputs*.
        tensors: types and shapes of the model's values.

    Raises:
        CutError: an output needs something that *inputs* do not hold, or a value that is to be
            given or made is no tensor.
    """
    graph = model.graph
    made = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    constants = {tensor.name: index for index, tensor in enumerate(graph.initializer)}
    given = set(inputs)
    nodes, weights, used = set[int](), set[int](), set[str]()
    stack = list(dict.fromkeys(outputs))
    seen = set(stack)
    while stack:
        name = stack.pop()
        if name in given:
            used.add(name)
        elif name in made:
            index = made[name]
            nodes.add(index)
            fresh = [before for before in reads(graph.node[index]) if before not in seen]
            seen.update(fresh)
            stack += fresh
        elif name in constants:
            weights.add(constants[name])
        else:
            raise CutError(f"the cut lacks the tensor {name!r}: name every tensor that crosses it")
    for name in (*used, *outputs):
        if name in tensors and not tensors[name].crosses:
            raise CutError(
                f"{name!r} is of a type that no message can hold and cannot cross a cut: "
                "choose another cut"
            )
    piece = onnx.ModelProto()
    piece.ir_version = model.ir_version
    piece.producer_name = "isthmus"
    piece.opset_import.extend(model.opset_import)
    piece.functions.extend(model.functions)
    piece.graph.name = graph.name or "piece"
    piece.graph.node.extend(graph.node[index] for index in sorted(nodes))
    piece.graph.initializer.extend(graph.initializer[index] for index in sorted(weights))
    piece.graph.input.extend(_value(tensors[name]) for name in inputs if name in used)
    piece.graph.output.extend(_value(tensors[name]) for name in outputs)
    kept = seen - used - set(outputs)
    piece.graph.value_info.extend(
        value for value in graph.value_info if value.name in kept and value.name in made
    )
    return piece


def _value(info: TensorInfo) -> onnx.ValueInfoProto:
    shape = [None if size == UNKNOWN else size for size in info.shape]
    return onnx.helper.make_tensor_value_info(info.name, _ONNX_TYPE[info.datatype], shape)
