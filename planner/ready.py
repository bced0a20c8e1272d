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
from protos.documents import decode_json, read_json

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


class ReadyDetail(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The network without its steps, and where its optimised graph can be cut.

    ``plain`` are tensors of the network that the optimised graph has as they are, ``blocked`` those
    that it has in blocks; some are in both, and fused ones in neither.
    """

    tensors: tuple[ReadyTensor, ...]
    ops: tuple[ReadyOp, ...]
    plain: tuple[str, ...]
    blocked: dict[str, Blocked]


class ReadyDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a network; of a plain one, all outputs come of inputs, and of all of those.

    ``detail`` is a :class:`ReadyDetail`. It takes milliseconds to read, and who wants the network's
    outputs of its inputs does without.
    """

    schema: Literal["isthmus.ready/1"] = "isthmus.ready/1"
    digest: str
    inputs: tuple[ReadyTensor, ...]
    outputs: tuple[ReadyTensor, ...]
    is_plain: bool
    detail: msgspec.Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A network in the form described above, whose document was read.

    ``optimised`` is the graph's file, and ``folder`` where its references to its weights start
    from. ``name`` is what the version is called in messages.
    """

    name: str
    optimised: Path
    folder: Path
    document: ReadyDocument

    def whole(self, names: Sequence[str] | None = None) -> Chosen | None:
        """The network alone, from all of its inputs to all of its outputs.

        Args:
            names: what is given, by default its inputs.

        Returns:
            None where *names* are others, or the network is not plain; the model then says more.
        """
        inputs = {each.name: each.info for each in self.document.inputs}
        given = tuple(inputs if names is None else names)
        if not self.document.is_plain or set(given) != inputs.keys():
            return None
        outputs = tuple(each.name for each in self.document.outputs)
        return Chosen(
            inputs=tuple(inputs[name] for name in given),
            outputs=outputs,
            before=(),
            after=(),
            takes=given,
            makes=outputs,
        )

    def model(self, steps: Loaded | None = None) -> "ReadyModel":
        """All of it, with *steps* around the network.

        Raises:
            DocumentError: the document is damaged.
            StepsError: the steps do not fit the network.
        """
        detail = decode_json(bytes(self.document.detail), ReadyDetail, what="ready model")
        tensors = {each.name: each.info for each in detail.tensors}
        inputs, outputs = (
            tuple(each.info for each in infos)
            for infos in (self.document.inputs, self.document.outputs)
        )
        network = ReadyModel(
            name=self.name,
            digest=self.document.digest,
            graph=graph_of(
                [each.op for each in detail.ops],
                tensors,
                [info.name for info in inputs],
                [info.name for info in outputs],
            ),
            inputs=inputs,
            outputs=outputs,
            steps={},
            ready=self,
            detail=detail,
        )
        return network if steps is None else network.with_steps(steps)

    def open(
        self, chosen: Chosen, *, threads: int = 1, prepack: bool = False
    ) -> ort.InferenceSession:
        """A session for what :meth:`whole` gave.

        Raises:
            ModelError: ONNX Runtime refuses the graph, or its weights are gone.
            OSError: the graph cannot be read.
        """
        assert chosen.makes == tuple(each.name for each in self.document.outputs)
        return self.session(self.optimised.read_bytes(), threads=threads, prepack=prepack)

    def session(
        self, part: bytes, *, threads: int = 1, prepack: bool = False
    ) -> ort.InferenceSession:
        """A session for a part of the optimised graph.

        Raises:
            ModelError: ONNX Runtime refuses it, or its weights are gone.
        """
        return open_session(
            part,
            level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
            threads=threads,
            folder=self.folder,
            prepack=prepack,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyModel(Cuttable):
    """A version made ready, all that can be cut out of it included."""

    ready: Ready
    detail: ReadyDetail

    def part(self, chosen: Chosen) -> bytes | None:
        """The network's part of *chosen*, which must have one, for :meth:`Ready.session`.

        Returns:
            A serialised ModelProto; None where the optimised graph has lost a tensor that the piece
            takes or makes.

        Raises:
            OSError: the graph cannot be read.
        """
        data = self.ready.optimised.read_bytes()
        names = (self.inputs, self.ready.document.outputs)
        whole_takes, whole_makes = ({each.name for each in infos} for infos in names)
        if set(chosen.makes) == whole_makes and set(chosen.takes) == whole_takes:
            return data
        known, plain = self.detail, set(self.detail.plain)
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


def open_ready(document: Path, *, optimised: Path, folder: Path, name: str) -> Ready:
    """Open what :func:`planner.compiling.compile_ready` wrote.

    Args:
        document: the document.
        optimised: the optimised graph.
        folder: where the graph's references to its weights start from.
        name: what the version is called in messages.

    Raises:
        DocumentError: the document is damaged.
    """
    known = read_json(document, ReadyDocument, what="ready model")
    return Ready(name=name, optimised=optimised, folder=folder, document=known)


def into_blocks(name: str, value: str) -> onnx.NodeProto:
    """The node that makes *value*, in blocks, of *name*."""
    return onnx.helper.make_node("ReorderInput", [name], [value], domain=BLOCKS)


def out_of_blocks(name: str, blocked: Blocked) -> onnx.NodeProto:
    """The node that makes *name* of the value that holds it in blocks."""
    return onnx.helper.make_node(
        "ReorderOutput", [blocked.value], [name], domain=BLOCKS, channels=blocked.channels
    )


def _open_up(
    graph: onnx.GraphProto, known: ReadyDetail, takes: Sequence[str], makes: Sequence[str]
) -> None:
    """Have *graph* take, and make, tensors that it holds in blocks."""
    given = {known.blocked[name].value: name for name in takes if name in known.blocked}
    nodes = [into_blocks(name, value) for value, name in given.items()]
    nodes += [node for node in graph.node if given.keys().isdisjoint(node.output)]
    nodes += [out_of_blocks(name, known.blocked[name]) for name in makes]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
