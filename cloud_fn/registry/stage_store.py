"""The stages of versions that are beyond one instance: ``stages/<model>/<version>.json``."""

import threading
from pathlib import Path
from typing import TypeAlias

from cloud_fn.errors import RegistryError
from cloud_fn.registry.blobs import replace_whole
from cloud_fn.registry.manifest import Manifest, check_name
from planner.stagings import Staging
from protos.documents import DocumentError, encode_json, read_json

_Stamp: TypeAlias = tuple[int, int, int]


class StageStore:
    """Stagings below *root*; safe to use from several threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "stages"
        self._read: dict[Path, tuple[_Stamp, Staging]] = {}
        self._lock = threading.Lock()

    def get(self, model: str, version: int) -> Staging | None:
        """The stages of a version, read again when they have changed; None where it is whole.

        Raises:
            RegistryError: the file makes no sense.
        """
        path = self._path(model, version)
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RegistryError(f"{path} cannot be read: {error.strerror}") from error
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        with self._lock:
            known = self._read.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            found = read_json(path, Staging, what="staging")
        except DocumentError as error:
            raise RegistryError(
                f"{error}; make it again with `isthmus functions stage {model}:{version}`"
            ) from error
        with self._lock:
            self._read[path] = stamp, found
        return found

    def put(self, manifest: Manifest, staging: Staging) -> Path:
        """Keep the stages of a version, in the place of any before.

        Raises:
            RegistryError: they are of another model, or cannot be written.
        """
        if staging.digest != manifest.digest:
            raise RegistryError(
                f"the stages are of the model {staging.digest[:12]}, not of {manifest.name}:"
                f"{manifest.version}: plan them for this version"
            )
        path = self._path(manifest.name, manifest.version)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_whole(path, encode_json(staging))
        except OSError as error:
            raise RegistryError(f"{path} cannot be written: {error.strerror}") from error
        return path

    def remove(self, model: str, version: int) -> bool:
        """Have a version run whole again; says whether it did not."""
        try:
            self._path(model, version).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise RegistryError(f"the stages cannot be removed: {error.strerror}") from error
        return True

    def _path(self, model: str, version: int) -> Path:
        return self._folder / check_name(model) / f"{version}.json"
