"""Stages as a document: what a gateway needs of them, which loads no model to read it."""

from typing import Annotated, Literal

import msgspec

from planner.plans import Certificate

SCHEMA: Literal["isthmus.staging/1"] = "isthmus.staging/1"

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Bytes = Annotated[int, msgspec.Meta(ge=0)]
Aim = Literal["latency", "throughput"]


class StageOp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An op and the tensors that it reads and makes, constants left out."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ops of one instance in order, between named tensors, and what they need there.

    ``run_s`` is what the ops take and ``moved_s`` what moves ``moved_bytes`` in and out;
    ``peak_bytes`` is the most that is alive at once beside the weights.
    """

    ops: tuple[StageOp, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run_s: Seconds
    moved_s: Seconds
    moved_bytes: Bytes
    weight_bytes: Bytes
    peak_bytes: Bytes

    @property
    def seconds(self) -> float:
        return self.run_s + self.moved_s


class Staging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's stages in order, the fewest that keep to the limits.

    ``inputs`` and ``outputs`` are the network's own, which steps may lie before and after.
    ``fewest`` is how many there must be at least, as far as that was proved: where it is the number
    of stages, no fewer will do. ``certificate`` is of the objective's value for this many.
    """

    schema: Literal["isthmus.staging/1"]
    model: str
    digest: str
    objective: Aim
    sources: tuple[str, ...]
    answers: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    stages: Annotated[tuple[Stage, ...], msgspec.Meta(min_length=1)]
    total_s: Seconds
    slowest_s: Seconds
    fewest: Annotated[int, msgspec.Meta(ge=1)]
    certificate: Certificate
