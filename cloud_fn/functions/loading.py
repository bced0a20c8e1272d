"""How an instance comes by its pieces: opened ready where that can be, and else made.

In this order: out of what the registry has for this kind of machine; out of what this node has made
for it before; from the original, as it was published. The last takes long, and so has the version
made ready beside it, once, for the instances that come after.
"""

import dataclasses
import functools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from cloud_fn.functions import pages
from cloud_fn.functions.gpus import share_bytes
from cloud_fn.functions.made_here import Made, MadeHere
from cloud_fn.functions.prepacking import Copying, has_room
from cloud_fn.functions.several import Several, several_of
from cloud_fn.functions.spec import BatchedFiles, Function, ReadyFiles
from cloud_fn.functions.stamped import is_whole
from planner.cuttable import Chosen, Cuttable, network_piece
from planner.errors import ModelError, PlannerError
from planner.model import Model, read
from planner.pieces import Piece
from planner.ready import Ready, ReadyModel, open_ready
from planner.sessions import CPU, open_on, open_session
from planner.steps import Loaded as LoadedSteps
from planner.steps import load as load_steps
from planner.target import this_target
from protos.documents import DocumentError

log = logging.getLogger(__name__)

_TAKES = 3.0
"""Making a version ready takes up to this many times its weights in memory."""
_NICER = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A piece, and how its network gets a prepacked copy of its weights where that pays.

    ``several`` is how that network answers requests together, where it is the whole one and may.
    """

    piece: Piece
    copying: Copying | None = None
    several: Several | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A version made ready, with what is known of it; ``held`` keeps its files there.

    ``batched`` is None where requests are answered one by one.
    """

    ready: Ready
    prepacking_pays: bool
    weights: Path | None
    held: Made | None = None
    batched: BatchedFiles | None = None


