"""From ONNX Runtime's fused kernels back to the ops of the graph."""

from collections.abc import Mapping

import onnx

from planner.graph import Graph

# A fused kernel's time belongs to these where it holds one: what follows them is nearly free.
HEAVY = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "ConvInteger",
        "Gemm",
        "MatMul",
        "MatMulInteger",
        "LSTM",
        "GRU",
        "RNN",
        "Einsum",
        "Attention",
        "QLinearConv",
        "QLinearMatMul",
    }
)


def share_out(
    graph: Graph, fused: onnx.GraphProto, kernels: Mapping[str, float]
) -> dict[str, float]:
    """Seconds per op of *graph*.

    Each kernel is anchored at one of the original tensors; the ops between that tensor and the
    other anchors above it are the ones it absorbed, and share its time (all of it to the heavy
    ones, if any).

    Args:
        graph: the model before fusion.
        fused: ONNX Runtime's optimised graph.
        kernels: seconds by the name of the optimised node.
    """
    anchors = _anchors(graph, fused)
    stops = set(anchors.values())
    seconds = {op.name: 0.0 for op in graph.ops if not op.is_step}
    for kernel, spent in kernels.items():
        anchor = anchors.get(kernel)
        if anchor is None:
            continue
        absorbed, _ = graph.needed([anchor], (stops | set(graph.sources)) - {anchor})
        ops = [graph.ops[index] for index in absorbed if not graph.ops[index].is_step]
        heavy = [op for op in ops if op.kind in HEAVY]
        for op in heavy or ops:
            seconds[op.name] += spent / len(heavy or ops)
    return seconds


def _anchors(graph: Graph, fused: onnx.GraphProto) -> dict[str, str]:
    """The original tensor that stands for each optimised node, in the order that maps most.

    The node's name without ``_nchwc`` is the original output's; else an output that still exists;
    else the node of the same name; else the longest original name before a ``/``; else the nearest
    original tensor downstream. Without the last two, 80 % of a transformer's time is lost.
    """
    made = {name for name in graph.producer if not graph.ops[graph.producer[name]].is_step}
    by_op = {op.name: op.outputs[0] for op in graph.ops if op.outputs and not op.is_step}
    anchors: dict[str, str] = {}
    for node in fused.node:
        kept = [name for name in node.output if name in made]
        bare = node.name.removesuffix("_nchwc")
        prefixes = [bare[:i] for i, letter in enumerate(bare) if letter == "/"]
        inside = [p for p in prefixes if p in by_op or p in made]
        if bare != node.name and bare in made:
            anchors[node.name] = bare
        elif kept:
            anchors[node.name] = kept[0]
        elif node.name in by_op:
            anchors[node.name] = by_op[node.name]
        elif inside:
            anchors[node.name] = by_op.get(inside[-1], inside[-1])
    return anchors | _downstream(fused, anchors)


def _downstream(fused: onnx.GraphProto, anchors: Mapping[str, str]) -> dict[str, str]:
    """For each node without an anchor, the nearest one below it."""
    found = dict(anchors)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in fused.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in reversed(fused.node):
        if node.name not in found:
            after = [r.name for name in node.output for r in readers.get(name, ())]
            below = next((found[name] for name in after if name in found), None)
            if below is not None:
                found[node.name] = below
    return found
