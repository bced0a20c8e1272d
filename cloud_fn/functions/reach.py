"""Where a host or an instance listens, on this node or on another, and a connection to it."""

import contextlib
import socket
import threading
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from cloud_fn.functions import proving
from protos.errors import WireError
from protos.frames import recv_frame, send_frame

HOST = "host"
"""What is asked of a door for the host itself, and not for one of its instances."""

_LOST_AFTER_PROBES = 2


class NotThere(ConnectionError):
    """The door is open, and what is wanted is not behind it; ``complaint`` is a host's reason."""

    def __init__(self, message: str, complaint: str | None = None) -> None:
        super().__init__(message, complaint)
        self.message = message
        self.complaint = complaint

    def __str__(self) -> str:
        return self.complaint or self.message


class Cord:
    """All connections to one host, which end together when the host is given up.

    A node that vanishes says no goodbye: whoever waits for an answer from it would wait on.
    """

    def __init__(self) -> None:
        self._held: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._is_cut = False

    @property
    def is_cut(self) -> bool:
        return self._is_cut

    def hold(self, sock: socket.socket) -> None:
        """Have *sock* end with the rest.

        Raises:
            ConnectionError: they have ended.
        """
        with self._lock:
            if self._is_cut:
                raise ConnectionResetError("its host was lost")
            self._held.add(sock)

    def cut(self) -> None:
        """End them all, and every later one; their owners still have to close them."""
        with self._lock:
            self._is_cut = True
            held = tuple(self._held)
        for sock in held:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Near:
    """A Unix socket on this node."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Far:
    """Behind the door of a host on another node: *to* is the host, or an instance's token."""

    host: str
    port: int
    secret: bytes = field(repr=False)
    cord: Cord = field(repr=False, compare=False)
    to: str = HOST


Address: TypeAlias = Near | Far


def connect(address: Address, *, timeout_s: float) -> socket.socket:
    """Connect, and prove who we are where that has to be proven; *timeout_s* holds for all of it.

    Raises:
        NotThere: the door is there, and what is wanted is not behind it.
        OSError: nobody listens there, or whoever does is not who it should be.
    """
    match address:
        case Near(path=path):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.settimeout(timeout_s)
                made.connect(str(path))
            except OSError:
                made.close()
                raise
            return made
        case Far():
            return _through(address, time.monotonic() + timeout_s, timeout_s)


def _through(far: Far, until_s: float, timeout_s: float) -> socket.socket:
    made = socket.create_connection((far.host, far.port), timeout_s)
    try:
        far.cord.hold(made)
        tune(made)
        expected = proving.prove(made, far.secret, until_s=until_s)
        # Sent before the door has proven itself, which spares a round trip: it is no secret.
        send_frame(made, {"to": far.to})
        proving.check(made, expected, until_s=until_s)
        answer = _answer(made, until_s)
    except (WireError, OSError) as error:
        made.close()
        if isinstance(error, OSError):
            raise
        raise ConnectionError(f"what listens at {far.host}:{far.port} is no door") from error
    if (why := answer.get("error")) is not None:
        made.close()
        complaint = answer.get("complaint")
        raise NotThere(str(why), None if complaint is None else str(complaint))
    return made


def _answer(sock: socket.socket, until_s: float) -> dict[str, Any]:
    sock.settimeout(max(0.001, until_s - time.monotonic()))
    header, _ = recv_frame(sock, max_body_bytes=0)
    return header


def tune(sock: socket.socket) -> None:
    """Have small frames leave at once, and a peer that vanished while all was quiet be noticed.

    There is no ``TCP_USER_TIMEOUT``: it also ends a connection whose peer is well but too busy to
    read, such as an instance that computes while its next request arrives.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        sock.setsockopt(socket.IPPROTO_TCP, name, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _LOST_AFTER_PROBES)
