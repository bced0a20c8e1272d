"""The door of a host for a gateway on another node: TCP outside, the host's Unix sockets inside.

Bytes go through unread; what a gateway and an instance say to each other is the same on one node
and between two.
"""

import contextlib
import ipaddress
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloud_fn.functions import proving
from cloud_fn.functions.reach import HOST, Near, connect, tune
from cloud_fn.runtime_dir import HostFolder
from protos.errors import WireError
from protos.frames import recv_frame, send_frame

log = logging.getLogger(__name__)

_BACKLOG = 64
_PROVE_S = 2.0
_NEAR_S = 2.0
_MOST_UNPROVEN = 64
_TELL_EVERY_S = 60.0
_LATER_S = 0.1
_CHUNK_BYTES = 1 << 16
"""What a pipe holds. Splicing took 0.21 ms where copying took 0.32 at 150 KB, and 7.1 where it took
8.5 at 3 MB; no less at 4 KB and 600 KB (one run each, 2026-11)."""
_INSTANCE = re.compile(r"[0-9a-f]{8}")


class Door:
    """Listens from :meth:`open` to :meth:`close`; says when no gateway has been heard for long."""

    def __init__(
        self,
        files: HostFolder,
        *,
        secret: bytes,
        silence_s: float,
        silent: Callable[[], None],
        prove_s: float = _PROVE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            files: the folder of the host, with its socket and its instances'.
            secret: what whoever comes must know; see :mod:`cloud_fn.functions.proving`.
            silence_s: for how long nothing may be said to the host.
            silent: called once when it has been for so long.
            prove_s: how long a proof may take.
            clock: seconds, never going back; what silence is measured on.
        """
        self._files = files
        self._secret = secret
        self._silence_s = silence_s
        self._silent = silent
        self._prove_s = prove_s
        self._clock = clock
        self._heard_s = clock()
        self._unproven = threading.BoundedSemaphore(_MOST_UNPROVEN)
        self._refusals = _Refusals()
        self._closed = threading.Event()
        self._socket: socket.socket | None = None

    def open(self, host: str) -> int:
        """Begin to listen at *host*, an address of this node; gives the port.

        Raises:
            ValueError: *host* stands for all addresses that there are.
            OSError: it is no address of this node.
        """
        if ipaddress.ip_address(host).is_unspecified:
            raise ValueError(f"a door listens at one address, not at {host}")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family, backlog=_BACKLOG)
        port: int = self._socket.getsockname()[1]
        self._hear()
        for name, target in (("accept", self._accept), ("silence", self._listen_for_silence)):
            threading.Thread(target=target, name=f"door.{name}", daemon=True).start()
        return port

    def close(self) -> None:
        """Let nobody in any more; who is inside stays."""
        self._closed.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # which wakes the one that accepts
            self._socket.close()

    def _listen_for_silence(self) -> None:
        while not self._closed.wait(self._silence_s / 10):
            if self._clock() - self._heard_s > self._silence_s:
                log.error("gateway not heard: s=%g", self._silence_s)
                self._silent()
                return

    def _accept(self) -> None:
        assert self._socket is not None
        while not self._closed.is_set():
            try:
                outside, peer = self._socket.accept()
            except OSError as error:
                if not self._closed.wait(_LATER_S):  # too many files are open: some will be closed
                    log.error("nobody let in: error=%s", error)
                continue
            if not self._unproven.acquire(blocking=False):
                outside.close()
                self._refusals.note(str(peer[0]), "too many have yet to prove themselves")
                continue
            threading.Thread(
                target=self._serve, args=(outside, str(peer[0])), name="door.serve", daemon=True
            ).start()

    def _serve(self, outside: socket.socket, peer: str) -> None:
        with outside:
            try:
                asked = self._admit(outside)
            except (OSError, WireError) as error:
                self._refusals.note(peer, str(error))
                return
            finally:
                self._unproven.release()
            with contextlib.suppress(OSError, WireError):
                self._let_through(outside, asked)

    def _admit(self, outside: socket.socket) -> dict[str, Any]:
        """What whoever came asks for, once it has proven itself."""
        until_s = time.monotonic() + self._prove_s
        tune(outside)
        proving.admit(outside, self._secret, until_s=until_s)
        outside.settimeout(max(0.001, until_s - time.monotonic()))
        asked, _ = recv_frame(outside, max_body_bytes=0)
        return asked

    def _let_through(self, outside: socket.socket, asked: dict[str, Any]) -> None:
        to = asked.get("to")
        path = self._path(to)
        if path is None:
            send_frame(outside, {"error": "a door leads to the host and to its instances"})
            return
        try:
            inside = connect(Near(path), timeout_s=_NEAR_S)
        except OSError:
            complaint = self._files.complaint() if to == HOST else None
            error = f"there is no {to} behind the door"
            send_frame(outside, {"error": error, "complaint": complaint})
            return
        with inside:
            send_frame(outside, {})
            for each in (outside, inside):
                each.settimeout(None)  # who watches them is the gateway, or the kernel
            back = threading.Thread(
                target=_flow, args=(inside, outside, _ignore), name="door.back", daemon=True
            )
            back.start()
            _flow(outside, inside, self._hear if to == HOST else _ignore)
            back.join()

    def _path(self, to: object) -> Path | None:
        if to == HOST:
            return self._files.socket
        if isinstance(to, str) and _INSTANCE.fullmatch(to):
            return self._files.path / f"{to}.sock"
        return None

    def _hear(self) -> None:
        self._heard_s = self._clock()


class _Refusals:
    """Tells of those who were sent away, once a minute however many they are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._untold = 0
        self._again_s = 0.0

    def note(self, peer: str, why: str) -> None:
        with self._lock:
            self._untold += 1
            if (now_s := time.monotonic()) < self._again_s:
                return
            count, self._untold = self._untold, 0
            self._again_s = now_s + _TELL_EVERY_S
        log.warning("not let in: count=%d last=%s why=%s", count, peer, why)


def _flow(source: socket.socket, sink: socket.socket, heard: Callable[[], None]) -> None:
    """Pass on what *source* says until it has said all, and then say so to *sink*.

    Where either fails, both end: half of a frame is of no use to anybody.
    """
    try:
        _splice(source.fileno(), sink.fileno(), heard)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _ignore() -> None:
    pass


def _splice(source: int, sink: int, heard: Callable[[], None]) -> None:
    drawn, poured = os.pipe()
    try:
        while count := os.splice(source, poured, _CHUNK_BYTES):
            heard()
            while count:
                count -= os.splice(drawn, sink, count)
    finally:
        os.close(drawn)
        os.close(poured)
