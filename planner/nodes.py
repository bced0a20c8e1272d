"""What a node reads, also through the subgraphs inside it."""

from collections.abc import Iterator

import onnx


def captured(graph: onnx.GraphProto) -> set[str]:
    """The outer tensors that a subgraph reads without having made them."""
    inside = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    inside |= {tensor.values.name for tensor in graph.sparse_initializer}
    free: set[str] = set()
    for node in graph.node:
        free |= {name for name in reads(node) if name not in inside}
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
