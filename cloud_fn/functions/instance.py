"""What happens inside an instance: decode, run a piece, encode. No sockets, no Ray."""

import dataclasses
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud_fn.errors import FunctionFailed, InvalidRequest
from cloud_fn.functions.spec import Function
from planner.errors import CutError, InputError, PlannerError
from planner.model import Model, read
from planner.pieces import Piece
from protos import wire
from protos.errors import WireError
from protos.invocation import Reply, Request, Tensor, arrays
from protos.tensors import Buffer

MAX_PIECES = 16
"""A model has 1 to 5 plans worth having over all bandwidths; the longest unused piece goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """An encoded reply and how long it took.

    ``load_s`` is 0.0 when the piece was there already; ``infer_s`` is decoding, running and
    encoding.
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
        self._model: Model | None = None
        self._pieces: OrderedDict[tuple[object, ...], Piece] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def execute(self, data: Buffer) -> Executed:
        """Answer one encoded request.

        Raises:
            InvalidRequest: it is malformed, or the function cannot run on what it holds.
            FunctionFailed: the model cannot be loaded.
        """
        began = time.perf_counter()
        try:
            request = wire.decode_request(data)
            asked = time.perf_counter()
            piece, load_s = self._piece(request)
            loaded = time.perf_counter()
            made = piece.run(arrays(request.inputs))
            body = wire.encode_reply(self._reply(request, made))
        except (WireError, InputError, CutError) as error:
            raise InvalidRequest(str(error)) from error
        except PlannerError as error:
            raise FunctionFailed(f"{self.function.key} cannot be loaded: {error}") from error
        ended = time.perf_counter()
        return Executed(body=body, load_s=load_s, infer_s=(asked - began) + (ended - loaded))

    def _reply(self, request: Request, made: dict[str, np.ndarray]) -> Reply:
        return Reply(
            model=self.function.model,
            version=str(self.function.version),
            id=request.id,
            outputs=tuple(Tensor.of(name, np.asarray(value)) for name, value in made.items()),
        )

    def _piece(self, request: Request) -> tuple[Piece, float]:
        """The piece between the request's inputs and outputs, and the seconds spent waiting."""
        names = tuple(sorted({tensor.name for tensor in request.inputs}))
        key = (names, request.outputs, request.cut is not None)
        if (piece := self._loaded(key)) is not None:
            return piece, 0.0
        began = time.perf_counter()
        with self._loading:
            piece = self._loaded(key)
            if piece is None:
                piece = self._load(names, request)
                with self._lock:
                    self._pieces[key] = piece
                    while len(self._pieces) > MAX_PIECES:
                        self._pieces.popitem(last=False)
        return piece, time.perf_counter() - began

    def _loaded(self, key: tuple[object, ...]) -> Piece | None:
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
            return self._pieces.get(key)

    def _load(self, names: tuple[str, ...], request: Request) -> Piece:
        model = self._read()
        threads = self.function.threads
        if request.cut is not None and not request.outputs:
            return model.tail(names, threads=threads)  # a plan wants the answer
        return model.piece(names, request.outputs or None, threads=threads)

    def _read(self) -> Model:
        if self._model is None:
            function = self.function
            steps = None if function.steps_path is None else Path(function.steps_path)
            model = read(Path(function.model_path), steps=steps, dims=function.dims)
            self._model = dataclasses.replace(model, name=function.key)
        return self._model
