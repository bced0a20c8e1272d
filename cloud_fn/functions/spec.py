"""A function: a published version, with what an instance of it needs to know."""

import logging
from pathlib import Path
from typing import Any, Literal

import msgspec

from cloud_fn.errors import RegistryError
from cloud_fn.functions.curve import Curve
from cloud_fn.functions.node_cache import NodeCache
from cloud_fn.functions.settings import Batching, Provider, Resolved
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.registry.manifest import StoredFile, TensorSpec
from cloud_fn.registry.variants import Batched
from planner.memo import Stamp

log = logging.getLogger(__name__)


class BatchedFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a version answers several requests at once; see :class:`.variants.Batched`.

    ``stamps`` are the files'. They are looked at when the graph is opened, and not before.
    """

    graph: StoredFile
    weights: StoredFile | None = None
    inputs: tuple[TensorSpec, ...]
    curve: Curve
    prepacked: bool
    stamps: tuple[Stamp, ...]

    @property
    def files(self) -> tuple[StoredFile, ...]:
        return (self.graph, *((self.weights,) if self.weights else ()))


class ReadyFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version made ready for the kind of machine *target*; see :mod:`planner.ready`.

    Its files lie in ``folder`` under their digests. They held what they should when they were as
    ``stamps`` say, so that none need be read to open it. ``batched`` is None where requests are
    answered one by one.
    """

    target: str
    folder: str
    graph: StoredFile
    document: StoredFile
    weights: StoredFile | None = None
    prepacking_pays: bool = False
    stamps: tuple[Stamp, ...]
    batched: BatchedFiles | None = None

    @property
    def files(self) -> tuple[StoredFile, ...]:
        return (self.graph, self.document, *((self.weights,) if self.weights else ()))


class Function(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of a model under a function's name, as an instance loads it.

    ``before`` and ``after`` are handlers, which may come from ``handlers_dir``. ``ready`` is what
    the registry has for kinds of machines, and ``cache_path`` the folder in which an instance keeps
    what it has made of the version itself. ``gpu`` is its share of one, 0 to 1.
    """

    model: str
    version: int
    model_path: str
    steps_path: str | None = None
    dims: dict[str, int] = {}
    threads: int = 1
    name: str = ""
    providers: tuple[Provider, ...] = ("cpu",)
    batching: Literal["off", "auto"] | Batching = "auto"
    before: str | None = None
    after: str | None = None
    handlers_dir: str | None = None
    ready: tuple[ReadyFiles, ...] = ()
    cache_path: str | None = None
    gpu: float = 0.0

    @property
    def key(self) -> str:
        """What it is called in messages and logs."""
        version = f"{self.model}:{self.version}"
        return version if self.name in ("", self.model) else f"{self.name} ({version})"

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        catalog: Catalog,
        *,
        name: str = "",
        settings: Resolved | None = None,
        handlers_dir: str | None = None,
        cache: NodeCache | None = None,
    ) -> "Function":
        """The function that *manifest* describes, with its files where they lie.

        Args:
            manifest: the version.
            catalog: the registry that has it.
            name: what the function is called, by default as the model.
            settings: what holds for it; by default what does where nothing is said.
            handlers_dir: where its handlers may come from, beside what is installed.
            cache: what this node has made of versions, by default beside the registry's files.

        Raises:
            RegistryError: one of its files is gone.
        """
        content = manifest.content
        paths: dict[str, Path] = {file.digest: catalog.blobs.path(file) for file in content.files}
        steps = content.steps
        settled = {} if settings is None else _settled(settings)
        owner = name if settled.get("before") or settled.get("after") else ""
        folder = (cache or NodeCache(catalog.root / "cache")).folder(manifest, owner)
        return cls(
            model=manifest.name,
            version=manifest.version,
            model_path=str(paths[content.model.digest].absolute()),
            steps_path=None if steps is None else str(paths[steps.digest].absolute()),
            dims=content.dims,
            name=name,
            **settled,
            handlers_dir=handlers_dir,
            ready=_ready(manifest, catalog),
            cache_path=None if folder is None else str(folder.absolute()),
        )


def _ready(manifest: Manifest, catalog: Catalog) -> tuple[ReadyFiles, ...]:
    """What the registry has made of a version; what is damaged is as if it were not there."""
    found = []
    name = f"{manifest.name}:{manifest.version}"
    try:
        variants = catalog.variants(manifest)
    except RegistryError as error:
        log.warning("no variants: version=%s error=%s", name, error)
        return ()
    for variant in variants:
        try:
            stamps = tuple(map(catalog.blobs.checked, variant.single))
        except RegistryError as error:
            log.warning("not ready any more: version=%s error=%s", name, error)
            continue
        found.append(
            ReadyFiles(
                target=variant.target.id,
                folder=str(catalog.blobs.folder.absolute()),
                graph=variant.graph,
                document=variant.document,
                weights=variant.weights,
                prepacking_pays=variant.prepacking_pays,
                stamps=stamps,
                batched=_batched(catalog, variant.batched, name),
            )
        )
    return tuple(found)


def _batched(catalog: Catalog, batched: Batched | None, name: str) -> BatchedFiles | None:
    if batched is None or batched.graph is None:
        return None
    try:
        return BatchedFiles(
            graph=batched.graph,
            weights=batched.weights,
            inputs=batched.inputs,
            curve=Curve(points=batched.points, length=batched.length),
            prepacked=batched.prepacked,
            stamps=tuple(map(catalog.blobs.checked, batched.files)),
        )
    except (RegistryError, ValueError) as error:
        log.warning("not batched any more: version=%s error=%s", name, error)
        return None


def _settled(settings: Resolved) -> dict[str, Any]:
    """The fields that are a function's settings."""
    fields = ("threads", "providers", "gpu", "batching", "before", "after")
    return {name: getattr(settings, name) for name in fields}
