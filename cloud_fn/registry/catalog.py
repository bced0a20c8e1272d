"""The catalogue: which models and versions there are. One manifest file for each version."""

import fcntl
import functools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from cloud_fn.errors import RegistryError, UnknownModel
from cloud_fn.registry.blobs import Blobs, create_whole
from cloud_fn.registry.manifest import Manifest, assign, check_name, is_name, parse_version
from cloud_fn.registry.variants import (
    Variant,
    add_variant,
    making,
    path_of,
    read_variants,
)
from planner.memo import Stamp, stamp_of
from protos.documents import DocumentError, encode_json, read_json

_SETTLED_NS = 2_000_000_000
"""A folder that changed less than so long ago may change again within the same tick of its clock,
which no stamp would show: it is listed again. Two seconds is the coarsest such clock, FAT's."""


class Catalog:
    """The registry below *root*; reading one that does not exist finds it empty.

    Safe to use from several threads and several processes at once.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = Blobs(root)
        self._models = root / "models"
        self._read: dict[tuple[str, int], Manifest] = {}  # versions never change
        self._listed: dict[str, tuple[int, tuple[int, ...]]] = {}  # by when the folder changed

    def names(self) -> tuple[str, ...]:
        """All models that have a version."""
        try:
            found = [path.name for path in self._models.iterdir() if is_name(path.name)]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise RegistryError(f"registry {self.root} cannot be read: {error.strerror}") from error
        return tuple(sorted(name for name in found if self.versions(name)))

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions of *name*, oldest first; empty when there is no such model."""
        if not is_name(name):
            return ()
        folder = _folder(self._models, name)
        try:
            changed_ns = folder.stat().st_mtime_ns
            known = self._listed.get(name)
            if known is not None and known[0] == changed_ns:
                return known[1]
            files = list(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return ()
        stems = [path.stem for path in files if path.suffix == ".json"]
        found = tuple(sorted(number for stem in stems if (number := parse_version(stem))))
        if time.time_ns() - changed_ns > _SETTLED_NS:
            self._listed[name] = changed_ns, found
        return found

    def manifest(self, name: str, version: str = "") -> Manifest:
        """What version *version* of *name* is; empty means the newest.

        Raises:
            UnknownModel: there is no such model or version.
            RegistryError: its manifest cannot be read.
        """
        versions = self.versions(name)
        if not versions:
            known = ", ".join(self.names()[:8]) or "none yet"
            raise UnknownModel(f"there is no model {name[:80]!r}: the registry has {known}")
        number = parse_version(version) if version else versions[-1]
        if number not in versions:
            known = ", ".join(map(str, versions[-8:]))
            raise UnknownModel(f"model {name} has no version {version[:20]!r}: it has {known}")
        assert number is not None
        return self._manifest(name, number)

    def manifests(self) -> tuple[Manifest, ...]:
        """Every version of every model, by name and number."""
        return tuple(
            self._manifest(name, number) for name in self.names() for number in self.versions(name)
        )

    def add(self, draft: Manifest) -> tuple[Manifest, bool]:
        """Publish *draft* under the next free number.

        Returns:
            The version, and whether it is new: content that is there already keeps its number.

        Raises:
            RegistryError: the registry cannot be written.
        """
        check_name(draft.name)
        folder = self._models / draft.name
        with _locked(folder):
            while True:
                existing = [self._manifest(draft.name, n) for n in self.versions(draft.name)]
                assigned = assign(existing, draft)
                if assigned in existing:
                    return assigned, False
                if create_whole(folder / f"{assigned.version}.json", encode_json(assigned)):
                    return assigned, True

    def variants(self, manifest: Manifest) -> tuple[Variant, ...]:
        """What was made of a version for kinds of machines; see :mod:`.variants`."""
        return read_variants(self._models, manifest)

    def variants_stamp(self, name: str, version: int) -> Stamp | None:
        """Changes whenever :meth:`variants` of a version does; None where there are none."""
        try:
            return stamp_of(path_of(self._models, name, version))
        except OSError:
            return None

    def add_variant(self, manifest: Manifest, variant: Variant) -> None:
        """Add one; see :func:`.variants.add_variant`."""
        add_variant(self._models, manifest, variant)

    def making(self, manifest: Manifest) -> AbstractContextManager[None]:
        """One process at a time makes variants of a version; see :func:`.variants.making`."""
        return making(self._models, manifest)

    def _manifest(self, name: str, number: int) -> Manifest:
        found = self._read.get((name, number))
        if found is None:
            path = self._models / name / f"{number}.json"
            try:
                found = read_json(path, Manifest, what="manifest")
            except DocumentError as error:
                raise RegistryError(f"{error}; push the model again under another name") from error
            if (found.name, found.version) != (name, number):
                raise RegistryError(
                    f"manifest {path} is that of {found.name}:{found.version}: move it back"
                )
            self._read[name, number] = found
        return found


@functools.lru_cache(maxsize=1024)
def _folder(models: Path, name: str) -> Path:
    """Of the versions of *name*; it is asked for at each request."""
    return models / name


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One push at a time for a model; the lock ends with the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
