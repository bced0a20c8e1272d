"""Steps and ONNX ops as one graph, from the sensor's bytes to the answer."""

import math
from collections.abc import Iterable, Mapping
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
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def is_step(self) -> bool:
        return self.kind.startswith("step:")


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

    def __post_init__(self) -> None:
        producer: dict[str, int] = {}
        consumers: dict[str, list[int]] = {name: [] for name in self.sources}
        for index, op in enumerate(self.ops):
            for name in op.inputs:
                if name not in producer and name not in self.sources:
                    raise ValueError(f"{op.name} reads {name}, which nothing before it makes")
                consumers.setdefault(name, []).append(index)
            for name in op.outputs:
                producer[name] = index
        object.__setattr__(self, "producer", producer)
        object.__setattr__(
            self, "consumers", {name: tuple(dict.fromkeys(at)) for name, at in consumers.items()}
        )

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
        crossing = [
            name
            for name, readers in self.consumers.items()
            if (name in self.sources or self.producer[name] in head)
            and any(reader not in head for reader in readers)
        ]
        place = {name: i for i, name in enumerate(self.sources)}
        start = len(place)
        return tuple(
            sorted(crossing, key=lambda n: place[n] if n in place else start + self.producer[n])
        )

    def is_ideal(self, head: frozenset[int] | set[int]) -> bool:
        """Whether *head* is closed under predecessors, that is, a legal cut."""
        return all(
            self.producer[name] in head
            for index in head
            for name in self.ops[index].inputs
            if name in self.producer
        )