class Loader:
    """The pieces of one function. :meth:`load` is called by one thread at a time."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._here = MadeHere(function.cache_path)
        self._found: _Found | None = None
        self._looked = False
        self._ready_model: ReadyModel | None = None
        self._network: Model | None = None
        self._model: Model | None = None
        self._making: threading.Thread | None = None

    def load(self, inputs: Sequence[str], outputs: Sequence[str], *, is_cut: bool) -> Loaded:
        """What runs between *inputs* and *outputs*; of a cut, without outputs, the tail after it.

        Raises:
            CutError: the model has no such piece.
            PlannerError: it cannot be loaded.
        """
        if not self._looked:
            self._looked = True
            self._found = self._find()
        if self._found is not None:
            try:
                return self._load_ready(self._found, inputs, outputs, is_cut=is_cut)
            except (ModelError, DocumentError, OSError) as error:
                self._log("ready model refused: function=%s error=%s", error)
                self._found = None
        model = self._original()
        chosen = _choose(model, inputs, outputs, is_cut=is_cut)
        loaded = Loaded(piece=self._open_original(model, chosen))
        self._make_ready()
        return loaded

    def _load_ready(
        self, found: _Found, inputs: Sequence[str], outputs: Sequence[str], *, is_cut: bool
    ) -> Loaded:
        threads, ready = self._function.threads, found.ready
        alone = not outputs and (self._function.steps_path is None or not is_cut)
        if alone and (whole := ready.whole(inputs)) is not None:
            with pages.coming(found.weights):
                session = ready.open(whole, threads=threads)
            opened = functools.partial(ready.open, whole, threads=threads, prepack=True)
            several = self._several(found, whole)
            return Loaded(
                piece=network_piece(several.loosened(whole) if several else whole, session),
                copying=_copying(found, found.weights, opened),
                several=several,
            )
        model = self._ready_model
        if model is None:
            model = self._ready_model = ready.model(self._steps())
        chosen = _choose(model, inputs, outputs, is_cut=is_cut)
        if not chosen.makes:
            return Loaded(piece=model.assembled(chosen, None))
        part = model.part(chosen)
        if part is None:
            return self._load_kept(found, model, chosen)
        with pages.coming(found.weights):
            session = ready.session(part, threads=threads)
        opened = functools.partial(ready.session, part, threads=threads, prepack=True)
        return Loaded(
            piece=model.assembled(chosen, session),
            copying=_copying(found, found.weights, opened),
            several=self._several(found, chosen),
        )

    def _several(self, found: _Found, chosen: Chosen) -> Several | None:
        if found.batched is None:
            return None
        function = self._function
        return several_of(
            found.ready,
            found.batched,
            chosen,
            batching=function.batching,
            threads=function.threads,
            weights=found.weights,
        )

    def _load_kept(self, found: _Found, model: ReadyModel, chosen: Chosen) -> Loaded:
        """What the optimised graph cannot be cut for: optimised by itself, once on this node."""
        made = self._here.piece(chosen, self._original)
        if made is None:
            return Loaded(piece=self._open_original(self._original(), chosen))
        opened = functools.partial(
            open_session,
            made.graph.read_bytes(),
            level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
            threads=self._function.threads,
            folder=made.folder,
        )
        with pages.coming(made.weights):
            session = opened(prepack=False)
        prepacked = functools.partial(opened, prepack=True)
        return Loaded(
            piece=model.assembled(chosen, session),
            copying=_copying(found, made.weights, prepacked, held=made),
        )

    def _find(self) -> _Found | None:
        """The version made ready for this kind of machine, if it is anywhere."""
        if self._function.providers != CPU:
            return None
        for files in self._function.ready:
            if files.target == this_target().id and (found := self._from_registry(files)):
                return found
        made = self._here.find()
        if made is None:
            return None
        ready = self._opened(made.document, made.graph, made.folder)
        if ready is None:
            return None
        return _Found(
            ready=ready,
            prepacking_pays=made.prepacking_pays,
            weights=made.weights,
            held=made,
        )

    def _from_registry(self, files: ReadyFiles) -> _Found | None:
        for file, stamp in zip(files.files, files.stamps, strict=True):
            if not is_whole(file, stamp):
                self._log("ready model damaged: function=%s file=%s", file.name)
                return None
        folder = Path(files.folder)
        ready = self._opened(folder / files.document.digest, folder / files.graph.digest, folder)
        if ready is None:
            return None
        weights = None if files.weights is None else folder / files.weights.digest
        return _Found(
            ready=ready,
            prepacking_pays=files.prepacking_pays,
            weights=weights,
            batched=files.batched,
        )

    def _opened(self, document: Path, graph: Path, folder: Path) -> Ready | None:
        try:
            return open_ready(document, optimised=graph, folder=folder, name=self._function.key)
        except DocumentError as error:
            self._log("ready model damaged: function=%s error=%s", error)
            return None

    def _steps(self) -> LoadedSteps | None:
        path = self._function.steps_path
        return None if path is None else load_steps(Path(path))

    def _original(self) -> Model:
        """The version as it was published; takes long."""
        if self._model is None:
            function = self._function
            network = read(Path(function.model_path), dims=function.dims)
            self._network = dataclasses.replace(network, name=function.key)
            steps = self._steps()
            self._model = self._network if steps is None else self._network.with_steps(steps)
        return self._model

    def _open_original(self, model: Model, chosen: Chosen) -> Piece:
        function = self._function
        if function.providers == CPU or not chosen.makes:
            return model.open(chosen, threads=function.threads)
        session = open_on(
            model.part(chosen).SerializeToString(),
            function.providers,
            threads=function.threads,
            folder=model.folder,
            gpu_memory_bytes=share_bytes(function.gpu),
        )
        return model.assembled(chosen, session)

    def _make_ready(self) -> None:
        """Have the version made ready, once, for the instances that come after this one."""
        network, here = self._network, self._here
        if network is None or self._making is not None or not here.is_open:
            return
        if self._function.providers != CPU or not has_room(_weights_of(network), _TAKES):
            return

        def make() -> None:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICER)
            try:
                here.make(network)
            except (PlannerError, MemoryError) as error:
                self._log("not made ready: function=%s error=%s", error)

        self._making = threading.Thread(target=make, name="instance.ready", daemon=True)
        self._making.start()

    def _log(self, sentence: str, what: object) -> None:
        log.warning(sentence, self._function.key, what)


def _choose(
    model: Cuttable, inputs: Sequence[str], outputs: Sequence[str], *, is_cut: bool
) -> Chosen:
    if is_cut and not outputs:
        return model.choose_tail(inputs)  # a plan wants the answer
    return model.choose(inputs, outputs or None)


def _copying(
    found: _Found,
    weights: Path | None,
    opened: Callable[[], ort.InferenceSession],
    *,
    held: Made | None = None,
) -> Copying | None:
    if not found.prepacking_pays or weights is None:
        return None
    return Copying(open=opened, size_bytes=weights.stat().st_size, held=(found, held))


def _weights_of(network: Model) -> int:
    return network.proto.ByteSize() if network.weights is None else network.weights.nbytes
