"""How much each op has to do, told from shapes alone: multiply-adds, with no machine measured."""

import math
from collections.abc import Callable, Mapping

import onnx

from planner.graph import UNKNOWN
from planner.model import Model

Shape = tuple[int, ...]
_Count = Callable[[onnx.NodeProto, Mapping[str, Shape]], int]

_INSIDE = frozenset({"If", "Loop", "Scan"})
"""Ops whose work lies in their subgraphs, and depends on the input."""


def work_of(model: Model) -> tuple[int, ...] | None:
    """Multiply-adds of each op of ``model.graph``, in order; steps count as none.

    An op without products counts one for each element that it makes. None where a shape is not
    fixed, or an op hides its work in a subgraph.
    """
    shapes = _shapes(model)
    nodes = {node.name: node for node in model.proto.graph.node}
    counts = []
    for op in model.graph.ops:
        if op.is_step:
            counts.append(0)
            continue
        if op.kind in _INSIDE:
            return None
        node = nodes[op.name]
        try:
            counts.append(_COUNTS.get(op.kind, _elements)(node, shapes))
        except (KeyError, IndexError):  # a shape that nobody knows
            return None
    return tuple(counts)


def _shapes(model: Model) -> dict[str, Shape]:
    """The shapes that are fixed: of the graph's tensors and of the constants."""
    shapes = {
        name: info.shape
        for name, info in model.graph.tensors.items()
        if info.crosses and UNKNOWN not in info.shape
    }
    graph = model.proto.graph
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes |= {
        node.output[0]: tuple(attribute.t.dims)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return shapes


def _elements(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    return math.prod(shapes[node.output[0]])


def _convolution(at: int) -> _Count:
    """Each element that is made takes one product for each of a filter's weights."""

    def count(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[at]][1:])

    return count


def _transposed(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Each element that is read meets all of a filter's weights."""
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _product(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Rows times columns times what is summed over: the left matrix's last axis."""
    left = shapes[node.input[0]]
    turned = any(each.name == "transA" and each.i for each in node.attribute)
    return math.prod(shapes[node.output[0]]) * left[0 if turned else -1]


def _recurrent(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    """At each step of the sequence, for each of the batch: all weights of input and recurrence."""
    length, batch, _ = shapes[node.input[0]]
    return length * batch * sum(math.prod(shapes[name]) for name in node.input[1:3])


_COUNTS: Mapping[str, _Count] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "Gemm": _product,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
