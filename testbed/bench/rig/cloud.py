"""The rig's cloud: receives what crossed, runs the tail, answers."""

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable

from protos.errors import IsthmusError, WireError
from protos.frames import send_frame
from testbed.bench.rig.loaded import Tails, read_model
from testbed.bench.rig.orders import Answer, Load, Loaded, Order, Report, Request
from testbed.bench.rig.wire import header, join, pack, receive
from testbed.errors import TestbedError

log = logging.getLogger(__name__)

WAITING = 4
"""Frames read ahead of the tail, and answers ahead of the link. Reading goes on while a tail runs:
a receiver that does not read would hold up the emulated link."""

Messages = list[tuple[Request, memoryview]]
"""All of one request, in order."""

Answering = Callable[[Messages], tuple[Answer, bytes]]


class Cloud:
    """Serves one connection after another on threads of its own; orders come on the caller's."""

    def __init__(self) -> None:
        self._tails: Tails | None = None

    def obey(self, order: Order, _body: memoryview) -> Report:
        """Carry out *order*; a cloud only loads.

        Raises:
            TestbedError: another order.
            PlannerError: the model cannot be read or cut so.
        """
        if not isinstance(order, Load):
            raise TestbedError(f"a cloud does not take the order {type(order).__name__}")
        self._tails = None
        self._tails = Tails(read_model(order), {way.id: way for way in order.ways})
        return Loaded(pieces=len(self._tails.pieces))

    def serve(self, server: socket.socket) -> None:
        """Take connections on *server* until it is closed."""
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(
                target=_Connection(sock, self._answer).run, name="cloud.connection", daemon=True
            ).start()

    def _answer(self, messages: Messages) -> tuple[Answer, bytes]:
        request, _ = messages[-1]
        began = time.perf_counter()
        try:
            if self._tails is None:
                raise TestbedError("no model is loaded in the cloud: load one first")
            values = join([(each.tensors, body) for each, body in messages])
            tensors, out = pack(self._tails.run(request.way, values), written={})
        except IsthmusError as error:
            return Answer(way=request.way, frame=request.frame, error=str(error)), b""
        answer = Answer(
            way=request.way,
            frame=request.frame,
            tensors=tensors,
            cloud_s=time.perf_counter() - began,
        )
        return answer, out


class _Connection:
    """Reader, worker and writer of one connection."""

    def __init__(self, sock: socket.socket, answer: Answering) -> None:
        self._sock = sock
        self._answer = answer
        self._requests: queue.Queue[Messages | None] = queue.Queue(WAITING)
        self._answers: queue.Queue[tuple[Answer, bytes] | None] = queue.Queue(WAITING)
        self._broken = threading.Event()

    def run(self) -> None:
        """Answer until the peer is gone."""
        threads = [
            threading.Thread(target=self._read, name="cloud.reader", daemon=True),
            threading.Thread(target=self._write, name="cloud.writer", daemon=True),
        ]
        for thread in threads:
            thread.start()
        while (messages := self._requests.get()) is not None:
            if not self._broken.is_set():  # else nobody waits for the answer
                self._answers.put(self._answer(messages))
        self._answers.put(None)
        for thread in threads:
            thread.join()
        self._sock.close()

    def _read(self) -> None:
        try:
            while True:
                self._requests.put(self._collected())
        except (WireError, OSError) as error:
            log.info("connection ended: reason=%s", error)
            self._broken.set()
        self._requests.put(None)

    def _collected(self) -> Messages:
        messages = [receive(self._sock, Request)]
        while (before := messages[-1][0]).number < before.of:
            request, body = receive(self._sock, Request)
            follows = (before.frame, before.number + 1, before.of)
            if (request.frame, request.number, request.of) != follows:
                raise WireError(
                    f"message {request.number} of {request.of} of frame {request.frame} came after "
                    f"message {before.number} of {before.of} of frame {before.frame}"
                )
            messages.append((request, body))
        return messages

    def _write(self) -> None:
        while (item := self._answers.get()) is not None:
            answer, body = item
            with contextlib.suppress(OSError):  # the reader sees it too, and ends the connection
                send_frame(self._sock, header(answer), body)
