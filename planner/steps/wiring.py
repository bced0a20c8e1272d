"""Steps as ops of the graph: who reads what, of which type and shape, and what runs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.errors import StepsError
from planner.graph import Op, TensorInfo
from planner.steps.binding import Ask, Bound, Run, Step, Unfit, Value, fits
from planner.steps.files import Loaded

SOURCE = "bytes"
"""The name of the sensor's message: a BYTES tensor of shape (1,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """The steps around one network.

    ``tensors`` are those that the steps make. ``sources`` and ``answers`` are the whole model's.
    """

    before: tuple[Op, ...]
    after: tuple[Op, ...]
    tensors: Mapping[str, TensorInfo]
    runs: Mapping[str, Run]
    sources: tuple[str, ...]
    answers: tuple[str, ...]


def wire(
    loaded: Loaded,
    tensors: Mapping[str, TensorInfo],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Wired:
    """Put the steps around a network.

    Args:
        loaded: what :func:`planner.steps.files.load` returned.
        tensors: the network's tensors.
        inputs: the names of its inputs.
        outputs: the names of its outputs.

    Raises:
        StepsError: a step reads what nothing makes, or makes or reads what it cannot; the last step
            does not make what the network takes; the steps feed no input.
    """
    steps = loaded.steps
    if SOURCE in tensors:
        raise StepsError(f"the network's input is itself called {SOURCE!r}: rename it to add steps")
    if steps.input is not None and steps.input not in inputs:
        raise StepsError(f"steps feed the input {steps.input!r}: the network has {_list(inputs)}")
    wiring = _Wiring(loaded, tensors, inputs, outputs)
    wiring.wire_before()
    wiring.wire_after()
    made = {name: value.info for name, value in wiring.values.items()}
    fed = {name for name in inputs if name in made}
    return Wired(
        before=tuple(wiring.before),
        after=tuple(wiring.after),
        tensors=made | {name: tensors[name] for name in fed},
        runs=wiring.runs,
        sources=(SOURCE, *(name for name in inputs if name not in fed)),
        answers=wiring.answers(),
    )


def live_ops(ops: Sequence[Op], answers: Sequence[str]) -> tuple[Op, ...]:
    """Those of *ops*, in topological order, that lead to an answer."""
    wanted, live = set(answers), list[Op]()
    for op in reversed(ops):
        if not wanted.isdisjoint(op.outputs):
            live.append(op)
            wanted.update(op.inputs)
    return tuple(reversed(live))


class _Wiring:
    """One pass over the steps, in order."""

    def __init__(
        self,
        loaded: Loaded,
        network: Mapping[str, TensorInfo],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        self._steps = loaded.steps
        self._files = loaded.files
        self._network = network
        self._inputs = inputs
        self._outputs = outputs
        self.values = {SOURCE: Value(name=SOURCE, datatype="BYTES", shape=(1,))}
        self.before: list[Op] = []
        self.after: list[Op] = []
        self.runs: dict[str, Run] = {}

    def wire_before(self) -> None:
        latest: tuple[str, ...] = (SOURCE,)
        last = len(self._steps.before) - 1
        for index, step in enumerate(self._steps.before):
            place = f"before step {index} {step.kind}"
            reads = step.read or latest[: step.takes]
            given = [
                _find(place, name, self.values, "no step makes", tuple(self.values))
                for name in reads
            ]
            fallback = self._steps.input if index == last else None
            makes = self._names_before(place, step, index, fallback)
            bound = self._bind(place, step, given, makes)
            for value in bound.makes:
                self._check_fed(value)
            self._add(self.before, step, (*reads, *bound.also), bound)
            latest = tuple(value.name for value in bound.makes)
        self._check_used()

    def wire_after(self) -> None:
        network = {name: _value(info) for name, info in self._network.items()}
        latest = tuple(self._outputs) if len(self._outputs) == 1 else ()
        for index, step in enumerate(self._steps.after):
            place = f"after step {index} {step.kind}"
            if not step.read and len(latest) < step.takes:
                raise StepsError(
                    f"{place} must say what it reads: the network makes {_list(self._outputs)}"
                )
            reads = step.read or latest[: step.takes]
            known = self.values | network
            there = (*(name for name in self.values if name != SOURCE), *self._outputs)
            given = [
                _find(place, name, known, "the network does not make", there) for name in reads
            ]
            makes = self._names_after(place, step, reads[0])
            bound = self._bind(place, step, given, makes)
            self._add(self.after, step, (*reads, *bound.also), bound)
            latest = tuple(value.name for value in bound.makes)

    def answers(self) -> tuple[str, ...]:
        """What the user wants, see :class:`planner.steps.declare.Steps`."""
        made = [name for op in self.after for name in op.outputs]
        if self._steps.answers is not None:
            for name in self._steps.answers:
                if name not in made and name not in self._outputs:
                    raise StepsError(
                        f"answers names {name!r}, which neither the network nor a step after it "
                        f"makes: there are {_list([*self._outputs, *made])}"
                    )
            return tuple(dict.fromkeys(self._steps.answers))
        read = {name for op in self.after for name in op.inputs}
        return tuple(name for name in (*made, *self._outputs) if name not in read)

    def _bind(self, place: str, step: Step, given: Sequence[Value], makes: Sequence[str]) -> Bound:
        least, most = step.takes, len(given) if step.several else step.takes
        if not least <= len(given) <= most:
            raise StepsError(f"{place} reads {len(given)} tensors: it takes {step.takes}")
        try:
            return step.bind(Ask(given=given, makes=makes, files=self._files))
        except Unfit as error:
            raise StepsError(f"{place} {error}: mend steps.json") from error

    def _names_before(
        self, place: str, step: Step, index: int, fallback: str | None
    ) -> tuple[str, ...]:
        named, roles = step.named, step.roles
        if step.feeds:
            roles = roles[: len(named)] or tuple(role for role in roles if role in self._inputs)
        elif not named and fallback is not None:
            named = (fallback,)
        self._check_count(place, step)
        names = list(named)
        for role in roles[len(named) :]:
            taken = role in self.values or (role in self._network and not step.feeds)
            names.append(f"{role}#{index}" if taken else role)
        self._check_free(place, names, set(self._network) - set(self._inputs))
        return tuple(names)

    def _names_after(self, place: str, step: Step, read: str) -> tuple[str, ...]:
        self._check_count(place, step)
        rest = step.roles[len(step.named) :]
        taken = self.values.keys() | self._network.keys()
        free = (f"{role}_{read}" if role in taken else role for role in rest)
        names = (*step.named, *free)
        self._check_free(place, names, set(self._network))
        return names

    def _check_count(self, place: str, step: Step) -> None:
        if len(step.named) > len(step.roles):
            raise StepsError(
                f"{place} has {len(step.named)} names in makes: it makes {_list(step.roles)}"
            )

    def _check_free(self, place: str, names: Sequence[str], network: set[str]) -> None:
        for name in names:
            if name in network:
                raise StepsError(
                    f"the steps make {name}, which the network has already: give {place} another "
                    "name in makes"
                )
            if name in self.values or names.count(name) > 1 or not name:
                raise StepsError(
                    f"{place} makes {name!r}, which is made already: give it another in makes"
                )

    def _check_fed(self, value: Value) -> None:
        if value.name not in self._inputs:
            return
        wanted = self._network[value.name]
        if value.datatype != wanted.datatype or not fits(value.shape, wanted.shape):
            raise StepsError(
                f"the steps make {value.datatype} {list(value.shape)} but the network's input "
                f"{wanted.name} takes {wanted.datatype} {list(wanted.shape)}: mend steps.json"
            )

    def _check_used(self) -> None:
        """Every step before the network leads to one of its inputs."""
        inputs = self._inputs
        if not any(name in inputs for op in self.before for name in op.outputs):
            raise StepsError(f"the steps feed none of the network's inputs, {_list(inputs)}")
        later = {n for op in self.before for n in op.inputs}
        later |= {n for step in self._steps.after for n in step.read}
        for op in self.before:
            if not any(name in inputs or name in later for name in op.outputs):
                raise StepsError(
                    f"{op.name} makes {_list(op.outputs)}, which nothing reads: leave it out or "
                    f"name one of the network's inputs, {_list(inputs)}, in makes"
                )

    def _add(self, ops: list[Op], step: Step, reads: Sequence[str], bound: Bound) -> None:
        outputs = tuple(value.name for value in bound.makes)
        op = Op(
            name=f"step:{outputs[0]}",
            kind=f"step:{step.kind}",
            inputs=tuple(dict.fromkeys(reads)),
            outputs=outputs,
            after_network=ops is self.after,
        )
        self.values |= {value.name: value for value in bound.makes}
        self.runs[op.name] = Run(
            step=step, inputs=tuple(reads), outputs=outputs, function=bound.run
        )
        ops.append(op)


def _find(
    place: str, name: str, known: Mapping[str, Value], why: str, there: Sequence[str]
) -> Value:
    if name not in known:
        raise StepsError(f"{place} reads {name!r}, which {why}: there are {_list(there)}")
    return known[name]


def _value(info: TensorInfo) -> Value:
    return Value(name=info.name, datatype=info.datatype, shape=info.shape)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
