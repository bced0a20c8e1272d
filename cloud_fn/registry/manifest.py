"""The manifest: what one version of a model is. Values and pure decisions, no files."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from cloud_fn.errors import RegistryError

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")

_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class StoredFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file under its SHA-256; ``name`` is what its publisher called it, and only a label."""

    name: str
    digest: _Digest
    size_bytes: int


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name, OIP datatype and shape; -1 where any size will do."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a publisher pushed. Two versions of a model never have the same.

    ``data`` are the files that hold the model's weights, where it keeps them outside, and
    ``beside`` those that its steps name; the stored model and steps refer to them by their digests.
    ``dims`` are sizes given to dynamic dimensions.
    """

    model: StoredFile
    data: tuple[StoredFile, ...] = ()
    steps: StoredFile | None = None
    beside: tuple[StoredFile, ...] = ()
    dims: dict[str, int] = {}

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it the same as another, whatever the files were called."""
        steps = self.steps.digest if self.steps else None
        data = tuple(sorted(file.digest for file in self.data))
        return self.model.digest, data, steps, tuple(sorted(self.dims.items()))

    @property
    def files(self) -> tuple[StoredFile, ...]:
        return (self.model, *self.data, *((self.steps,) if self.steps else ()), *self.beside)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class Interface(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a version takes and gives: the network's tensors, and those around its steps."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    source: tuple[TensorSpec, ...]
    answers: tuple[TensorSpec, ...]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version, as its file in the registry says.

    ``digest`` is the planner's, over model and steps: a plan names the same. ``created`` is in
    UTC, ISO 8601.
    """

    schema: Literal["isthmus.manifest/1"] = "isthmus.manifest/1"
    name: str
    version: Annotated[int, msgspec.Meta(ge=1)]
    digest: _Digest
    content: Content
    interface: Interface
    created: str

    @property
    def size_bytes(self) -> int:
        return self.content.size_bytes


def assign(existing: Sequence[Manifest], draft: Manifest) -> Manifest:
    """The version that *draft* is: an existing one with the same content, else the next number."""
    for manifest in existing:
        if manifest.content.identity == draft.content.identity:
            return manifest
    newest = max((manifest.version for manifest in existing), default=0)
    return msgspec.structs.replace(draft, version=newest + 1)


def is_name(text: str) -> bool:
    """Whether a model may be called so; such a name is also safe as a file's."""
    return _NAME.fullmatch(text) is not None


def check_name(text: str) -> str:
    """Give *text* back if a model may be called so.

    Raises:
        RegistryError: it may not.
    """
    if not is_name(text):
        raise RegistryError(
            f"a model cannot be named {text[:80]!r}: use at most 63 of a-z 0-9 _ . -, "
            "the first a letter or digit"
        )
    return text


def parse_version(text: str) -> int | None:
    """Read a version's number; None when *text* is no number that a version could have."""
    return int(text) if _VERSION.fullmatch(text) else None
