"""The cuts that devices deployed of each function: ``deployments/<name>.json`` below the root.

They outlive the gateway, so that the first instance after a restart has the tails of devices which
have not called yet. Losing any of it costs the first request of a cut its load.
"""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from cloud_fn.errors import InvalidRequest
from cloud_fn.functions.cuts import Cut, Known, cuts_of
from cloud_fn.registry.blobs import replace_whole
from cloud_fn.registry.function_store import locked
from cloud_fn.registry.manifest import is_name
from protos.documents import DocumentError, encode_json, read_json

log = logging.getLogger(__name__)

MOST_VERSIONS = 8
"""Of how many versions of a function cuts are kept, those that were deployed last."""


class DeployedVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one version, the cuts; the one that was named last at the end."""

    model: str
    version: int
    cuts: tuple[Cut, ...]


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["isthmus.deployments/1"] = "isthmus.deployments/1"
    versions: tuple[DeployedVersion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was deployed of one version of the function *name*."""

    name: str
    model: str
    version: int
    cuts: tuple[Cut, ...]


class DeploymentStore:
    """The deployments below *root*; safe to use from several threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "deployments"
        self._lock = threading.Lock()
        self._there: dict[tuple[str, str, int], frozenset[Cut]] = {}
        self._told: set[str] = set()

    def note(self, made: Kept) -> None:
        """Keep its cuts beside those that were deployed of the same version before.

        Devices say the same at each connection: what is there already is not written again.
        What cannot be kept is logged once.
        """
        key = made.name, made.model, made.version
        with self._lock:
            if self._there.get(key, frozenset()).issuperset(made.cuts):
                return
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with locked(self._folder):
                    kept = self._add(made)
            except OSError as error:
                self._warn(f"{self._path(made.name)} cannot be written: {error.strerror}")
            else:
                self._there[key] = frozenset(kept)

    def all(self) -> Iterator[Kept]:
        """What was deployed, of each function; what is damaged is logged once and left out."""
        try:
            names = [path.stem for path in self._folder.iterdir() if path.suffix == ".json"]
        except FileNotFoundError:
            return
        except OSError as error:
            self._warn(f"{self._folder} cannot be read: {error.strerror}")
            return
        for name in sorted(filter(is_name, names)):
            for each in self._read(name).versions:
                yield Kept(name=name, model=each.model, version=each.version, cuts=each.cuts)

    def _add(self, made: Kept) -> tuple[Cut, ...]:
        """Write its cuts and what was there; gives those that are kept of this version now."""
        known, others = Known(), []
        for each in self._read(made.name).versions:
            if (each.model, each.version) != (made.model, made.version):
                others.append(each)
                continue
            for cut in each.cuts:
                known.name(cut)
        for cut in made.cuts:
            known.name(cut)
        last = DeployedVersion(model=made.model, version=made.version, cuts=known.all())
        document = _Document(versions=(*others, last)[-MOST_VERSIONS:])
        replace_whole(self._path(made.name), encode_json(document))
        return known.all()

    def _read(self, name: str) -> _Document:
        path = self._path(name)
        if not path.exists():
            return _Document()
        try:
            found = read_json(path, _Document, what="deployments")
            return msgspec.structs.replace(
                found,
                versions=tuple(
                    msgspec.structs.replace(each, cuts=cuts_of(each.cuts))
                    for each in found.versions[-MOST_VERSIONS:]
                ),
            )
        except (DocumentError, InvalidRequest) as error:
            self._warn(f"{path} is left out: {error}")
            return _Document()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _warn(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("deployments not kept: %s", text)
