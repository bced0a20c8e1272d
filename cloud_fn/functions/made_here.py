"""What an instance makes of its version and leaves for those after it, in the version's folder.

Without a folder, or where it cannot be written, everything is made anew each time; that is said
once.
"""

import errno
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from cloud_fn.functions.node_cache import store_in
from cloud_fn.registry.variants import pays
from planner.compiling import (
    GRAPH_FILE,
    READY_FILE,
    compile_ready,
    opened,
    race,
    write_optimised,
)
from planner.cuttable import Chosen
from planner.model import Model
from planner.sessions import WEIGHTS_FILE
from planner.store import Kept, Store, key_of
from planner.target import this_target
from protos.documents import DocumentError, read_json, write_json

log = logging.getLogger(__name__)

_RACE_FILE = "race.json"
_SPARE = 1.1


class _Raced(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See :class:`planner.compiling.Race`."""

    schema: Literal["isthmus.race/1"] = "isthmus.race/1"
    mapped_s: float | None = None
    prepacked_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A version made ready, or a piece of one, in a folder that stays as long as this object."""

    kept: Kept
    prepacking_pays: bool = False

    @property
    def graph(self) -> Path:
        return self.kept.folder / GRAPH_FILE

    @property
    def document(self) -> Path:
        return self.kept.folder / READY_FILE

    @property
    def folder(self) -> Path:
        return self.kept.folder

    @property
    def weights(self) -> Path | None:
        """Where it has large ones."""
        weights = self.kept.folder / WEIGHTS_FILE
        return weights if weights.exists() else None


class MadeHere:
    """What was made of one version for this kind of machine, below *folder*."""

    def __init__(self, folder: str | None) -> None:
        self._store: Store | None = None if folder is None else store_in(Path(folder))
        self._lock = threading.Lock()
        self._target = this_target().id

    @property
    def is_open(self) -> bool:
        """Whether anything can be left here, as far as is known."""
        return self._store is not None

    def find(self) -> Made | None:
        """The version made ready, if it was."""
        if self._store is None:
            return None
        try:
            kept = self._store.find(f"ready-{self._target}")
            if kept is None:
                return None
            raced = read_json(kept.folder / _RACE_FILE, _Raced, what="race")
        except (OSError, DocumentError) as error:
            self._shut(error)
            return None
        return Made(kept=kept, prepacking_pays=pays(raced.mapped_s, raced.prepacked_s))

    def make(self, network: Model) -> None:
        """Make the version ready, unless it is or somebody else does; then wait for that.

        Raises:
            ModelError: ONNX Runtime cannot optimise it.
        """

        def write(folder: Path) -> dict[str, str]:
            ready = opened(compile_ready(network, folder))
            raced = _Raced()
            if (found := race(ready)) is not None:
                raced = _Raced(mapped_s=found.mapped_s, prepacked_s=found.prepacked_s)
            write_json(folder / _RACE_FILE, raced)
            return {}

        self._get(f"ready-{self._target}", write, network)

    def piece(self, chosen: Chosen, model: Callable[[], Model]) -> Made | None:
        """The network's part of *chosen*, optimised by itself; None where nothing can be kept.

        Args:
            chosen: what is wanted.
            model: gives the model that it is cut from, if it has to be made.

        Raises:
            ModelError: ONNX Runtime cannot optimise it.
        """
        names = msgspec.json.encode((chosen.takes, chosen.makes))

        def write(folder: Path) -> dict[str, str]:
            whole = model()
            write_optimised(whole.part(chosen).SerializeToString(), folder, whole.folder)
            return {}

        return self._get(f"piece-{key_of(self._target.encode(), names)}", write, None)

    def _get(
        self, key: str, write: Callable[[Path], dict[str, str]], network: Model | None
    ) -> Made | None:
        if self._store is None:
            return None

        def make(folder: Path) -> dict[str, str]:
            nbytes = 0 if network is None or network.weights is None else network.weights.nbytes
            if shutil.disk_usage(folder).free < nbytes * _SPARE:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(folder)

        try:
            return Made(kept=self._store.get(key, make))
        except OSError as error:
            self._shut(error)
            return None

    def _shut(self, error: Exception) -> None:
        """Go on without the folder."""
        with self._lock:
            if self._store is not None:
                log.warning("nothing is kept of what is made here: error=%s", error)
            self._store = None
