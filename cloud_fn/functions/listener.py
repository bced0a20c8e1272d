"""The instance's side of the socket: frames in, frames out."""

import contextlib
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cloud_fn.errors import FunctionFailed, InvalidRequest
from cloud_fn.functions.channel import WARM
from protos.errors import WireError
from protos.frames import Turns, send_frame
from protos.tensors import Buffer

if TYPE_CHECKING:  # the host, which only names what a child will run, loads no models
    from cloud_fn.functions.instance import Executed

log = logging.getLogger(__name__)

Execute: TypeAlias = "Callable[[Buffer], Executed]"
Warm: TypeAlias = Callable[[Sequence[str]], float]
"""Loads the tail after the cut of these boundary tensors; gives the seconds that took."""

_BACKLOG = 64
_LATER_S = 0.1
_CREDENTIALS = struct.Struct("3i")


def listening(path: Path) -> socket.socket:
    """A Unix socket that only its owner may open.

    Raises:
        OSError: the path is taken, too long, or not ours to write.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        made.bind(str(path))
    finally:
        os.umask(before)
    made.listen(_BACKLOG)
    return made


def peer_of(connection: socket.socket) -> int:
    """The number of the process that connected."""
    given = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(given)[0]
    return pid


class Listener:
    """Answers frames, a thread per connection; process *peer* alone is let in."""

    def __init__(
        self, sock: socket.socket, execute: Execute, *, peer: int, warm: Warm | None = None
    ) -> None:
        self._socket = sock
        self._execute = execute
        self._warm = warm
        self._peer = peer

    def start(self) -> None:
        """Serve until the process ends."""
        threading.Thread(target=self._accept, name="instance.accept", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:  # the function has as many files open as it may
                log.error("nobody let in: error=%s", error)
                time.sleep(_LATER_S)
                continue
            if peer_of(connection) != self._peer:
                connection.close()  # one function has no business with another
                continue
            threading.Thread(
                target=self._serve, args=(connection,), name="instance.serve", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(WireError, OSError):  # the gateway is gone, or mad
            turns = Turns(connection)
            while True:
                asked, body = turns.receive()
                if WARM in asked:
                    send_frame(connection, loaded(self._warm, asked[WARM]))
                    continue
                header, reply = respond(self._execute, body)
                del body  # the next request is received while this one's memory is free
                send_frame(connection, header, reply)


def respond(execute: Execute, body: Buffer) -> tuple[dict[str, Any], bytes]:
    """Run one request; gives the header and body of the frame that answers it.

    Whatever goes wrong becomes an answer, for one bad request must not end an instance; see
    :data:`cloud_fn.functions.channel.ERRORS`.
    """
    try:
        executed = execute(body)
    except Exception as error:  # noqa: BLE001  each is an answer
        return _failure(error), b""
    return {"load_s": executed.load_s, "infer_s": executed.infer_s}, executed.body


def loaded(warm: Warm | None, tensors: object) -> dict[str, Any]:
    """Load the tail after a cut; gives the header of the frame that says so, or why not."""
    if warm is None:
        return _failure(FunctionFailed("its engine loads nothing ahead of a request"))
    if not isinstance(tensors, list) or not all(isinstance(name, str) for name in tensors):
        return _failure(InvalidRequest("a cut is written by the names of its boundary tensors"))
    try:
        return {"load_s": warm(tensors)}
    except Exception as error:  # noqa: BLE001  each is an answer
        return _failure(error)


def _failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, InvalidRequest):
        return {"error": "invalid", "message": str(error)}
    if isinstance(error, FunctionFailed):
        return {"error": "failed", "message": str(error)}
    log.error("request failed: error=%s", type(error).__name__, exc_info=error)
    if isinstance(error, MemoryError):
        return {"error": "failed", "message": OUT_OF_MEMORY}
    return {"error": "failed", "message": f"the function failed: {_sentence(error)}"}


OUT_OF_MEMORY = (
    "the function needed more memory than it may have (max_memory_bytes): send less at once, or "
    "allow it more"
)


def _sentence(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:300]
