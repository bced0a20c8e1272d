"""What happens inside an instance: decode, run a piece, encode. No sockets, no Ray."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud_fn.errors import DeadlinePassed, FunctionFailed, InvalidRequest
from cloud_fn.functions.handlers import Handlers
from cloud_fn.functions.loading import Loaded, Loader
from cloud_fn.functions.prepacking import Prepacking
from cloud_fn.functions.spec import Function
from cloud_fn.functions.together import Together
from planner.errors import CutError, InputError, PlannerError
from protos import wire
from protos.errors import WireError
from protos.invocation import Reply, Request, Tensor, arrays
from protos.tensors import Buffer

MAX_PIECES = 20
"""A model has 1 to 5 plans worth having over all bandwidths, and at most 16 cuts are deployed; the
longest unused piece goes."""


_NONE = Handlers()


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """An encoded reply and how long it took.

    ``load_s`` is 0.0 when the piece was there already; ``infer_s`` is decoding, running, with the
    wait for others' batches, and encoding.
    """

    body: bytes
    load_s: float
    infer_s: float


class Instance:
    """One function's pieces, each loaded when it is first asked for.

    :meth:`execute` may be called from several threads.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self._loader = Loader(function)
        self._handlers = _NONE if not (function.before or function.after) else None
        self._prepacking = Prepacking()
        self._together = Together()
        self._pieces: OrderedDict[tuple[object, ...], Loaded] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def execute(self, data: Buffer) -> Executed:
        """Answer one encoded request.

        Raises:
            InvalidRequest: it is malformed, or the function cannot run on what it holds.
            FunctionFailed: the model cannot be loaded, or a handler of its own failed.
        """
        began = time.perf_counter()
        with self._told():
            request = wire.decode_request(data)
            is_cut = request.cut is not None
            handlers, imported_s = (_NONE, 0.0) if is_cut else self._own_python()
            given = handlers.given(arrays(request.inputs))
            found, opened_s = self._piece(set(given), request.outputs, is_cut=is_cut)
            deadline_s = None if request.deadline_ms is None else began + request.deadline_ms / 1e3
            with self._together.visit(found.piece, found.several, deadline_s=deadline_s) as visit:
                answers = found.piece.run(given, network=visit.network)
            made = handlers.made(answers)
            body = wire.encode_reply(self._reply(request, made))
        ended = time.perf_counter()
        if found.copying is not None:
            self._prepacking.answered(found.piece, found.copying)
        load_s = imported_s + opened_s + visit.opened_s
        return Executed(body=body, load_s=load_s, infer_s=max(0.0, ended - began - load_s))

    def warm(self, tensors: Sequence[str]) -> float:
        """Have the tail after the cut of these boundary tensors ready; gives the seconds it took.

        Raises:
            InvalidRequest: they do not part the function's model in two.
            FunctionFailed: the model cannot be loaded.
        """
        with self._told():
            return self._piece(set(tensors), (), is_cut=True)[1]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what is wrong in the words of whoever called."""
        try:
            yield
        except (WireError, InputError, CutError) as error:
            raise InvalidRequest(str(error)) from error
        except PlannerError as error:
            raise FunctionFailed(f"{self.function.key} cannot be loaded: {error}") from error
        except DeadlinePassed as error:  # the gateway has told its caller so by then
            raise FunctionFailed(str(error)) from error

    def _reply(self, request: Request, made: dict[str, np.ndarray]) -> Reply:
        return Reply(
            model=self.function.model,
            version=str(self.function.version),
            id=request.id,
            outputs=tuple(Tensor.of(name, np.asarray(value)) for name, value in made.items()),
        )

    def _own_python(self) -> tuple[Handlers, float]:
        """The function's handlers, and the seconds spent on importing them.

        They are for whole requests: a device that runs a head has the steps that come before.
        """
        if self._handlers is not None:
            return self._handlers, 0.0
        began = time.perf_counter()
        with self._loading:
            if self._handlers is None:
                function = self.function
                folder = None if function.handlers_dir is None else Path(function.handlers_dir)
                self._handlers = Handlers.load(function.before, function.after, folder=folder)
        return self._handlers, time.perf_counter() - began

    def _piece(
        self, inputs: set[str], outputs: tuple[str, ...], *, is_cut: bool
    ) -> tuple[Loaded, float]:
        """The piece between inputs and outputs, and the seconds spent waiting for it."""
        names = tuple(sorted(inputs))
        key = (names, outputs, is_cut)
        if (found := self._loaded(key)) is not None:
            return found, 0.0
        began = time.perf_counter()
        with self._loading:
            found = self._loaded(key)
            if found is None:
                found = self._loader.load(names, outputs, is_cut=is_cut)
                with self._lock:
                    self._pieces[key] = found
                    while len(self._pieces) > MAX_PIECES:
                        self._pieces.popitem(last=False)
        return found, time.perf_counter() - began

    def _loaded(self, key: tuple[object, ...]) -> Loaded | None:
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
            return self._pieces.get(key)
