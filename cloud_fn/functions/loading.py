"""How an instance comes by its pieces: opened ready where that can be, and else made.

In this order: out of what the registry has for this kind of machine; out of what this node has made
for it before; from the original, as it was published. The last takes long, and so has the version
made ready beside it, once, for the instances that come after.
"""

import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from cloud_fn.functions.made_here import Made, MadeHere
from cloud_fn.functions.prepacking import Copying, has_room
from cloud_fn.functions.spec import Function, ReadyFiles
from planner.cuttable import Chosen, Cuttable
from planner.errors import ModelError, PlannerError
from planner.memo import Memo
from planner.model import Model, read
from planner.pieces import Piece
from planner.ready import ReadyModel, open_ready
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
    """A piece, and how its network gets a prepacked copy of its weights where that pays."""

    piece: Piece
    copying: Copying | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A version made ready, with what is known of it; ``held`` keeps its files there."""

    model: ReadyModel
    prepacking_pays: bool
    weights_bytes: int
    held: Made | None = None


class Loader:
    """The pieces of one function. :meth:`load` is called by one thread at a time."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._here = MadeHere(function.cache_path)
        self._ready: _Ready | None = None
        self._looked = False
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
            self._ready = self._find()
        if self._ready is not None:
            try:
                return self._load_ready(self._ready, inputs, outputs, is_cut=is_cut)
            except (ModelError, OSError) as error:
                self._log("ready model refused: function=%s error=%s", error)
                self._ready = None
        model = self._original()
        chosen = _choose(model, inputs, outputs, is_cut=is_cut)
        loaded = Loaded(piece=self._open_original(model, chosen))
        self._make_ready()
        return loaded

    def _load_ready(
        self, ready: _Ready, inputs: Sequence[str], outputs: Sequence[str], *, is_cut: bool
    ) -> Loaded:
        threads, model = self._function.threads, ready.model
        chosen = _choose(model, inputs, outputs, is_cut=is_cut)
        if not chosen.makes:
            return Loaded(piece=model.assembled(chosen, None))

        def mapped(*, prepack: bool) -> ort.InferenceSession | None:
            return model.open(chosen, threads=threads, prepack=prepack)

        session = mapped(prepack=False)
        if session is None:
            return self._load_kept(ready, chosen)
        piece = model.assembled(chosen, session)
        return Loaded(piece=piece, copying=_copying(ready, ready.weights_bytes, mapped))

    def _load_kept(self, ready: _Ready, chosen: Chosen) -> Loaded:
        """What the optimised graph cannot be cut for: optimised by itself, once on this node."""
        made = self._here.piece(chosen, self._original)
        if made is None:
            return Loaded(piece=self._open_original(self._original(), chosen))
        data = made.graph.read_bytes()

        def mapped(*, prepack: bool) -> ort.InferenceSession:
            return open_session(
                data,
                level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
                threads=self._function.threads,
                folder=made.folder,
                prepack=prepack,
            )

        piece = ready.model.assembled(chosen, mapped(prepack=False))
        return Loaded(piece=piece, copying=_copying(ready, made.weights_bytes, mapped))

    def _find(self) -> _Ready | None:
        """The version made ready for this kind of machine, if it is anywhere."""
        if self._function.providers != CPU:
            return None
        steps = self._steps()
        for files in self._function.ready:
            if files.target == this_target().id and (found := self._from_registry(files, steps)):
                return found
        made = self._here.find()
        if made is None:
            return None
        try:
            model = self._opened(made.document, made.graph, made.folder, steps)
        except DocumentError as error:
            self._log("ready model damaged: function=%s error=%s", error)
            return None
        return _Ready(
            model=model,
            prepacking_pays=made.prepacking_pays,
            weights_bytes=made.weights_bytes,
            held=made,
        )

    def _from_registry(self, files: ReadyFiles, steps: LoadedSteps | None) -> _Ready | None:
        folder, memo = Path(files.folder), Memo(Path(files.memo))
        for file in files.files:
            if not memo.holds(folder / file.digest, file.digest, file.size_bytes):
                self._log("ready model damaged: function=%s file=%s", file.name)
                return None
        try:
            model = self._opened(
                folder / files.document.digest, folder / files.graph.digest, folder, steps
            )
        except DocumentError as error:
            self._log("ready model damaged: function=%s error=%s", error)
            return None
        return _Ready(
            model=model,
            prepacking_pays=files.prepacking_pays,
            weights_bytes=0 if files.weights is None else files.weights.size_bytes,
        )

    def _opened(
        self, document: Path, graph: Path, folder: Path, steps: LoadedSteps | None
    ) -> ReadyModel:
        name = self._function.key
        return open_ready(document, optimised=graph, folder=folder, name=name, steps=steps)

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
            gpu_memory_bytes=function.gpu_memory_bytes,
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
    ready: _Ready, size_bytes: int, opened: Callable[..., ort.InferenceSession | None]
) -> Copying | None:
    if not ready.prepacking_pays:
        return None
    return Copying(open=lambda: opened(prepack=True), size_bytes=size_bytes)


def _weights_of(network: Model) -> int:
    return network.proto.ByteSize() if network.weights is None else network.weights.nbytes
