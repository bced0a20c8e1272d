"""How many bytes of weights each op of a network brings with it."""

import math
from collections.abc import Mapping

import onnx

from planner.nodes import reads

_HALF = {onnx.TensorProto.INT4, onnx.TensorProto.UINT4}


def weight_bytes(proto: onnx.ModelProto) -> Mapping[str, int]:
    """Bytes of weights by the node's name.

    What several nodes share counts with each, as each side of a cut gets a copy; see :func:`held`.
    """
    return {name: sum(mine.values()) for name, mine in held(proto).items()}


def held(proto: onnx.ModelProto) -> Mapping[str, Mapping[str, int]]:
    """The constants that each node brings with it, by the node's name: their names and bytes.

    Counts initializers, and through nodes that depend on constants only the initializers that
    these read. What a node itself holds goes by the name of what it makes. Nothing is loaded:
    weights in a file are known by their shapes.
    """
    graph = proto.graph
    constant: dict[str, Mapping[str, int]] = {
        tensor.name: {tensor.name: _tensor_bytes(tensor)} for tensor in graph.initializer
    }
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        constant[name] = {name: _tensor_bytes(sparse.values) + _tensor_bytes(sparse.indices)}
    live = {value.name for value in graph.input}
    found: dict[str, Mapping[str, int]] = {}
    for node in graph.node:
        names = set(reads(node))
        mine: dict[str, int] = {}
        for name in sorted(names & constant.keys()):
            mine |= constant[name]
        if nbytes := _inside(node):
            mine[node.output[0]] = nbytes
        found[node.name] = mine
        if names & live:
            live.update(node.output)
        else:
            constant |= dict.fromkeys(node.output, mine)
    return found


def _inside(node: onnx.NodeProto) -> int:
    """Bytes of the tensors that the node itself holds, and that its subgraphs do."""
    total = 0
    for attribute in node.attribute:
        tensors = [*attribute.tensors]
        graphs = [*attribute.graphs]
        if attribute.type == onnx.AttributeProto.TENSOR:
            tensors.append(attribute.t)
        if attribute.type == onnx.AttributeProto.GRAPH:
            graphs.append(attribute.g)
        total += sum(map(_tensor_bytes, tensors))
        for graph in graphs:
            total += sum(map(_tensor_bytes, graph.initializer)) + sum(map(_inside, graph.node))
    return total


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    count = math.prod(tensor.dims)
    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    if tensor.data_type in _HALF:
        return (count + 1) // 2
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
