"""What this node has made of published versions, on its disk: one folder for each version.

An instance writes in its own folder alone. A function with handlers has one to itself, so that no
function's code can change what another's instances open. How much all of them take is looked at by
the gateway, which may write in each. Losing any of it costs time only.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from cloud_fn.functions import retention
from cloud_fn.functions.retention import Item, Shelf
from cloud_fn.registry import Manifest
from planner.store import Entry, Store, key_of
from protos.documents import DocumentError, read_json, write_json

log = logging.getLogger(__name__)

MOST_BYTES = 8 << 30
"""What all versions' folders together may take."""

_SHELF = "shelf.json"


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    uses: int
    cost_s: float
    worth: float


class _ShelfDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["isthmus.shelf/1"] = "isthmus.shelf/1"
    clock: float
    items: dict[str, _Kept]


class GreedyDual:
    """Keeps in a version's folder what is worth most, see :mod:`cloud_fn.functions.retention`.

    Two instances that count a use at the same moment may count one, which moves nothing much.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def used(self, entry: Entry, made_s: float | None) -> None:
        shelf = retention.used(
            read_shelf(self._folder),
            entry.folder.name,
            cost_s=made_s,
            size_bytes=entry.size_bytes,
        )
        write_shelf(self._folder, shelf)

    def order(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        named = {entry.folder.name: entry for entry in entries}
        return [named[name] for name in retention.order(read_shelf(self._folder), list(named))]

    def gone(self, entry: Entry) -> None:
        write_shelf(self._folder, retention.gone(read_shelf(self._folder), entry.folder.name))


class NodeCache:
    """All versions' folders below *root*; nothing is created before a version is asked for.

    Together they take at most *most_bytes*, but for what processes hold.
    """

    def __init__(self, root: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._root = root
        self._most_bytes = most_bytes

    def folder(self, manifest: Manifest, owner: str = "") -> Path | None:
        """The folder of a version, after making room; None where it cannot be written.

        Args:
            manifest: the version.
            owner: the function that has it to itself; by default all share it.
        """
        key = key_of(msgspec.json.encode(manifest.content.identity), owner.encode())
        folder = self._root / key
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.trim()
        except OSError as error:
            log.warning("no cache of versions: folder=%s error=%s", self._root, error.strerror)
            return None
        return folder

    def trim(self) -> None:
        """Remove what is worth least until the rest fits; what a process holds stays.

        Raises:
            OSError: the folder cannot be read, or not be written.
        """
        folders = {path.name: path for path in self._root.iterdir() if path.is_dir()}
        there = {
            f"{name}/{entry.folder.name}": entry
            for name, path in folders.items()
            for entry in Store(path).entries()
        }
        total = sum(entry.size_bytes for entry in there.values())
        if total <= self._most_bytes:
            return
        shelf = _together({name: read_shelf(path) for name, path in folders.items()})
        for name in retention.order(shelf, list(there)):
            if total <= self._most_bytes:
                break
            entry = there[name]
            if Store(entry.folder.parent).remove(entry):
                shelf = retention.gone(shelf, name)
                total -= entry.size_bytes
        for name, path in folders.items():
            write_shelf(path, _part(shelf, name))


def store_in(folder: Path) -> Store:
    """What lies in a version's folder."""
    return Store(folder, keeping=GreedyDual(folder))


def read_shelf(folder: Path) -> Shelf:
    """What is known of *folder*'s entries; nothing where that is damaged."""
    try:
        document = read_json(folder / _SHELF, _ShelfDocument, what="shelf")
    except DocumentError:
        return Shelf()
    items = {
        name: Item(uses=item.uses, cost_s=item.cost_s, worth=item.worth)
        for name, item in document.items.items()
    }
    return Shelf(clock=document.clock, items=items)


def write_shelf(folder: Path, shelf: Shelf) -> None:
    """Remember *shelf*, if that can be written."""
    items = {
        name: _Kept(uses=item.uses, cost_s=item.cost_s, worth=item.worth)
        for name, item in shelf.items.items()
    }
    with suppress(OSError):
        write_json(folder / _SHELF, _ShelfDocument(clock=shelf.clock, items=items))


def _together(shelves: Mapping[str, Shelf]) -> Shelf:
    """One shelf of all; entries are named after their folder too, and the latest clock counts."""
    return Shelf(
        clock=max((shelf.clock for shelf in shelves.values()), default=0.0),
        items={
            f"{folder}/{name}": item
            for folder, shelf in shelves.items()
            for name, item in shelf.items.items()
        },
    )


def _part(shelf: Shelf, folder: str) -> Shelf:
    prefix = f"{folder}/"
    items = {n.removeprefix(prefix): i for n, i in shelf.items.items() if n.startswith(prefix)}
    return Shelf(clock=shelf.clock, items=items)
