"""What was made of a version for kinds of machines: derived, and made again where it is lost.

One file for each version, ``models/<name>/variants/<version>.json``. The files that it names lie
among the registry's other blobs. The version itself never changes by it.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from cloud_fn.errors import RegistryError
from cloud_fn.registry.manifest import Manifest, StoredFile, TensorSpec
from planner.target import Target
from protos.documents import DocumentError, read_json, write_json

PAYS_FROM = 1.05
"""How much faster a run must be for a copy of the weights in each process to be worth it."""


class Batched(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a version answers several requests at once, or in ``reason`` why it does not.

    ``graph`` takes any number of rows. It shares the variant's weights and may have some of its own
    in ``weights``, which count in its memory and its time to open. ``inputs`` are the network's,
    with -1 where they take any size; ``points`` and
    ``length`` are a :class:`cloud_fn.functions.curve.Curve`, in which one row of the usual length
    runs on the variant's own graph, as it does alone. ``prepacked`` is whether all of that was
    measured with copies of the weights. What was measured is there also where it does not pay, and
    no file is.
    """

    reason: str = ""
    graph: StoredFile | None = None
    weights: StoredFile | None = None
    inputs: tuple[TensorSpec, ...] = ()
    points: tuple[tuple[float, float], ...] = ()
    length: Annotated[int, msgspec.Meta(ge=0)] = 0
    prepacked: bool = False

    @property
    def files(self) -> tuple[StoredFile, ...]:
        return tuple(file for file in (self.graph, self.weights) if file is not None)


class Variant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version optimised for one kind of machine; see :mod:`planner.ready`.

    ``read_s`` is how long the original took until it could run, ``open_s`` how long this does;
    ``mapped_s`` and ``prepacked_s`` one run with its weights mapped and copied, None where it does
    not run on made-up input. ``measured`` is when that was, in UTC, ISO 8601. ``batched`` is None
    where nobody has looked.
    """

    target: Target
    graph: StoredFile
    document: StoredFile
    weights: StoredFile | None = None
    read_s: float
    open_s: float
    mapped_s: float | None = None
    prepacked_s: float | None = None
    measured: str
    batched: Batched | None = None

    @property
    def single(self) -> tuple[StoredFile, ...]:
        """The files for one row."""
        return (self.graph, self.document, *((self.weights,) if self.weights else ()))

    @property
    def files(self) -> tuple[StoredFile, ...]:
        return (*self.single, *(self.batched.files if self.batched else ()))

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def prepacking_pays(self) -> bool:
        """Whether its weights are to be copied where they are used much; see :func:`pays`."""
        return pays(self.mapped_s, self.prepacked_s)


class Variants(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All variants of the version whose manifest has this digest."""

    schema: Literal["isthmus.variants/1"] = "isthmus.variants/1"
    digest: str
    variants: tuple[Variant, ...] = ()


def pays(mapped_s: float | None, prepacked_s: float | None) -> bool:
    """Whether a copy of the weights is worth its memory; not where nothing was measured."""
    if mapped_s is None or prepacked_s is None:
        return False
    return mapped_s >= PAYS_FROM * prepacked_s


def read_variants(models: Path, manifest: Manifest) -> tuple[Variant, ...]:
    """What there is of *manifest*'s version; none where the file says nothing of it.

    Raises:
        RegistryError: the file is damaged.
    """
    path = path_of(models, manifest.name, manifest.version)
    if not path.exists():
        return ()
    try:
        found = read_json(path, Variants, what="variants")
    except DocumentError as error:
        raise RegistryError(f"{error}; push the model again") from error
    return found.variants if found.digest == manifest.digest else ()


def add_variant(models: Path, manifest: Manifest, variant: Variant) -> None:
    """Add *variant*, in place of another one for its target; :func:`making` must be held.

    Raises:
        OSError: the registry cannot be written.
    """
    try:
        before = read_variants(models, manifest)
    except RegistryError:  # damaged, and so replaced
        before = ()
    kept = [each for each in before if each.target != variant.target]
    document = Variants(digest=manifest.digest, variants=(*kept, variant))
    write_json(path_of(models, manifest.name, manifest.version), document)


@contextmanager
def making(models: Path, manifest: Manifest) -> Iterator[None]:
    """One process at a time makes variants of a version; the others wait.

    Raises:
        OSError: the registry cannot be written.
    """
    path = path_of(models, manifest.name, manifest.version)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def path_of(models: Path, name: str, version: int) -> Path:
    """The file of one version."""
    return models / name / "variants" / f"{version}.json"
