"""The instance's side of the socket: frames in, frames out."""

import contextlib
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cloud_fn.errors import FunctionFailed, InvalidRequest
from protos.errors import WireError
from protos.frames import recv_frame, send_frame
from protos.tensors import Buffer

if TYPE_CHECKING:  # the host, which only names what a child will run, loads no models
    from cloud_fn.functions.instance import Executed

log = logging.getLogger(__name__)

Execute: TypeAlias = "Callable[[Buffer], Executed]"

_BACKLOG = 64
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

    def __init__(self, sock: socket.socket, execute: Execute, *, peer: int) -> None:
        self._socket = sock
        self._execute = execute
        self._peer = peer

    def start(self) -> None:
        """Serve until the process ends."""
        threading.Thread(target=self._accept, name="instance.accept", daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            if peer_of(connection) != self._peer:
                connection.close()  # one function has no business with another
                continue
            threading.Thread(
                target=self._serve, args=(connection,), name="instance.serve", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(WireError, OSError):  # the gateway is gone, or mad
            while True:
                _, body = recv_frame(connection)
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
    except InvalidRequest as error:
        return {"error": "invalid", "message": str(error)}, b""
    except FunctionFailed as error:
        return {"error": "failed", "message": str(error)}, b""
    except MemoryError:
        log.exception("request failed: error=MemoryError")
        return {"error": "failed", "message": OUT_OF_MEMORY}, b""
    except Exception as error:
        log.exception("request failed: error=%s", type(error).__name__)
        return {"error": "failed", "message": f"the function failed: {_sentence(error)}"}, b""
    return {"load_s": executed.load_s, "infer_s": executed.infer_s}, executed.body


OUT_OF_MEMORY = (
    "the function needed more memory than it may have (max_memory_bytes): send less at once, or "
    "allow it more"
)


def _sentence(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:300]
