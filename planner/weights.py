"""The one file that holds the weights of a model, for all of its pieces."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The file *name* in *folder*: the weights of a model's normal form, named by content.

    Every piece refers to this file, and ONNX Runtime maps it: its pages are there once, however
    many pieces, sessions and processes use them. The file stays for as long as this object lives.
    """

    folder: Path
    name: str
    nbytes: int
    lease: object = field(repr=False, compare=False)

    @property
    def path(self) -> Path:
        return self.folder / self.name
