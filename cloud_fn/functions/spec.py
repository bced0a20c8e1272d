"""A function: a published version, with what an instance of it needs to know."""

from pathlib import Path

import msgspec

from cloud_fn.registry import Catalog, Manifest


class Function(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of a model, as an instance loads it."""

    model: str
    version: int
    model_path: str
    steps_path: str | None = None
    dims: dict[str, int] = {}
    threads: int = 1

    @property
    def key(self) -> str:
        """What it is called in messages and logs."""
        return f"{self.model}:{self.version}"

    @classmethod
    def of(cls, manifest: Manifest, catalog: Catalog, *, threads: int) -> "Function":
        """The function that *manifest* describes, with its files where they lie.

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
            threads=threads,
        )
