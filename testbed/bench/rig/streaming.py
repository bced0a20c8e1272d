"""Frames in flight: device, link and cloud work at the same time.

The worker runs heads, or whole models, one after the other; the sender writes to the link; the
receiver takes answers. A frame that crosses needs one of ``in_flight`` places from before its head
runs until its answer is back, so nothing piles up however slow the link is.
"""

import contextlib
import queue
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from protos.errors import IsthmusError
from protos.frames import send_frame
from testbed.bench.rig.loaded import Heads
from testbed.bench.rig.orders import Answer, Request, Stream, Streamed
from testbed.bench.rig.pace import Pacer
from testbed.bench.rig.schedule import interleaved, steady_fps
from testbed.bench.rig.wire import header, receive, unpack
from testbed.errors import TestbedError

_Out = tuple[Request, bytes] | None


class Pipeline:
    """One stream over the connected *sock*, which it leaves unusable."""

    def __init__(self, heads: Heads, order: Stream, sock: socket.socket) -> None:
        self._heads, self._order, self._sock = heads, order, sock
        self._places = threading.Semaphore(order.in_flight)
        self._outbox: queue.Queue[_Out] = queue.Queue()  # bounded by the places
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._done_s: list[float] = []
        self._by_way: Counter[str] = Counter()
        self._error: Exception | None = None
        self._pacer = Pacer(order.pace)

    def run(self) -> Streamed:
        """Stream until one of the order's bounds is reached; what is under way then is dropped.

        Raises:
            TestbedError: the cloud could not answer, or the connection failed.
        """
        threads = [
            threading.Thread(target=self._guarded, args=(loop,), name=name, daemon=True)
            for loop, name in ((self._send, "stream.sender"), (self._receive, "stream.receiver"))
        ]
        for thread in threads:
            thread.start()
        try:
            self._work()
        finally:
            self._stop.set()
            self._outbox.put(None)
            with contextlib.suppress(OSError):  # wakes both threads where they are
                self._sock.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise TestbedError(f"the stream broke off: {self._error}") from self._error
        done = sorted(self._done_s)[: self._order.fill + self._order.frames]
        counted = done[self._order.fill - 1 :]
        return Streamed(
            fps=steady_fps(done, self._order.fill),
            frames=max(len(counted) - 1, 0),
            seconds=counted[-1] - counted[0] if counted else 0.0,
            by_way=dict(self._by_way),
        )

    def _work(self) -> None:
        """The device's own thread: heads and whole models, as the shares say."""
        until_s = time.perf_counter() + self._order.limit_s
        for frame, way in enumerate(interleaved(self._order.shares)):
            left_s = until_s - time.perf_counter()
            if left_s <= 0 or self._stop.is_set():
                return
            if self._heads.local(way):
                self._pacer.run(self._heads.answer)
                self._completed(way)
            elif self._places.acquire(timeout=left_s):
                _, tensors, body = self._pacer.run(partial(self._heads.send, way))
                self._outbox.put((Request(way=way, frame=frame, tensors=tensors), body))

    def _send(self) -> None:
        while (item := self._outbox.get()) is not None:
            request, body = item
            send_frame(self._sock, header(request), body)

    def _receive(self) -> None:
        while True:
            answer, body = receive(self._sock, Answer)
            if answer.error:
                raise TestbedError(f"the cloud could not answer: {answer.error}")
            unpack(answer.tensors, body)
            self._completed(answer.way)
            self._places.release()

    def _completed(self, way: str) -> None:
        with self._lock:
            self._done_s.append(time.perf_counter())
            self._by_way[way] += 1
            if len(self._done_s) >= self._order.fill + self._order.frames:
                self._stop.set()

    def _guarded(self, loop: Callable[[], None]) -> None:
        """Run *loop* to the stream's end; an error before that ends the stream."""
        try:
            loop()
        except (OSError, IsthmusError) as error:
            if not self._stop.is_set():
                self._error = error
                self._stop.set()
                self._places.release()  # the worker may be waiting for one
