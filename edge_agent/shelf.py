"""The pieces of each plan, loaded before the plan is followed and kept while it may come back.

A plan needs a head and a tail, the tail from the boundary tensors on: a lost link then costs no
recomputation. Each is parted once more between the steps and the rest, because the answer says how
long the steps took, and because then the plans that send some form of the input share one session.

Where a plan sends its request in chunks, the head is in stages, each of which ends with tensors
that can be sent.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np

from planner.chunks import Chunk
from planner.errors import CutError, InputError
from planner.graph import UNKNOWN
from planner.model import Model, sample_inputs
from planner.pieces import Piece
from planner.plans import Crossing, Plan
from planner.steps import SOURCE, made_up_message
from protos import codecs
from protos.slices import MOST, axis_of
from protos.tensors import Array

Arrays = Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a chain made (with what it was given), and how long its steps took of that."""

    arrays: dict[str, Array]
    pre_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """From some tensors to others, in up to two pieces."""

    steps: Piece | None
    rest: Piece | None

    def run(self, given: Arrays) -> Made:
        """Run both; more inputs than a piece needs are allowed.

        Raises:
            InputError: the inputs do not suit the model.
        """
        arrays, pre_s = dict(given), 0.0
        if self.steps is not None:
            begun_s = time.perf_counter()
            arrays |= _run(self.steps, arrays)
            pre_s = time.perf_counter() - begun_s
        if self.rest is not None:
            arrays |= _run(self.rest, arrays)
        return Made(arrays=arrays, pre_s=pre_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class InTurn:
    """Chains, each of which goes on where the one before ended."""

    chains: tuple[Chain, ...]

    def run(self, given: Arrays) -> Made:
        """Run all; see :meth:`Chain.run`."""
        arrays, pre_s = dict(given), 0.0
        for chain in self.chains:
            made = chain.run(arrays)
            arrays, pre_s = made.arrays, pre_s + made.pre_s
        return Made(arrays=arrays, pre_s=pre_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A boundary tensor that is sent in chunks: its *slices* along *axis*, or one that is whole."""

    crossing: Crossing
    slices: int = 1
    axis: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of the head, from what is there by then to the tensors that are sent after it."""

    chain: Chain
    sends: tuple[Outgoing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """What one plan runs.

    *early* are the answers that the head makes already, *late* those that the tail makes. Without a
    crossing the head makes all and there is no tail. The *stages* together are the head, which is
    not there a second time, and the last makes the early answers; there are none where the request
    has but one chunk.
    """

    head: Chain | InTurn
    stages: tuple[Stage, ...]
    tail: Chain
    crossing: tuple[Crossing, ...]
    early: tuple[str, ...]
    late: tuple[str, ...]
    datatypes: Mapping[str, str]


class Shelf:
    """Pieces by model and plan. Loading may go on in one thread while another runs what is here."""

    def __init__(self, models: Mapping[str, Model], *, threads: int) -> None:
        self._models = models
        self._threads = threads
        self._pieces: dict[tuple[str, str], Pieces] = {}
        self._shared: WeakValueDictionary[tuple[str, tuple[str, ...], tuple[str, ...]], Piece]
        self._shared = WeakValueDictionary()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def load(self, model: str, id_: str, plan: Plan | None) -> None:
        """Load the pieces of *plan* under *id_*; None is the whole model on the device.

        Raises:
            PlannerError: the plan does not fit the model, or ONNX Runtime refuses a piece.
        """
        with self._loading:  # two plans that share a piece must not both make it
            warm = tuple(self._shared.values())
            pieces = self._made(
                model, () if plan is None else plan.crossing, () if plan is None else plan.chunks
            )
            _warm(self._models[model], pieces, warm)
        with self._lock:
            self._pieces[model, id_] = pieces

    def unload(self, model: str, id_: str) -> None:
        """Let go of a plan's pieces; who still runs them holds them."""
        with self._lock:
            self._pieces.pop((model, id_), None)

    def __getitem__(self, key: tuple[str, str]) -> Pieces:
        with self._lock:
            return self._pieces[key]

    def _made(self, name: str, crossing: tuple[Crossing, ...], chunks: tuple[Chunk, ...]) -> Pieces:
        model = self._models[name]
        tensors = tuple(each.tensor for each in crossing)
        for tensor in tensors:
            if tensor not in model.graph.tensors:
                raise CutError(f"{name} has no tensor {tensor!r}: the plan is of another model")
        late = model.late(tensors)
        early = tuple(answer for answer in model.answers if answer not in late)
        first = (*tensors, *(answer for answer in early if answer not in tensors))
        stages = self._stages(name, _staged(model, crossing, chunks), first)
        return Pieces(
            head=InTurn(chains=tuple(stage.chain for stage in stages))
            if stages
            else self._chain(name, model.source, first),
            stages=stages,
            tail=self._chain(name, tensors, late),
            crossing=crossing,
            early=early,
            late=late,
            datatypes={tensor: model.graph.info(tensor).datatype for tensor in tensors},
        )

    def _stages(
        self, name: str, staged: Sequence[tuple[Outgoing, ...]], first: tuple[str, ...]
    ) -> tuple[Stage, ...]:
        """Part the head, which makes *first*, behind each of *staged*.

        A stage runs what its tensors need and no stage before it has run, and gives what is read
        after it besides: so no op runs twice.
        """
        model, graph = self._models[name], self._models[name].graph
        head = set(graph.needed(first, model.source)[0])
        stages, given, ran = list[Stage](), model.source, set[int]()
        for place, sends in enumerate(staged, start=1):
            own = tuple(each.crossing.tensor for each in sends)
            runs = set(graph.needed(own, model.source)[0]) - ran
            if place == len(staged):
                runs = head - ran
            ran |= runs
            later = {tensor for index in head - ran for tensor in graph.ops[index].inputs}
            later.update(first)
            made = [tensor for index in sorted(runs) for tensor in graph.ops[index].outputs]
            passed = tuple(tensor for tensor in made if tensor in later)
            stages.append(Stage(chain=self._chain(name, given, passed), sends=sends))
            given += passed
        return tuple(stages)

    def _chain(self, name: str, given: tuple[str, ...], wanted: tuple[str, ...]) -> Chain:
        """Part the way from *given* to *wanted* before its first op that is no step."""
        graph = self._models[name].graph
        indices, _ = graph.needed(wanted, given)
        ops = [graph.ops[index] for index in indices]
        steps = [op for op in ops if op.is_before]
        rest = [op for op in ops if op not in steps]
        made = {tensor for op in steps for tensor in op.outputs}
        between = tuple(dict.fromkeys(t for op in rest for t in op.inputs if t in made))
        early = tuple(tensor for tensor in wanted if tensor in made)
        late = tuple(tensor for tensor in wanted if any(tensor in op.outputs for op in rest))
        return Chain(
            steps=self._piece(name, given, tuple(dict.fromkeys((*between, *early)))),
            rest=self._piece(name, (*given, *between), late),
        )

    def _piece(self, name: str, given: tuple[str, ...], wanted: tuple[str, ...]) -> Piece | None:
        """Give the piece, which may be in use by another plan; None where nothing is wanted."""
        if not wanted:
            return None
        graph = self._models[name].graph
        indices, _ = graph.needed(wanted, given)
        read = {tensor for index in indices for tensor in graph.ops[index].inputs}
        used = tuple(tensor for tensor in given if tensor in read)
        piece = self._shared.get((name, used, wanted))
        if piece is None:
            piece = self._models[name].piece(used, wanted, threads=self._threads)
            self._shared[name, used, wanted] = piece
        return piece


def _staged(
    model: Model, crossing: tuple[Crossing, ...], chunks: tuple[Chunk, ...]
) -> list[tuple[Outgoing, ...]]:
    """Group what is sent by the stage that makes it; nothing where that is one chunk.

    Raises:
        CutError: the chunks are not those of the crossing.
    """
    coded = {each.tensor: each for each in crossing}
    if chunks and {chunk.tensor for chunk in chunks} != coded.keys():
        raise CutError(
            f"the chunks of a plan of {model.name} are not those of its crossing: plan again"
        )
    staged = list[tuple[Outgoing, ...]]()
    for chunk in chunks:
        if chunk.number > 1:
            continue
        sends = _outgoing(model, coded[chunk.tensor], chunk.of)
        if chunk.device_s > 0 or not staged:
            staged.append((sends,))
        else:
            staged[-1] += (sends,)
    count = sum(each.slices for stage in staged for each in stage)
    if count > MOST:
        raise CutError(f"a plan of {model.name} has {count} chunks, and {MOST} can be sent")
    return staged if count > 1 else []


def _outgoing(model: Model, crossing: Crossing, count: int) -> Outgoing:
    """Slice a tensor only if that can be settled now: how many chunks come is told with each."""
    info = model.graph.info(crossing.tensor)
    if info.datatype == "BYTES" or UNKNOWN in info.shape:
        return Outgoing(crossing=crossing)
    axis = axis_of(codecs.parse(crossing.codec), info.shape, count)
    if axis is None:
        return Outgoing(crossing=crossing)
    return Outgoing(crossing=crossing, slices=count, axis=axis)


def _run(piece: Piece, arrays: Arrays) -> dict[str, Array]:
    return piece.run({name: arrays[name] for name in piece.inputs})


def _warm(model: Model, pieces: Pieces, warm: tuple[Piece, ...]) -> None:
    """Run what is new once: it allocates memory, and Pillow loads its plug-ins, 8 ms (2026-11)."""
    chains = pieces.head.chains if isinstance(pieces.head, InTurn) else (pieces.head,)
    tail = pieces.tail.rest is not None and pieces.tail.rest not in warm
    if not tail and all(chain.rest is None or chain.rest in warm for chain in chains):
        return
    with suppress(InputError):  # what we made up does not suit it: the first request will tell
        made = pieces.head.run(_sample(model))
        if tail:
            pieces.tail.run(made.arrays)


def _sample(model: Model) -> dict[str, Array]:
    sample: dict[str, Array] = {}
    inputs = sample_inputs(model)
    for name in model.source:
        if name in inputs:
            sample[name] = inputs[name]
        elif name == SOURCE:
            sample[name] = np.empty(1, np.object_)
            sample[name][0] = made_up_message(model.steps)
    return sample
