"""Tensors whose bytes lie in another file: ONNX's external data."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tensor's bytes are: *length* None means up to the file's end."""

    location: str
    offset: int
    length: int | None


def is_outside(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def outside(
    model: onnx.ModelProto, *, but_initializers: bool = False
) -> Iterator[onnx.TensorProto]:
    """Every tensor of *model* that keeps its bytes elsewhere, wherever it is in the model.

    *but_initializers* leaves out the initializers of the main graph.
    """
    for place, graph in enumerate(_graphs(model)):
        tensors = [] if but_initializers and place == 0 else list(graph.initializer)
        for sparse in graph.sparse_initializer:
            tensors += (sparse.values, sparse.indices)
        for node in graph.node:
            tensors += _attribute_tensors(node)
        yield from filter(is_outside, tensors)
    for function in model.functions:
        for node in function.node:
            yield from filter(is_outside, _attribute_tensors(node))


def place_of(tensor: onnx.TensorProto) -> Place:
    """Where an outside tensor's bytes are.

    Raises:
        ValueError: it does not say, or not in numbers.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if "location" not in entries:
        raise ValueError(f"the tensor {tensor.name} does not say in which file its weights are")
    length = int(entries["length"]) if "length" in entries else None
    offset = int(entries.get("offset", "0"))
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"the tensor {tensor.name} has its weights at {offset}, {length} bytes")
    return Place(location=entries["location"], offset=offset, length=length)


def is_within(location: str, folder: Path) -> bool:
    """Whether *location* leads to something in *folder*, and not out of it through links."""
    relative = PurePosixPath(location)
    if not location or relative.is_absolute() or ".." in relative.parts:
        return False
    return (folder / relative).resolve().is_relative_to(folder.resolve())


def relocate(tensor: onnx.TensorProto, location: str) -> None:
    """Make an outside tensor refer to its file by another name."""
    for entry in tensor.external_data:
        if entry.key == "location":
            entry.value = location


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    nodes = [node for function in model.functions for node in function.node]
    pending = [*_subgraphs(nodes), model.graph]
    while pending:
        graph = pending.pop()  # the main graph first
        yield graph
        pending += _subgraphs(graph.node)


def _subgraphs(nodes: Iterable[onnx.NodeProto]) -> list[onnx.GraphProto]:
    found = []
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found.append(attribute.g)
            found += attribute.graphs
    return found


def _attribute_tensors(node: onnx.NodeProto) -> list[onnx.TensorProto]:
    found = []
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            found.append(attribute.t)
        found += attribute.tensors
    return found
