"""Which tensors of a network its optimised graph still has, each one proved by a run of both.

ONNX Runtime keeps the names of the values that it keeps. A convolution in blocks of channels makes
a value of another name, but its node is called after what it stood for. Both are only where to
look: what counts is that the values are the same on made-up input.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from planner.errors import ModelError
from planner.graph import TensorInfo
from planner.infos import SILENT, random_inputs
from planner.ready import BLOCKS, Blocked, into_blocks, out_of_blocks
from planner.sessions import open_session

RELATIVE = 1e-3
"""How far a value may be off, as a share of the largest: another order of sums moves it by 1e-5, an
int8 layer that rounds another way by more, and another tensor's values are wholly different."""

_GROUP_BYTES = 256 << 20
_SUFFIX = "_nchwc"
_SUMS = frozenset({"Add", "Sum"})
_ACTIVATIONS = frozenset(
    {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid", "HardSwish", "Elu", "Mish"}
    | {"ThresholdedRelu", "Gelu", "QuickGelu"}
)

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graphs:
    """A network in normal form and optimised, with the folders of their weights."""

    normal: onnx.ModelProto
    normal_folder: Path | None
    optimised: onnx.ModelProto
    optimised_folder: Path


def corresponding(
    graphs: Graphs, inputs: Mapping[str, TensorInfo], tensors: Mapping[str, TensorInfo]
) -> tuple[tuple[str, ...], dict[str, Blocked]]:
    """The tensors that the optimised graph has as they are, and those that it has in blocks.

    The network's inputs and outputs, which ONNX Runtime promises, are always among the first.

    Args:
        graphs: both graphs.
        inputs: the network's inputs.
        tensors: those of the network that can cross a cut.
    """
    promised = [value.name for value in (*graphs.normal.graph.input, *graphs.normal.graph.output)]
    made = {name for node in graphs.optimised.graph.node for name in node.output}
    same = [name for name in tensors if name in made and name not in promised]
    blocks = {name: found for name, found in _in_blocks(graphs, tensors) if name not in promised}
    plain, blocked = list(promised), dict[str, Blocked]()
    try:
        feeds = random_inputs(inputs)
        for group in _grouped([*dict.fromkeys((*same, *blocks))], tensors):
            own = [name for name in group if name in same]
            held = {name: blocks[name] for name in group if name in blocks}
            values = [*own, *(each.value for each in held.values())]
            wanted = _values(graphs.normal, graphs.normal_folder, group, feeds)
            got = _values(graphs.optimised, graphs.optimised_folder, values, feeds)
            plain += [name for name in own if alike(got[name], wanted[name])]
            blocked |= {
                name: each
                for name, each in held.items()
                if _is_reordered(each, wanted[name], got[each.value])
            }
    except ModelError:  # it cannot be run on what we make up: nothing further is proved
        pass
    return tuple(plain), blocked


def alike(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether two values are the same but for rounding; see :data:`RELATIVE`."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return False
    if wanted.dtype.kind == "f":
        finite = wanted[np.isfinite(wanted)]
        near = RELATIVE * float(np.abs(finite).max(initial=0))
        return np.allclose(got, wanted, rtol=RELATIVE, atol=near, equal_nan=True)
    if wanted.dtype in (np.int8, np.uint8):  # quantised, most likely: one step of rounding
        return bool(np.abs(got.astype(np.int16) - wanted).max(initial=0) <= 1)
    return bool(np.array_equal(got, wanted))


def _in_blocks(graphs: Graphs, tensors: Mapping[str, TensorInfo]) -> Iterator[tuple[str, Blocked]]:
    """What the nodes on blocks stood for, by their names and by what was fused into them."""
    nodes = graphs.normal.graph.node
    makers = {name: node for node in nodes for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in set(node.input):
            readers.setdefault(name, []).append(node)
    for node in graphs.optimised.graph.node:
        base = node.name.removesuffix(_SUFFIX)
        if node.domain != BLOCKS or base == node.name or base not in makers:
            continue
        stood = _stood_for(node, base, makers, readers)
        if stood is not None and stood in tensors and len(tensors[stood].shape) == 4:
            channels = tensors[stood].shape[1]
            yield stood, Blocked(value=node.output[0], channels=channels)


def _stood_for(
    node: onnx.NodeProto,
    name: str,
    makers: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, Sequence[onnx.NodeProto]],
) -> str | None:
    """The tensor of the network that *node* makes, *name* being that of its convolution or later.

    A sum and an activation that follow may be in it too: their result is what it makes, and a run
    alone might not tell it from what they were given.
    """
    if node.op_type != "Conv" or makers[name].op_type in _ACTIVATIONS:
        return name
    if len(node.input) > 3 and node.input[3] and makers[name].op_type not in _SUMS:
        following = readers.get(name, ())
        if len(following) != 1 or following[0].op_type not in _SUMS:
            return None
        name = following[0].output[0]
    if any(attribute.name == "activation" for attribute in node.attribute):
        return _activated(name, readers)
    return name


def _activated(name: str, readers: Mapping[str, Sequence[onnx.NodeProto]]) -> str | None:
    """What the activation after *name* makes; it may be a gate, such as x * HardSigmoid(x)."""
    following = readers.get(name, ())
    gates = [node for node in following if node.op_type in _ACTIVATIONS]
    if len(gates) != 1:
        return None
    made: str = gates[0].output[0]
    if len(following) == 1:
        return made
    products = [node for node in following if node.op_type == "Mul"]
    if len(following) == 2 and products and list(readers.get(made, ())) == products:
        product: str = products[0].output[0]
        return product
    return None


def _is_reordered(blocked: Blocked, plain: np.ndarray, in_blocks: np.ndarray) -> bool:
    """Whether the nodes that lead into blocks and out of them do so here, both ways."""
    back = _run_node(out_of_blocks("back", blocked), blocked.value, in_blocks, "back")
    there = _run_node(into_blocks("plain", blocked.value), "plain", plain, blocked.value)
    return back is not None and there is not None and alike(back, plain) and alike(there, in_blocks)


def _run_node(node: onnx.NodeProto, takes: str, value: np.ndarray, makes: str) -> np.ndarray | None:
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        "reorder",
        [onnx.helper.make_tensor_value_info(takes, kind, value.shape)],
        [onnx.helper.make_tensor_value_info(makes, kind, None)],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(BLOCKS, 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    try:
        return _values(model, None, [makes], {takes: value})[makes]
    except ModelError:  # its channels do not go into blocks
        return None


def _grouped(names: Sequence[str], tensors: Mapping[str, TensorInfo]) -> Iterable[list[str]]:
    """Such that the values of one group, twice, are not too much to hold."""
    group: list[str] = []
    total = 0
    for name in names:
        nbytes = tensors[name].nbytes or 0
        if group and total + nbytes > _GROUP_BYTES:
            yield group
            group, total = [], 0
        group.append(name)
        total += nbytes
    if group:
        yield group


def _values(
    model: onnx.ModelProto, folder: Path | None, names: Sequence[str], feeds: Arrays
) -> Arrays:
    """Run *model* as it is, with *names* for its outputs."""
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    known = {value.name: value for value in model.graph.output}
    del asked.graph.output[:]
    asked.graph.output.extend(known.get(n, onnx.ValueInfoProto(name=n)) for n in names)
    session = open_session(
        asked.SerializeToString(),
        level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
        folder=folder,
        prepack=False,
    )
    takes = {value.name for value in session.get_inputs()}
    try:
        made = session.run(list(names), {k: v for k, v in feeds.items() if k in takes}, SILENT)
    except Exception as error:  # ONNX Runtime's own classes share no base but Exception
        raise ModelError("the model does not run on made-up input") from error
    return dict(zip(names, made, strict=True))
