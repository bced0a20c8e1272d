"""The instance's side of the socket: frames in, frames out."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloud_fn.errors import FunctionFailed, InvalidRequest
from cloud_fn.functions.instance import Executed
from protos.errors import WireError
from protos.frames import recv_frame, send_frame
from protos.tensors import Buffer

log = logging.getLogger(__name__)

_BACKLOG = 64


class Listener:
    """Answers frames on a Unix socket that only its owner may open; a thread per connection."""

    def __init__(self, path: Path, execute: Callable[[Buffer], Executed]) -> None:
        self._path = path
        self._execute = execute
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        """Bind and serve until the process ends.

        Raises:
            OSError: the path is taken, too long, or not ours to write.
        """
        before = os.umask(0o177)
        try:
            self._socket.bind(str(self._path))
        finally:
            os.umask(before)
        self._socket.listen(_BACKLOG)
        threading.Thread(target=self._accept, name="instance.accept", daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
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


def respond(execute: Callable[[Buffer], Executed], body: Buffer) -> tuple[dict[str, Any], bytes]:
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
    except Exception as error:
        log.exception("request failed: error=%s", type(error).__name__)
        return {"error": "failed", "message": f"the function failed: {_sentence(error)}"}, b""
    return {"load_s": executed.load_s, "infer_s": executed.infer_s}, executed.body


def _sentence(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:300]
