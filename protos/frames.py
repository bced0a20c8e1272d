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
    magic, head_bytes, body_bytes = _PREFIX.unpack(_receive(sock, _PREFIX.size, begun=False))
    if magic != _MAGIC:
        raise WireError(f"the connection carries no frames: it sent {magic!r}, not {_MAGIC!r}")
    if head_bytes > MAX_HEADER_BYTES or body_bytes > max_body_bytes:
        raise WireError(
            f"a frame claims {head_bytes} + {body_bytes} bytes: send at most "
            f"{MAX_HEADER_BYTES} + {max_body_bytes}"
        )
    head = _receive(sock, head_bytes)
    try:
        header = msgspec.json.decode(head, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"a frame's header is not a JSON object: {error}") from error
    return header, _receive(sock, body_bytes)


def _receive(sock: socket.socket, size: int, *, begun: bool = True) -> memoryview:
    view = np.empty(size, np.uint8).data  # unlike a bytearray, not zeroed first
    got = 0
    while got < size:
        more = sock.recv_into(view[got:])
        if more == 0:
            where = "within a frame" if begun or got else "between frames"
            raise PeerClosed(f"the peer closed the connection {where}: connect again")
        got += more
    return view
