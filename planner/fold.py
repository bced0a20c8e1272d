"""Folding and tidying a model whose input dims are fixed.

Measured over 33 real models: fixing the dims, dropping stale shapes, saving ONNX Runtime's
basic-level optimisation and inferring again leaves 30 fully static; one real run fills the rest.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from planner.errors import ModelError
from planner.sessions import open_session


def fold(
    candidates: Sequence[onnx.ModelProto], target: Path, folder: Path | None = None
) -> onnx.ModelProto:
    """Constant folding by ONNX Runtime, which is also the proof that it can run the model.

    Args:
        candidates: the same model with more and with less known about its shapes: an ``If`` whose
            other branch no longer type-checks refuses fixed dims, and then stays as it was.
        target: where ONNX Runtime writes the folded model.
        folder: where the model's references to weights start from, if it has any; the folded
            model's weights are then in :data:`planner.sessions.WEIGHTS_FILE` beside *target*.

    Returns:
        The folded model with inferred shapes, and without those weights.

    Raises:
        ModelError: ONNX Runtime cannot run any of *candidates*.
    """
    failure: ModelError | None = None
    for candidate in candidates:
        try:
            open_session(
                candidate.SerializeToString(),
                level=ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
                folder=folder,
                prepack=False,
                save_to=target,
                # The names it gives to new weights clash when a piece is optimised again.
                without=["MatMulAddFusion"],
            )
        except ModelError as error:
            failure = error
            continue
        folded = onnx.load_model(str(target), load_external_data=False)
        try:
            return onnx.shape_inference.infer_shapes(folded, data_prop=True)
        except (onnx.shape_inference.InferenceError, ValueError):
            return folded  # the shapes stay as they were declared
    raise failure or ValueError("no candidate to fold")


def make_dense(graph: onnx.GraphProto) -> None:
    """Sparse initializers as plain ones.

    ONNX Runtime makes them dense to use them, and saves indices of a type that ONNX forbids.
    """
    for sparse in graph.sparse_initializer:
        values = numpy_helper.to_array(sparse.values)
        indices = numpy_helper.to_array(sparse.indices)
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
        graph.initializer.append(numpy_helper.from_array(dense, sparse.values.name))
    del graph.sparse_initializer[:]


def tidy(proto: onnx.ModelProto) -> None:
    """Give every node a name, every output a node, and keep shapes from holding tensors back."""
    _outputs_once(proto.graph)
    _make_constant_outputs(proto.graph)
    _fold_known_shapes(proto.graph)
    _hoist_shapes(proto.graph)
    _name_nodes(proto.graph)


def _outputs_once(graph: onnx.GraphProto) -> None:
    """An output that is listed twice is one answer."""
    once: dict[str, onnx.ValueInfoProto] = {}
    for value in graph.output:
        once.setdefault(value.name, onnx.ValueInfoProto.FromString(value.SerializeToString()))
    if len(once) < len(graph.output):
        del graph.output[:]
        graph.output.extend(once.values())


def _make_constant_outputs(graph: onnx.GraphProto) -> None:
    """An output that is an initializer gets a node that makes it.

    The initializer is renamed, so that whoever reads it still reads a constant.
    """
    outputs = {value.name for value in graph.output}
    copies: dict[str, str] = {}
    if not any(tensor.name in outputs for tensor in graph.initializer):
        return
    for tensor in graph.initializer:
        if tensor.name in outputs:
            copies[tensor.name] = f"{tensor.name}#constant"
            tensor.name = copies[tensor.name]
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = copies.get(name, name)
    made = [onnx.helper.make_node("Identity", [new], [old]) for old, new in copies.items()]
    _reorder(graph, [*made, *graph.node])


def _fold_known_shapes(graph: onnx.GraphProto) -> None:
    """``Shape`` and ``Size`` of a value of known shape become constants.

    ONNX Runtime has folded those whose shape it inferred itself; what is made from them is
    constant too, and goes to each side that needs it.
    """
    known = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input)
        if value.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    }
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        shape = known.get(node.input[0]) if node.op_type in ("Shape", "Size") else None
        if shape is None or node.domain or node.output[0] in outputs:
            kept.append(node)
            continue
        value = np.array(int(np.prod(shape)), np.int64)
        if node.op_type == "Shape":
            limits = {a.name: a.i for a in node.attribute}
            value = np.array(shape[limits.get("start", 0) : limits.get("end")], np.int64)
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    if len(kept) < len(graph.node):
        _reorder(graph, kept)


def _hoist_shapes(graph: onnx.GraphProto) -> None:
    """``Shape`` and ``Size`` right after what they look at.

    A late one would carry the tensor itself past every cut between, in place of a few integers.
    """
    late: dict[str, list[onnx.NodeProto]] = {}
    rest: list[onnx.NodeProto] = []
    shapes: set[str] = set()
    makers = {name for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("Shape", "Size") and not node.domain and node.input[0] not in shapes:
            late.setdefault(node.input[0], []).append(node)
            shapes.add(node.output[0])
        else:
            rest.append(node)
    if not late:
        return
    ordered = [node for name, nodes in late.items() if name not in makers for node in nodes]
    for node in rest:
        ordered.append(node)
        ordered += [shape for name in node.output for shape in late.get(name, ())]
    _reorder(graph, ordered)


def _reorder(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _name_nodes(graph: onnx.GraphProto) -> None:
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}#{index}"
        seen.add(node.name)
