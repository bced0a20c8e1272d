"""The way of one invocation through a model's stages, told from the names of its tensors.

An invocation need not be the whole model: a tail begins at a cut's boundary tensors, and a client
may ask for any tensor. Each stage then runs those of its ops that are needed, or none.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from planner.errors import CutError
from planner.graph import Graph, Op
from planner.stagings import Staging


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """What one stage is asked: between which tensors, and which of all the chain may then drop."""

    stage: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    spent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The legs in order, and the tensors that are the answer; some of these may be given."""

    legs: tuple[Leg, ...]
    answers: tuple[str, ...]


class Routes:
    """Routes through one staging."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        ops = [(at, op) for at, stage in enumerate(staging.stages) for op in stage.ops]
        self._stage_of = [at for at, _ in ops]
        self._graph = Graph(
            ops=tuple(
                Op(name=op.name, kind="", inputs=op.inputs, outputs=op.outputs) for _, op in ops
            ),
            tensors={},
            sources=staging.sources,
            answers=staging.answers,
        )
        self._known = {*self._graph.producer, *self._graph.consumers}

    def find(
        self, given: Sequence[str], wanted: Sequence[str] = (), *, answer: bool = False
    ) -> Route:
        """From *given* to *wanted*.

        Args:
            given: the names of the request's inputs.
            wanted: the tensors that it asks for; with none it is what
                :meth:`planner.model.Model.piece` takes.
            answer: with none asked for, the graph's answers are wanted, and never the network's.

        Raises:
            CutError: a name is unknown, or *given* do not suffice, or are not all needed.
        """
        staging = self._staging
        for name in (*given, *wanted):
            if name not in self._known:
                raise CutError(
                    f"{staging.model} has no tensor {name!r}: `isthmus inspect` lists them"
                )
        wanted = tuple(wanted) or self._reached(given, answer=answer)
        indices, missing = self._graph.needed(wanted, given)
        if missing or not given:
            raise CutError(
                f"from {', '.join(given) or 'nothing'} alone {', '.join(wanted)} cannot be made: "
                f"{', '.join(missing) or 'an input'} is missing"
            )
        used = {name for i in indices for name in self._graph.ops[i].inputs}.union(wanted)
        if idle := [name for name in given if name not in used]:
            raise CutError(f"{', '.join(wanted)} does not need {', '.join(idle)}: leave it out")
        return Route(legs=self._legs(indices, given, wanted), answers=wanted)

    def _reached(self, given: Sequence[str], *, answer: bool) -> tuple[str, ...]:
        staging = self._staging
        if not answer and set(given) == set(staging.inputs) and staging.inputs != staging.sources:
            return staging.outputs
        some = [name for name in staging.answers if self._depends(name, given)]
        late = [name for name in some if not self._graph.needed([name], given)[1]]
        if not some:
            raise CutError(f"no answer of {staging.model} depends on {', '.join(given)}")
        return tuple(late or some)

    def _depends(self, name: str, given: Collection[str]) -> bool:
        indices, _ = self._graph.needed([name], given)
        return name in given or any(
            each in given for i in indices for each in self._graph.ops[i].inputs
        )

    def _legs(
        self, indices: Sequence[int], given: Sequence[str], wanted: Sequence[str]
    ) -> tuple[Leg, ...]:
        ops = self._graph.ops
        last: dict[str, int] = {}
        for i in indices:
            last |= dict.fromkeys(ops[i].inputs, self._stage_of[i])
        legs = []
        for stage in dict.fromkeys(self._stage_of[i] for i in indices):
            mine = [ops[i] for i in indices if self._stage_of[i] == stage]
            made = [name for op in mine for name in op.outputs if name not in given]
            read = dict.fromkeys(name for op in mine for name in op.inputs)
            inputs = tuple(name for name in read if name not in made)
            legs.append(
                Leg(
                    stage=stage,
                    inputs=inputs,
                    outputs=tuple(n for n in made if n in wanted or last.get(n, -1) > stage),
                    spent=tuple(n for n in inputs if n not in wanted and last[n] == stage),
                )
            )
        return tuple(legs)
