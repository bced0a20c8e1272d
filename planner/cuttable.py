"""Which ops of a model a piece consists of: decided on the graph alone, with no weights at hand."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import onnxruntime as ort

from planner.errors import CutError
from planner.graph import Graph, Op, TensorInfo
from planner.pieces import Piece
from planner.steps import Loaded, Run, live_ops, wire

# Ops that make something new at every run: never copied to both sides, though they read nothing.
RANDOM = frozenset(
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
class Chosen:
    """What a piece consists of.

    ``before`` and ``after`` name its steps. Of the network it is what leads from ``takes`` to
    ``makes``, which is empty where none of it runs.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    takes: tuple[str, ...]
    makes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuttable:
    """A model as far as its graph goes, with its steps where it has any.

    ``inputs`` and ``outputs`` are the network's own; ``graph.sources`` is what the device starts
    from (the sensor's ``bytes`` when there are steps) and ``graph.answers`` what the user wants.
    ``digest`` is the SHA-256 of the model's and the steps' bytes.
    """

    name: str
    digest: str
    graph: Graph
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    steps: Mapping[str, Run]

    @property
    def source(self) -> tuple[str, ...]:
        """The tensors that the device starts from."""
        return self.graph.sources

    @property
    def answers(self) -> tuple[str, ...]:
        """The tensors that the user wants."""
        return self.graph.answers

    def choose(self, inputs: Sequence[str], outputs: Sequence[str] | None = None) -> Chosen:
        """Everything that runs between *inputs* and *outputs*.

        Args:
            inputs: tensor names: the source, the network's inputs, or a cut's boundary tensors.
            outputs: tensor names; None takes the network's outputs when *inputs* are the
                network's inputs, and else every answer that *inputs* lead to.

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
        used = {name for op in ops for name in op.inputs} | set(wanted)
        if idle := [name for name in inputs if name not in used]:
            raise CutError(f"{', '.join(wanted)} does not need {', '.join(idle)}: leave it out")
        before = [op for op in ops if op.is_before]
        after = [op for op in ops if op.is_after]
        network = [op for op in ops if not op.is_step]
        read = {name for op in network for name in op.inputs}
        made = {name for op in network for name in op.outputs}
        given = [name for name in inputs if name not in made]
        given += [name for op in before for name in op.outputs]
        read_later = [name for op in after for name in op.inputs]
        return Chosen(
            inputs=tuple(self.graph.info(name) for name in inputs),
            outputs=wanted,
            before=tuple(op.name for op in before),
            after=tuple(op.name for op in after),
            takes=tuple(name for name in given if name in read),
            makes=tuple(name for name in dict.fromkeys((*wanted, *read_later)) if name in made),
        )

    def choose_tail(self, crossing: Sequence[str]) -> Chosen:
        """What runs after *crossing*: every answer that depends on it.

        Raises:
            CutError: *crossing* does not part the model.
        """
        self._known(crossing)
        late = self._answers_from(crossing)
        self._nothing_random_twice(crossing, self.answers, late)
        return self.choose(crossing, late)

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

    def assembled(self, chosen: Chosen, session: ort.InferenceSession | None) -> Piece:
        """The piece of which *session* is the network's part, None where it has none."""
        return Piece(
            inputs=chosen.inputs,
            outputs=chosen.outputs,
            before=[self.steps[name] for name in chosen.before],
            session=session,
            after=[self.steps[name] for name in chosen.after],
        )

    def with_steps(self, declared: Loaded) -> Self:
        """This network, which has no steps yet, with *declared* around it.

        Raises:
            StepsError: they do not fit it.
        """
        network, tensors = self.graph, dict(self.graph.tensors)
        wired = wire(declared, tensors, inputs=network.sources, outputs=network.answers)
        ops = live_ops((*wired.before, *network.ops, *wired.after), wired.answers)
        read = {name for op in ops for name in op.inputs}
        sources = tuple(name for name in wired.sources if name in read)
        graph = graph_of(ops, tensors | dict(wired.tensors), sources, wired.answers)
        return dataclasses.replace(
            self,
            digest=declared.digest(self.digest),
            graph=graph,
            outputs=tuple(info for info in self.outputs if info.name in graph.tensors),
            steps=wired.runs,
        )

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
            if op.kind in RANDOM:
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


def network_piece(chosen: Chosen, session: ort.InferenceSession) -> Piece:
    """The piece of which *session* is all there is."""
    return Piece(inputs=chosen.inputs, outputs=chosen.outputs, before=(), session=session, after=())


def graph_of(
    ops: Sequence[Op],
    tensors: Mapping[str, TensorInfo],
    sources: Sequence[str],
    answers: Sequence[str],
) -> Graph:
    """The graph of *ops*, with those of *tensors* that are in it."""
    used = {name for op in ops for name in (*op.inputs, *op.outputs)} | {*sources, *answers}
    return Graph(
        ops=tuple(ops),
        tensors={name: info for name, info in tensors.items() if name in used},
        sources=tuple(sources),
        answers=tuple(answers),
    )
