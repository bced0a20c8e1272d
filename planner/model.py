"""A model that was read: its graph, and the pieces that can be cut from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from planner.errors import CutError
from planner.extract import extract
from planner.graph import Graph, Op, TensorInfo
from planner.infos import random_inputs
from planner.nodes import reads
from planner.normal import normalise
from planner.pieces import Piece
from planner.sessions import open_session
from planner.steps import Loaded, Run, live_ops, wire
from planner.steps import load as load_steps
from planner.weights import Weights

# Ops that make something new at every run: never copied to both sides, though they read nothing.
_RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model, with its steps where it has any.

    ``inputs`` and ``outputs`` are the network's own; ``graph.sources`` is what the device starts
    from (the sensor's ``bytes`` when there are steps) and ``graph.answers`` what the user wants.
    ``digest`` is the SHA-256 of the model's and the steps' bytes. ``proto`` is the network in
    normal form; when ``weights`` is a file, it holds references into that file and no weights, and
    so does every piece.
    """

    name: str
    digest: str
    graph: Graph
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    assumed: Mapping[str, int]
    proto: onnx.ModelProto
    steps: Mapping[str, Run]
    weights: Weights | None = None

    @property
    def source(self) -> tuple[str, ...]:
        """The tensors that the device starts from."""
        return self.graph.sources

    @property
    def answers(self) -> tuple[str, ...]:
        """The tensors that the user wants."""
        return self.graph.answers

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
        """Everything that runs between *inputs* and *outputs*.

        Args:
            inputs: tensor names: the source, the network's inputs, or a cut's boundary tensors.
            outputs: tensor names; None takes the network's outputs when *inputs* are the
                network's inputs, and else every answer that *inputs* lead to.
            threads: ONNX Runtime's intra-op threads.
            prepack: see :func:`planner.sessions.open_session`.

        Raises:
            CutError: a name is unknown, or *inputs* do not suffice to make *outputs*.
        """
        self._known(inputs)
        wanted = self._reached(inputs) if outputs is None else tuple(outputs)
        self._known(wanted)
        indices, missing = self.graph.needed(wanted, inputs)
        if missing:
            raise CutError(
                f"from {', '.join(inputs)} alone {', '.join(wanted)} cannot be made: "
                f"{', '.join(missing)} is missing"
            )
        ops = [self.graph.ops[index] for index in indices]
        used = [name for name in inputs if name in wanted or any(name in op.inputs for op in ops)]
        if idle := [name for name in inputs if name not in used]:
            raise CutError(f"{', '.join(wanted)} does not need {', '.join(idle)}: leave it out")
        network = [op for op in ops if not op.is_step]
        before = [op for op in ops if op.is_before]
        after = [op for op in ops if op.is_after]
        session = None
        if network:
            session = open_session(
                self._part(network, inputs, before, after, wanted).SerializeToString(),
                threads=threads,
                folder=self.folder,
                prepack=prepack,
            )
        return Piece(
            inputs=[self.graph.info(name) for name in inputs],
            outputs=wanted,
            before=[self.steps[op.name] for op in before],
            session=session,
            after=[self.steps[op.name] for op in after],
        )

    def head(self, crossing: Sequence[str], *, threads: int = 1) -> Piece:
        """What runs on the device before *crossing*, with the answers that it already makes."""
        self._known(crossing)
        late = self._answers_from(crossing)
        early = [name for name in self.answers if name not in late]
        outputs = (*crossing, *(name for name in early if name not in crossing))
        return self.piece(self._sources_for(outputs), outputs, threads=threads)

    def tail(self, crossing: Sequence[str], *, threads: int = 1) -> Piece:
        """What runs after *crossing*: every answer that depends on it."""
        self._known(crossing)
        late = self._answers_from(crossing)
        self._nothing_random_twice(crossing, self.answers, late)
        return self.piece(crossing, late, threads=threads)

    def late(
        self, crossing: Sequence[str], outputs: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Those of *outputs* (by default the answers) that are made after *crossing*.

        They depend on what crosses and need nothing else: an answer that also needs what has
        happened before the cut was made there.
        """
        wanted = self.answers if outputs is None else outputs
        some = [n for n in wanted if self._depends(n, set(crossing))]
        whole = tuple(name for name in some if not self.graph.needed([name], crossing)[1])
        return whole or tuple(some)  # with none that is whole, who asks for them learns why

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

    def _part(
        self,
        network: Sequence[Op],
        inputs: Sequence[str],
        before: Sequence[Op],
        after: Sequence[Op],
        wanted: Sequence[str],
    ) -> onnx.ModelProto:
        """The ONNX model of just the ops *network* of a piece."""
        made = {name for op in network for name in op.outputs}
        given = [name for name in inputs if name not in made]
        given += [name for op in before for name in op.outputs]
        read_later = [name for op in after for name in op.inputs]
        out = [name for name in dict.fromkeys((*wanted, *read_later)) if name in made]
        return extract(self.proto, given, out, self.graph.tensors)

    def _nothing_random_twice(
        self, crossing: Sequence[str], outputs: Sequence[str], late: Sequence[str]
    ) -> None:
        """Refuse a cut both of whose sides would draw the same random values, each its own."""
        before, _ = self.graph.needed(
            (*crossing, *(name for name in outputs if name not in late)), ()
        )
        after, _ = self.graph.needed(late, crossing)
        for index in sorted(set(before) & set(after)):
            op = self.graph.ops[index]
            if op.kind in _RANDOM:
                raise CutError(
                    f"{op.name} draws random values for both sides of the cut: "
                    f"let {op.outputs[0]} cross it too"
                )

    def _known(self, names: Sequence[str]) -> None:
        if not names:
            raise CutError("no tensor is named: a piece needs at least one")
        for name in names:
            if name not in self.graph.tensors:
                raise CutError(f"{self.name} has no tensor {name!r}: `isthmus inspect` lists them")

    def _sources_for(self, outputs: Sequence[str]) -> tuple[str, ...]:
        _, loose = self.graph.needed(outputs, ())
        return tuple(name for name in self.source if name in loose)

    def _depends(self, name: str, on: set[str]) -> bool:
        if name in on:
            return True
        indices, _ = self.graph.needed([name], on)
        return any(before in on for index in indices for before in self.graph.ops[index].inputs)

    def _reached(self, inputs: Sequence[str]) -> tuple[str, ...]:
        own = tuple(info.name for info in self.inputs)
        if set(inputs) == set(own) and own != self.source:
            return tuple(info.name for info in self.outputs)
        return self._answers_from(inputs)

    def _answers_from(self, inputs: Sequence[str]) -> tuple[str, ...]:
        reached = self.late(inputs)
        if not reached:
            raise CutError(f"no answer of {self.name} depends on {', '.join(inputs)}")
        return reached


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
    digest = normal.digest
    tensors = dict(normal.tensors)
    ops = _network_ops(normal.proto, tensors)
    sources, answers = normal.inputs, normal.outputs
    runs: Mapping[str, Run] = {}
    if declared is not None:
        digest = declared.digest(digest)
        sources, answers, ops, runs = _with_steps(declared, tensors, sources, answers, ops)
    used = {name for op in ops for name in (*op.inputs, *op.outputs)} | set(sources) | set(answers)
    return Model(
        name=path.stem,
        digest=digest,
        graph=Graph(
            ops=ops,
            tensors={name: info for name, info in tensors.items() if name in used},
            sources=sources,
            answers=answers,
        ),
        inputs=tuple(normal.tensors[name] for name in normal.inputs),
        outputs=tuple(normal.tensors[name] for name in normal.outputs if name in used),
        assumed=normal.assumed,
        proto=normal.proto,
        steps=runs,
        weights=normal.weights,
    )


def _with_steps(
    declared: Loaded,
    tensors: dict[str, TensorInfo],
    sources: tuple[str, ...],
    answers: tuple[str, ...],
    ops: tuple[Op, ...],
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Op, ...], Mapping[str, Run]]:
    wired = wire(declared, tensors, inputs=sources, outputs=answers)
    tensors |= wired.tensors
    live = live_ops((*wired.before, *ops, *wired.after), wired.answers)
    read_by = {name for op in live for name in op.inputs}
    return tuple(n for n in wired.sources if n in read_by), wired.answers, live, wired.runs


def _network_ops(proto: onnx.ModelProto, tensors: Mapping[str, TensorInfo]) -> tuple[Op, ...]:
    """The nodes that depend on an input; what depends on constants only stays out of the graph.

    Unless it is an output itself, or random.
    """
    live = {value.name for value in proto.graph.input}
    wanted = {value.name for value in proto.graph.output}
    ops = []
    for node in proto.graph.node:
        inputs = tuple(name for name in dict.fromkeys(reads(node)) if name in live)
        if not inputs and node.op_type not in _RANDOM and wanted.isdisjoint(node.output):
            continue
        outputs = tuple(name for name in node.output if name in tensors)
        live.update(outputs)
        ops.append(Op(name=node.name, kind=node.op_type, inputs=inputs, outputs=outputs))
    return tuple(ops)


def sample_inputs(model: Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded input for the network's own inputs; see :func:`planner.infos.random_inputs`."""
    return random_inputs({info.name: info for info in model.inputs}, seed)
