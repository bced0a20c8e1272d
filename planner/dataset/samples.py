"""Samples as the planner sees them, wherever they come from."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planner.errors import InputError
from protos.tensors import Array, to_raw

Sample = Mapping[str, Array]

MAX_MESSAGE_BYTES = 256 << 20
"""A larger file is no sensor message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Samples in a fixed order, read when they are used.

    ``given`` are the tensors that every sample holds: the model's source, or its network's inputs.
    ``names`` say in errors which sample is meant. ``labels`` are the right answers, as the model
    itself spells them (the label of ``top_k``, a class's index, a text), or None.
    """

    name: str
    given: tuple[str, ...]
    names: tuple[str, ...]
    samples: Sequence[Sample]
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.samples):
            raise ValueError(f"{len(self.names)} names for {len(self.samples)} samples")
        if self.labels is not None and len(self.labels) != len(self.names):
            raise ValueError(f"{len(self.labels)} labels for {len(self.names)} samples")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, Sample]]:
        """Each sample after its name."""
        return zip(self.names, self.samples, strict=True)

    def digest(self) -> str:
        """SHA-256 of the samples and labels, not of where they lie. Reads everything."""
        digest = hashlib.sha256()
        for at, sample in enumerate(self.samples):
            label = "" if self.labels is None else self.labels[at]
            digest.update(f"{label}\0".encode())
            for name in self.given:
                content = to_raw(sample[name])
                digest.update(f"{name}\0{sample[name].shape}\0{len(content)}\0".encode())
                digest.update(content)
        return digest.hexdigest()


class Messages(Sequence[Sample]):
    """Files, each one message of the sensor.

    Args:
        paths: the files.
        name: the tensor that a message is.
        others: what every sample holds besides, by name.
    """

    def __init__(self, paths: Sequence[Path], name: str, others: Sample) -> None:
        self._paths, self._name, self._others = tuple(paths), name, dict(others)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, at: int) -> Sample:  # type: ignore[override]  # one sample, no slices
        path = self._paths[at]
        try:
            size = path.stat().st_size
            content = path.read_bytes() if size <= MAX_MESSAGE_BYTES else b""
        except OSError as error:
            raise InputError(f"sample {path} cannot be read: {error.strerror}") from error
        if size > MAX_MESSAGE_BYTES:
            raise InputError(
                f"sample {path} has {size} bytes: a sensor's message has at most "
                f"{MAX_MESSAGE_BYTES}"
            )
        return {self._name: np.array([content], dtype=np.object_), **self._others}


def spread(count: int, limit: int | None) -> Sequence[int]:
    """Which of *count* samples to take: at most *limit*, evenly spaced, so from every part."""
    if limit is None or limit >= count:
        return range(count)
    return [at * count // limit for at in range(limit)]
