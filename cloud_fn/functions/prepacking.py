"""Copies of weights in the order that kernels like best, made beside the first requests.

A session that maps its weights is there in milliseconds and shares them with all others; one with a
prepacked copy runs matrix products faster. So where that pays, a piece that is asked for again gets
one, while it goes on answering.
"""

import ctypes
import logging
import os
import resource
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from planner.errors import PlannerError
from planner.pieces import Piece

log = logging.getLogger(__name__)

AFTER = 2
"""How many answers a piece has given before it gets a copy: a lone request is not worth one."""

_ROOM = 1.5
_NICER = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Copying:
    """How a piece gets a copy: ``open`` opens the session, which takes ``size_bytes`` or less.

    ``held`` keeps the files there that it is made of.
    """

    open: Callable[[], ort.InferenceSession]
    size_bytes: int
    held: object = None


class Prepacking:
    """Gives one piece of an instance such a copy, the first that is asked for again.

    Only one at a time: each has a copy of its own, and there may be many cuts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: weakref.WeakKeyDictionary[Piece, int] = weakref.WeakKeyDictionary()
        self._copied: weakref.ref[Piece] | None = None

    def answered(self, piece: Piece, copying: Copying) -> threading.Thread | None:
        """*piece* has given an answer.

        Returns:
            What makes the copy from now on, if anything does.
        """
        with self._lock:
            if self._copied is not None and self._copied() is not None:
                return None
            count = self._answers.get(piece, 0) + 1
            self._answers[piece] = count
            if count < AFTER or not has_room(copying.size_bytes, _ROOM):
                return None
            self._copied = weakref.ref(piece)
        thread = threading.Thread(
            target=_copy, args=(piece, copying), name="instance.prepack", daemon=True
        )
        thread.start()
        return thread


def _copy(piece: Piece, copying: Copying) -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICER)
    try:
        session = copying.open()
    except (PlannerError, OSError, MemoryError) as error:
        log.warning("no prepacked weights: error=%s", error)
        return
    piece.swap(session)
    _give_back()


def has_room(size_bytes: int, times: float) -> bool:
    """Whether *size_bytes* so many *times* stay below the wall that the process's memory has."""
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit_bytes == resource.RLIM_INFINITY:
        return True
    pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
    return pages * resource.getpagesize() + size_bytes * times <= limit_bytes


def _give_back() -> None:
    """Return what the session before has freed to the system, which glibc would keep."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return  # another C library
