"""Steps and ONNX ops as one graph, from the sensor's bytes to the answer."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from protos.tensors import DATATYPES

UNKNOWN = -1
"""A dimension that is known only when a real input is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """Name, datatype and shape of a value on an edge of the graph.

    ``datatype`` is the Open Inference Protocol's name (``FP32``, ``UINT8``, ``BYTES``), or ``""``
    for a value that is no tensor (a sequence, say) and so can never cross a cut. ``shape`` holds
    :data:`UNKNOWN` where a dimension depends on the input.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def crosses(self) -> bool:
        """Whether the value can be written on a wire at all."""
        return self.datatype != ""

    @property
    def nbytes(self) -> int | None:
        """Bytes of the raw tensor, None where the shape or the element's size is not fixed."""
        if self.datatype in ("", "BYTES") or UNKNOWN in self.shape:
            return None
        return math.prod(self.shape) * DATATYPES[self.datatype].itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One step or ONNX op; ``inputs`` leaves out constants, which stay with the op that uses them.

    Outer tensors that a subgraph captures (``If``, ``Loop``, ``Scan``) are inputs like any other.
    ``after_network`` is true of a step that comes after the network.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    after_network: bool = False

    @property
    def is_step(self) -> bool:
        return self.kind.startswith("step:")

    @property
    def is_before(self) -> bool:
        """Whether it is a step before the network."""
        return self.is_step and not self.after_network

    @property
    def is_after(self) -> bool:
        """Whether it is a step after the network."""
        return self.is_step and self.after_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A directed acyclic graph of ops in topological order.

    ``sources`` are the tensors that exist before any op has run (the sensor's message, the
    network's inputs); ``answers`` those that somebody wants.
    """

    ops: tuple[Op, ...]
    tensors: Mapping[str, TensorInfo]
    sources: tuple[str, ...]
    answers: tuple[str, ...]
    producer: Mapping[str, int] = field(init=False)
    consumers: Mapping[str, tuple[int, ...]] = field(init=False)
    _flows: tuple[tuple[str, int, tuple[int, ...]], ...] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        producer: dict[str, int] = {}
        consumers: dict[str, list[int]] = {name: [] for name in self.sources}
        for index, op in enumerate(self.ops):
            for name in op.inputs:
                if name not in producer and name not in consumers:
                    raise ValueError(f"{op.name} reads {name}, which nothing before it makes")
                consumers.setdefault(name, []).append(index)
            for name in op.outputs:
                producer[name] = index
        once = {name: tuple(dict.fromkeys(at)) for name, at in consumers.items()}
        place = {name: at - len(self.sources) for at, name in enumerate(self.sources)} | producer
        flows = [(name, place[name], readers) for name, readers in once.items() if readers]
        object.__setattr__(self, "producer", producer)
        object.__setattr__(self, "consumers", once)
        object.__setattr__(self, "_flows", tuple(sorted(flows, key=lambda flow: flow[1])))

    def info(self, name: str) -> TensorInfo:
        return self.tensors[name]

    def needed(self, wanted: Iterable[str], given: Iterable[str]) -> tuple[list[int], list[str]]:
        """Walk back from *wanted* to *given*.

        Returns:
            The indices of the ops that must run, in order, and the sources that *given* lacks.
        """
        have, ops, missing = set(given), set[int](), list[str]()
        stack = [name for name in wanted if name not in have]
        seen = set(stack)
        while stack:
            name = stack.pop()
            index = self.producer.get(name)
            if index is None:
                missing.append(name)
                continue
            ops.add(index)
            for before in self.ops[index].inputs:
                if before not in have and before not in seen:
                    seen.add(before)
                    stack.append(before)
        return sorted(ops), sorted(missing)

    def boundary(self, head: frozenset[int] | set[int]) -> tuple[str, ...]:
        """The tensors that cross when the ops of *head* run first, in graph order.

        A tensor crosses when it exists before the crossing (a source, or made by the head) and an
        op outside *head* reads it, or, with nothing left of the way for an answer, not at all:
        an answer that the head makes does not cross.
        """
        return tuple(
            name
            for name, maker, readers in self._flows
            if (maker < 0 or maker in head) and not head.issuperset(readers)
        )

    def prefixes(self) -> Iterator[tuple[int, Collection[str], Collection[str]]]:
        """Walk along the graph's order, one op at a time.

        Yields, for each count of ops before the cut (0 up to all but one): the count, the tensors
        that start to cross there and those that no longer do. All cuts together take as long as
        one :meth:`boundary` does.
        """
        begins: dict[int, list[str]] = {}
        ends: dict[int, list[str]] = {}
        for name, maker, readers in self._flows:
            begins.setdefault(max(maker + 1, 0), []).append(name)
            ends.setdefault(readers[-1] + 1, []).append(name)
        for count in range(len(self.ops)):
            yield count, begins.get(count, ()), ends.get(count, ())

    def is_ideal(self, head: frozenset[int] | set[int]) -> bool:
        """Whether *head* is closed under predecessors, that is, a legal cut."""
        return all(
            self.producer[name] in head
            for index in head
            for name in self.ops[index].inputs
            if name in self.producer
        )
