"""A version made ready for one kind of machine: opened in milliseconds, whatever its size.

Three files: the optimised graph, its weights, which are mapped and never read as a whole, and a
document that says all that a piece needs to know of the graph, so that nothing is parsed or
inferred. Every cut comes out of the optimised graph where that is possible, and so refers to the
same weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import onnx
import onnxruntime as ort

from planner.cuttable import Chosen, Cuttable, graph_of
from planner.errors import CutError
from planner.extract import extract
from planner.graph import Op, TensorInfo
from planner.sessions import open_session
from planner.steps import Loaded
from protos.documents import read_json

BLOCKS = "com.microsoft.nchwc"
"""The domain of ONNX Runtime's ops on images whose channels lie in blocks of a vector's width."""


class ReadyTensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See :class:`planner.graph.TensorInfo`."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def info(self) -> TensorInfo:
        return TensorInfo(name=self.name, datatype=self.datatype, shape=self.shape)


class ReadyOp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See :class:`planner.graph.Op`."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def op(self) -> Op:
        return Op(name=self.name, kind=self.kind, inputs=self.inputs, outputs=self.outputs)


class Blocked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the optimised graph has a tensor in blocks, and how many channels of it are real."""

    value: str
    channels: int


class ReadyDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a network, without its steps, and where its optimised graph can be cut.

    ``plain`` are tensors of the network that the optimised graph has as they are, ``blocked`` those
    that it has in blocks; some are in both, and fused ones in neither.
    """

    schema: Literal["isthmus.ready/1"] = "isthmus.ready/1"
    digest: str
    tensors: tuple[ReadyTensor, ...]
    ops: tuple[ReadyOp, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    plain: tuple[str, ...]
    blocked: dict[str, Blocked]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyModel(Cuttable):
    """A version in the form described above. ``optimised`` is the graph's file.

    ``folder`` is where the graph's references to its weights start from.
    """

    optimised: Path
    folder: Path
    document: ReadyDocument

    def open(
        self, chosen: Chosen, *, threads: int = 1, prepack: bool = False
    ) -> ort.InferenceSession | None:
        """A session for the network's part of *chosen*, which must have one.

        Returns:
            None where the optimised graph has lost a tensor that the piece takes or makes.

        Raises:
            ModelError: ONNX Runtime refuses the graph, or its weights are gone.
            OSError: the graph cannot be read.
        """
        data = self.part(chosen)
        if data is None:
            return None
        return open_session(
            data,
            level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
            threads=threads,
            folder=self.folder,
            prepack=prepack,
        )

    def part(self, chosen: Chosen) -> bytes | None:
        """The network's part of *chosen* as a serialised ModelProto, None as for :meth:`open`.

        Raises:
            OSError: the graph cannot be read.
        """
        data = self.optimised.read_bytes()
        known = self.document
        if set(chosen.makes) == set(known.outputs) and set(chosen.takes) == set(known.inputs):
            return data
        plain = set(known.plain)
        if any(n not in plain and n not in known.blocked for n in (*chosen.takes, *chosen.makes)):
            return None
        proto = onnx.ModelProto.FromString(data)
        lost = [name for name in chosen.makes if name not in plain]
        _open_up(proto.graph, known, chosen.takes, lost)
        try:
            part = extract(proto, chosen.takes, chosen.makes, self.graph.tensors)
        except CutError:
            return None
        # What fusion has made of two tensors may be left of one, which the other then belies.
        return part.SerializeToString() if len(part.graph.input) == len(chosen.takes) else None


def open_ready(
    document: Path, *, optimised: Path, folder: Path, name: str, steps: Loaded | None = None
) -> ReadyModel:
    """Open what :func:`planner.compiling.compile_ready` wrote.

    Args:
        document: the document.
        optimised: the optimised graph.
        folder: where the graph's references to its weights start from.
        name: what the version is called in messages.
        steps: the steps around the network.

    Raises:
        DocumentError: the document is damaged.
        StepsError: the steps do not fit the network.
    """
    known = read_json(document, ReadyDocument, what="ready model")
    tensors = {each.name: each.info for each in known.tensors}
    network = ReadyModel(
        name=name,
        digest=known.digest,
        graph=graph_of([each.op for each in known.ops], tensors, known.inputs, known.outputs),
        inputs=tuple(tensors[each] for each in known.inputs),
        outputs=tuple(tensors[each] for each in known.outputs),
        steps={},
        optimised=optimised,
        folder=folder,
        document=known,
    )
    return network if steps is None else network.with_steps(steps)


def into_blocks(name: str, value: str) -> onnx.NodeProto:
    """The node that makes *value*, in blocks, of *name*."""
    return onnx.helper.make_node("ReorderInput", [name], [value], domain=BLOCKS)


def out_of_blocks(name: str, blocked: Blocked) -> onnx.NodeProto:
    """The node that makes *name* of the value that holds it in blocks."""
    return onnx.helper.make_node(
        "ReorderOutput", [blocked.value], [name], domain=BLOCKS, channels=blocked.channels
    )


def _open_up(
    graph: onnx.GraphProto, known: ReadyDocument, takes: Sequence[str], makes: Sequence[str]
) -> None:
    """Have *graph* take, and make, tensors that it holds in blocks."""
    given = {known.blocked[name].value: name for name in takes if name in known.blocked}
    nodes = [into_blocks(name, value) for value, name in given.items()]
    nodes += [node for node in graph.node if given.keys().isdisjoint(node.output)]
    nodes += [out_of_blocks(name, known.blocked[name]) for name in makes]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
