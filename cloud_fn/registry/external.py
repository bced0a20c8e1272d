"""Weights that an ONNX file keeps in other files, and where it says they are."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError

from cloud_fn.errors import RegistryError


def locations(model: onnx.ModelProto) -> tuple[str, ...]:
    """The files that *model* refers to, each once, as it writes them."""
    entries = (entry.value for tensor in _outside(model) for entry in _location(tensor))
    return tuple(dict.fromkeys(entries))


def relocate(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Make *model* refer to each of its files by another name."""
    for tensor in _outside(model):
        for entry in _location(tensor):
            entry.value = names[entry.value]


def load_bare(path: Path) -> onnx.ModelProto | None:
    """The model without its outside weights; None when *path* is no ONNX model."""
    try:
        return onnx.load_model(str(path), load_external_data=False)
    except DecodeError:
        return None


def check_inside(location: str, model: Path) -> Path:
    """Where *location* is beside *model*.

    Raises:
        RegistryError: it leads out of the model's directory, or to nothing that is a file.
    """
    relative = PurePosixPath(location)
    path = model.parent / relative
    inside = path.resolve().is_relative_to(model.parent.resolve())
    if not location or relative.is_absolute() or ".." in relative.parts or not inside:
        raise RegistryError(
            f"{model} keeps weights in {location[:80]!r}: they must be in files beside the model"
        )
    if not path.is_file():
        raise RegistryError(f"{model} keeps weights in {path}, which is no file: copy it there")
    return path


def _outside(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model):
        tensors = list(graph.initializer)
        for sparse in graph.sparse_initializer:
            tensors += (sparse.values, sparse.indices)
        for node in graph.node:
            tensors += _attribute_tensors(node)
        yield from (t for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL)
    for function in model.functions:
        for node in function.node:
            for tensor in _attribute_tensors(node):
                if tensor.data_location == onnx.TensorProto.EXTERNAL:
                    yield tensor


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    nodes = [node for function in model.functions for node in function.node]
    pending = [model.graph, *_subgraphs(nodes)]
    while pending:
        graph = pending.pop()
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


def _location(tensor: onnx.TensorProto) -> list[onnx.StringStringEntryProto]:
    return [entry for entry in tensor.external_data if entry.key == "location"]
