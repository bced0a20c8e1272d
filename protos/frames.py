"""Frames between the gateway and its instances: a JSON header and a body, over a stream socket.

On the wire: ``ISF1``, header length (4 bytes), body length (8 bytes), both little-endian, then the
header and the body. The body is passed on as it is; nothing here looks inside.
"""

import socket
import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from protos.errors import WireError
from protos.tensors import Buffer

MAX_HEADER_BYTES = 1 << 20
MAX_BODY_BYTES = 1 << 30

_AT_ONCE_BYTES = 64 << 10
_MAGIC = b"ISF1"
_PREFIX = struct.Struct("<4sIQ")


class PeerClosed(WireError):
    """The other side closed the connection: between frames that is a goodbye, within one a loss."""


def send_frame(sock: socket.socket, header: Mapping[str, Any], body: Buffer = b"") -> None:
    """Send one frame without copying *body*.

    A frame that failed half way leaves the stream unusable: close the socket.

    Raises:
        WireError: the header or the body is larger than :func:`recv_frame` would accept.
        OSError: the connection failed, or its timeout passed.
    """
    head = msgspec.json.encode(header)
    view = memoryview(body).cast("B")
    if len(head) > MAX_HEADER_BYTES or len(view) > MAX_BODY_BYTES:
        raise WireError(
            f"a frame of {len(head)} + {len(view)} bytes is too large: send at most "
            f"{MAX_HEADER_BYTES} + {MAX_BODY_BYTES}"
        )
    pending = [memoryview(_PREFIX.pack(_MAGIC, len(head), len(view)) + head), view]
    while pending:
        sent = sock.sendmsg(pending)
        while pending and sent >= len(pending[0]):
            sent -= len(pending.pop(0))
        if sent:
            pending[0] = pending[0][sent:]


def recv_frame(
    sock: socket.socket, *, max_body_bytes: int = MAX_BODY_BYTES
) -> tuple[dict[str, Any], memoryview]:
    """Receive one frame.

    Returns:
        The header, and the body in memory of its own.

    Raises:
        PeerClosed: the other side closed the connection.
        WireError: what came is no frame, or a larger one than is allowed; close the socket.
        OSError: the connection failed, or its timeout passed.
    """
    prefix = _room(_PREFIX.size)
    _fill(sock, prefix, 0, begun=False)
    head_bytes, body_bytes = _sizes(prefix, max_body_bytes)
    head = _room(head_bytes)
    _fill(sock, head, 0)
    header = _header(head)
    body = _room(body_bytes)
    _fill(sock, body, 0)
    return header, body


class Turns:
    """Receives on a connection whose sides take turns: nobody sends before he was answered.

    A small frame so takes one call of the system, and not one for each of its parts.
    """

    def __init__(self, sock: socket.socket, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._socket = sock
        self._max_body_bytes = max_body_bytes
        self._buffer = _room(_AT_ONCE_BYTES)

    def receive(self) -> tuple[dict[str, Any], memoryview]:
        """Receive the frame whose turn it is; see :func:`recv_frame`.

        Raises:
            PeerClosed | WireError | OSError: as there; more than one frame came, too.
        """
        buffer = self._buffer
        got = self._at_least(_PREFIX.size, 0)
        head_bytes, body_bytes = _sizes(buffer, self._max_body_bytes)
        begin = _PREFIX.size + head_bytes
        if begin > len(buffer):
            head = _room(head_bytes)
            head[: got - _PREFIX.size] = buffer[_PREFIX.size : got]
            _fill(self._socket, head, got - _PREFIX.size)
            got = begin
        else:
            if got < begin:
                got = self._at_least(begin, got)
            head = buffer[_PREFIX.size : begin]
        header, body = _header(head), _room(body_bytes)
        come = got - begin
        if come > body_bytes:
            raise WireError("the peer sent more before it was answered: connect again")
        if come:
            body[:come] = buffer[begin:got]
        _fill(self._socket, body, come)
        return header, body

    def _at_least(self, size: int, got: int) -> int:
        """Have *size* bytes or more in the buffer, where there are *got*; gives how many."""
        while got < size:
            more = self._socket.recv_into(self._buffer[got:])
            if more == 0:
                raise _closed(begun=got > 0)
            got += more
        return got


def _sizes(prefix: memoryview, max_body_bytes: int) -> tuple[int, int]:
    """How long the header and the body are that follow."""
    magic, head_bytes, body_bytes = _PREFIX.unpack_from(prefix)
    if magic != _MAGIC:
        raise WireError(f"the connection carries no frames: it sent {magic!r}, not {_MAGIC!r}")
    if head_bytes > MAX_HEADER_BYTES or body_bytes > max_body_bytes:
        raise WireError(
            f"a frame claims {head_bytes} + {body_bytes} bytes: send at most "
            f"{MAX_HEADER_BYTES} + {max_body_bytes}"
        )
    return head_bytes, body_bytes


def _header(head: memoryview) -> dict[str, Any]:
    try:
        return msgspec.json.decode(head, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"a frame's header is not a JSON object: {error}") from error


def _room(size: int) -> memoryview:
    return np.empty(size, np.uint8).data  # unlike a bytearray, not zeroed first


def _fill(sock: socket.socket, view: memoryview, got: int, *, begun: bool = True) -> None:
    """Receive what *view* lacks, which has *got* bytes."""
    while got < len(view):
        more = sock.recv_into(view[got:])
        if more == 0:
            raise _closed(begun=begun or got > 0)
        got += more


def _closed(*, begun: bool) -> PeerClosed:
    where = "within a frame" if begun else "between frames"
    return PeerClosed(f"the peer closed the connection {where}: connect again")
