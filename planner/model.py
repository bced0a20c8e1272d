"""A model that was read: its graph, and the pieces that can be cut from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from planner.cuttable import RANDOM, Chosen, Cuttable, graph_of
from planner.errors import CutError
from planner.extract import extract
from planner.graph import Op, TensorInfo
from planner.infos import random_inputs
from planner.nodes import reads
from planner.normal import Normal, normalise
from planner.pieces import Piece
from planner.sessions import open_session
from planner.steps import load as load_steps
from planner.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Cuttable):
    """A model with all that its pieces need; see :class:`planner.cuttable.Cuttable`.

    ``proto`` is the network in normal form; when ``weights`` is a file, it holds references into
    that file and no weights, and so does every piece.
    """

    assumed: Mapping[str, int]
    proto: onnx.ModelProto
    weights: Weights | None = None

    @property
    def folder(self) -> Path | None:
        """Where ``proto``'s references to weights start from, None where it has none."""
        return None if self.weights is None else self.weights.folder

    def piece(
        self,
        inputs: Sequence[str],
        outputs: Sequence[str] | None = None,
        *,
        threads: int = 1,
        prepack: bool | None = None,
    ) -> Piece:
        """Everything that runs between *inputs* and *outputs*; see :meth:`choose`.

        Args:
            inputs: names of tensors.
            outputs: names of tensors.
            threads: ONNX Runtime's intra-op threads.
            prepack: see :func:`planner.sessions.open_session`.
        """
        return self.open(self.choose(inputs, outputs), threads=threads, prepack=prepack)

    def open(
        self,
        chosen: Chosen,
        *,
        threads: int = 1,
        prepack: bool | None = None,
    ) -> Piece:
        """What was chosen of this model as something runnable."""
        session = None
        if chosen.makes:
            data = self.part(chosen).SerializeToString()
            session = open_session(data, threads=threads, folder=self.folder, prepack=prepack)
        return self.assembled(chosen, session)

    def part(self, chosen: Chosen) -> onnx.ModelProto:
        """The network's part of a piece."""
        return extract(self.proto, chosen.takes, chosen.makes, self.graph.tensors)

    def head(self, crossing: Sequence[str], *, threads: int = 1) -> Piece:
        """What runs on the device before *crossing*, with the answers that it already makes."""
        self._known(crossing)
        late = self._answers_from(crossing)
        early = [name for name in self.answers if name not in late]
        outputs = (*crossing, *(name for name in early if name not in crossing))
        return self.piece(self._sources_for(outputs), outputs, threads=threads)

    def tail(self, crossing: Sequence[str], *, threads: int = 1) -> Piece:
        """What runs after *crossing*: every answer that depends on it."""
        return self.open(self.choose_tail(crossing), threads=threads)

    def whole(self, *, threads: int = 1) -> Piece:
        """From the source to the answers."""
        return self.piece(self._sources_for(self.answers), self.answers, threads=threads)

    def split(self, crossing: Sequence[str]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """The network's head and tail at *crossing*, as two ONNX models; steps are left aside.

        Raises:
            CutError: *crossing* does not part the network.
        """
        self._known(crossing)
        inputs = [info.name for info in self.inputs]
        outputs = [info.name for info in self.outputs]
        late = self.late(crossing, [name for name in outputs if name not in crossing])
        early = [name for name in outputs if name not in late]
        if not late:
            raise CutError(f"no output of the network depends on {', '.join(crossing)}")
        self._nothing_random_twice(crossing, outputs, late)
        tensors = self.graph.tensors
        needs = [name for name in crossing if name not in inputs]
        heads = list(dict.fromkeys([*needs, *early]))
        if not heads:
            raise CutError(f"nothing runs before {', '.join(crossing)}: name a cut further on")
        head = extract(self.proto, inputs, heads, tensors)
        tail = extract(self.proto, list(crossing), late, tensors)
        return head, tail

    def _sources_for(self, outputs: Sequence[str]) -> tuple[str, ...]:
        _, loose = self.graph.needed(outputs, ())
        return tuple(name for name in self.source if name in loose)


def read(
    path: Path,
    *,
    steps: Path | None = None,
    dims: Mapping[str, int] | None = None,
    kept_in: Path | None = None,
) -> Model:
    """Read an ONNX model, and the steps around it, into one graph.

    >>> import onnx, planner, shutil, tempfile
    >>> from onnx import helper
    >>> here = Path(tempfile.mkdtemp())
    >>> x, y = (helper.make_tensor_value_info(name, 1, ["batch", 4]) for name in "xy")
    >>> nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Exp", ["a"], ["y"])]
    >>> graph = helper.make_graph(nodes, "two", [x], [y])
    >>> onnx.save(helper.make_model(graph, ir_version=8), str(here / "two.onnx"))
    >>> model = planner.read(here / "two.onnx", dims={"batch": 2})
    >>> [op.kind for op in model.graph.ops], model.graph.info("a").shape
    (['Relu', 'Exp'], (2, 4))
    >>> model.graph.boundary({0})
    ('a',)
    >>> shutil.rmtree(here)

    Args:
        path: the ONNX file.
        steps: its ``steps.json``; None means that the network is all there is.
        dims: sizes of dynamic dimensions, see :func:`planner.normal.normalise`.
        kept_in: where the normal forms of large models are kept between reads, by default
            :func:`planner.store.default_folder`.

    Raises:
        ModelError: the file is no ONNX model that can be run.
        StepsError: the steps file is malformed or does not fit the model.
    """
    normal = normalise(path, dims, kept_in=kept_in)
    declared = load_steps(steps) if steps is not None else None
    network = _network(path.stem, normal)
    return network if declared is None else network.with_steps(declared)


def _network(name: str, normal: Normal) -> Model:
    ops = _network_ops(normal.proto, normal.tensors)
    graph = graph_of(ops, normal.tensors, normal.inputs, normal.outputs)
    return Model(
        name=name,
        digest=normal.digest,
        graph=graph,
        inputs=tuple(normal.tensors[name] for name in normal.inputs),
        outputs=tuple(normal.tensors[name] for name in normal.outputs),
        assumed=normal.assumed,
        proto=normal.proto,
        steps={},
        weights=normal.weights,
    )


def _network_ops(proto: onnx.ModelProto, tensors: Mapping[str, TensorInfo]) -> tuple[Op, ...]:
    """The nodes that depend on an input; what depends on constants only stays out of the graph.

    Unless it is an output itself, or random.
    """
    live = {value.name for value in proto.graph.input}
    wanted = {value.name for value in proto.graph.output}
    ops = []
    for node in proto.graph.node:
        inputs = tuple(name for name in dict.fromkeys(reads(node)) if name in live)
        if not inputs and node.op_type not in RANDOM and wanted.isdisjoint(node.output):
            continue
        outputs = tuple(name for name in node.output if name in tensors)
        live.update(outputs)
        ops.append(Op(name=node.name, kind=node.op_type, inputs=inputs, outputs=outputs))
    return tuple(ops)


def sample_inputs(model: Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded input for the network's own inputs; see :func:`planner.infos.random_inputs`."""
    return random_inputs({info.name: info for info in model.inputs}, seed)
