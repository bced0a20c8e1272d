"""A function: a published version, with what an instance of it needs to know."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from cloud_fn.functions.settings import Batching, Resolved
from cloud_fn.registry import Catalog, Manifest


class Function(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of a model under a function's name, as an instance loads it.

    ``before`` and ``after`` are handlers, which may come from ``handlers_dir``.
    """

    model: str
    version: int
    model_path: str
    steps_path: str | None = None
    dims: dict[str, int] = {}
    threads: int = 1
    name: str = ""
    providers: tuple[str, ...] = ("cpu",)
    batching: Literal["off", "auto"] | Batching = "auto"
    before: str | None = None
    after: str | None = None
    handlers_dir: str | None = None

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
    ) -> "Function":
        """The function that *manifest* describes, with its files where they lie.

        Args:
            manifest: the version.
            catalog: the registry that has it.
            name: what the function is called, by default as the model.
            settings: what holds for it; by default what does where nothing is said.
            handlers_dir: where its handlers may come from, beside what is installed.

        Raises:
            RegistryError: one of its files is gone.
        """
        content = manifest.content
        paths: dict[str, Path] = {file.digest: catalog.blobs.path(file) for file in content.files}
        steps = content.steps
        return cls(
            model=manifest.name,
            version=manifest.version,
            model_path=str(paths[content.model.digest].absolute()),
            steps_path=None if steps is None else str(paths[steps.digest].absolute()),
            dims=content.dims,
            name=name,
            **({} if settings is None else _settled(settings)),
            handlers_dir=handlers_dir,
        )


def _settled(settings: Resolved) -> dict[str, Any]:
    """The fields that are a function's settings."""
    fields = ("threads", "providers", "batching", "before", "after")
    return {name: getattr(settings, name) for name in fields}
