"""An instance's network for requests that are there at once.

A lone request runs on the graph for one row, as if there were no other. Only when more are there
than the engine runs at a time is the graph for several opened, beside what is being answered; from
then on those that wait run together. What goes around the network, steps and handlers, stays each
request's own.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cloud_fn.functions.batcher import Batcher
from cloud_fn.functions.curve import Curve
from cloud_fn.functions.joining import Arrays, Form, Run, Unbatchable
from cloud_fn.functions.prepacking import has_room
from cloud_fn.functions.several import Several
from cloud_fn.functions.trial import prove, samples
from planner.errors import InputError, PlannerError
from planner.pieces import Network, Piece

log = logging.getLogger(__name__)

_NICER = 5
_ROOM = 1.5
_SEEDS = (0, 2)


@dataclass(slots=True)
class Visit:
    """One request's stay. ``opened_s`` is what it waited for the graph for several to be opened."""

    network: Network | None = None
    opened_s: float = 0.0


class Together:
    """Safe in several threads; opens nothing before it must."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._inside = 0
        self._opening = threading.Lock()
        self._asked: threading.Thread | None = None
        self._joint: Batcher | None = None
        self._failed = False

    @contextmanager
    def visit(
        self, piece: Piece, several: Several | None, *, deadline_s: float | None = None
    ) -> Iterator[Visit]:
        """A request is about to run on *piece*, the whole of whose network *several* is.

        Args:
            piece: what it runs on.
            several: None where its network's part must run alone.
            deadline_s: when nobody wants its answer any more, on this object's clock.

        Returns:
            What is to run the network, None where that is the piece's own.
        """
        if several is None:
            yield Visit()
            return
        with self._lock:
            self._inside += 1
            crowded = self._inside > several.width
            joint = self._joint
        try:
            if crowded and joint is None:
                self._ask(piece, several)
            visit = Visit()
            if joint is not None or several.may_pad:
                visit.network = self._network(visit, piece, several, deadline_s)
            yield visit
        finally:
            with self._lock:
                self._inside -= 1

    def _network(
        self, visit: Visit, piece: Piece, several: Several, deadline_s: float | None
    ) -> Network:
        def run(feeds: Arrays) -> Arrays:
            joint = self._joint
            if joint is None:
                if several.is_usual(feeds):
                    return piece.network(feeds)
                began_s = self._clock()
                joint = self._open(piece, several)
                visit.opened_s = self._clock() - began_s
            if joint is None:
                shapes = ", ".join(f"{n} of {list(s)}" for n, s in several.usual.items())
                raise InputError(
                    f"only {shapes} can be answered now: the graph for other lengths cannot be "
                    "opened, and the function's log says why"
                )
            return joint.submit(feeds, deadline_s).result()

        return run

    def _ask(self, piece: Piece, several: Several) -> None:
        """Have the graph opened beside the requests, once."""
        with self._lock:
            if self._asked is not None or self._failed:
                return
            self._asked = threading.Thread(
                target=self._open_beside, args=(piece, several), name="instance.batch", daemon=True
            )
        self._asked.start()

    def _open_beside(self, piece: Piece, several: Several) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICER)
        self._open(piece, several)

    def _open(self, piece: Piece, several: Several) -> Batcher | None:
        with self._opening:
            if self._joint is None and not self._failed:
                joint = None
                try:
                    joint = _open(piece, several, self._clock)
                except (PlannerError, Unbatchable, OSError, MemoryError) as error:
                    reason = " ".join(str(error).split())[:200]
                    log.warning("requests run one by one: error=%s", reason)
                with self._lock:
                    self._joint, self._failed = joint, joint is None
            return self._joint


def _open(piece: Piece, several: Several, clock: Callable[[], float]) -> Batcher:
    """Open the graph for several rows.

    Raises:
        PlannerError | OSError | MemoryError: it cannot be.
    """
    if several.copy_bytes and not has_room(several.copy_bytes, _ROOM):
        raise MemoryError("no room for a copy of the weights: allow it more max_memory_bytes")
    session = several.open()
    names = [value.name for value in session.get_outputs()]

    def several_rows(feeds: Arrays) -> Arrays:
        try:
            made = session.run(names, dict(feeds))
        except Exception as error:  # ONNX Runtime's own classes share no base but Exception
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"the model cannot run on this input: {reason}") from error
        return dict(zip(names, made, strict=True))

    def run(feeds: Arrays) -> Arrays:
        return piece.network(feeds) if several.is_usual(feeds) else several_rows(feeds)

    form, curve = _form(several_rows, several)
    log.info("requests run together: form=%s width=%d", ",".join(form.pad), several.width)
    return Batcher(run, form, curve, several.settings, width=several.width, clock=clock)


def _form(several_rows: Run, several: Several) -> tuple[Form, Curve]:
    """How requests are joined: padded only where that was tried here and changed no answer.

    What a function's inputs are padded with is its owner's word, which a push has not heard.
    """
    plain = Form.of(several.inputs, {})
    if not several.settings.pad:
        return plain, several.curve.unpadded()
    try:
        form = Form.of(several.inputs, several.settings.pad)
        length = several.curve.length
        for seed in _SEEDS:
            form = prove(several_rows, form, samples(form, length=length, seed=seed))
    except Unbatchable as error:
        log.warning("only requests of the same length run together: error=%s", error)
        return plain, several.curve.unpadded()
    return form, several.curve
