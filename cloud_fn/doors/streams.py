"""One ModelStreamInfer call: requests run beside each other, and nothing holds up the reader."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Protocol

from cloud_fn.doors.chunks import Chunks
from cloud_fn.errors import Busy, Stopping
from protos import wire
from protos.errors import WireError


class Answers(Protocol):
    """What answers requests: :class:`cloud_fn.service.Service`."""

    def admit(self) -> float:
        """See :meth:`cloud_fn.service.Service.admit`."""

    def leave(self) -> None:
        """See :meth:`cloud_fn.service.Service.leave`."""

    def answer(self, data: bytes, received_s: float) -> bytes:
        """See :meth:`cloud_fn.service.Service.answer`."""


class Stream:
    """Reads requests as they come and gives replies as they are ready, in any order."""

    def __init__(
        self,
        service: Answers,
        executor: Executor,
        *,
        max_running: int,
        max_message_bytes: int,
        sentence_of: Callable[[Exception], str],
    ) -> None:
        """Set up.

        Args:
            service: what answers.
            executor: what it runs on; shared by all streams.
            max_running: how many requests of this stream may run at one time, and how many more
                may be there in part.
            max_message_bytes: how large a request in chunks may become.
            sentence_of: what to tell a caller of an error.
        """
        self._service = service
        self._executor = executor
        self._max_running = max_running
        self._sentence_of = sentence_of
        self._chunks = Chunks(max_open=max_running, max_message_bytes=max_message_bytes)
        self._replies: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = 0
        self._ended = False

    def run(self, requests: Iterable[bytes]) -> Iterator[bytes]:
        """Give replies until all requests are answered, or :meth:`end` was called and they are."""
        threading.Thread(
            target=self._read, args=(requests,), name="stream.read", daemon=True
        ).start()
        while (reply := self._replies.get()) is not None:
            yield reply

    def end(self) -> None:
        """Take no more requests, and end once those that run are answered."""
        with self._lock:
            already, self._ended = self._ended, True
            if not already and self._running == 0:
                self._replies.put(None)

    def _read(self, requests: Iterable[bytes]) -> None:
        # Whatever ends the iteration (the peer's goodbye, its death, our stop), the stream is over.
        with contextlib.suppress(Exception):
            for data in requests:
                self._take(data)
        self.end()

    def _take(self, data: bytes) -> None:
        """Begin a request once it is whole: what its device does between chunks is not our time."""
        try:
            whole = self._chunks.take(data)
            if whole is None:
                return
            received_s = self._begin()
        except Exception as error:  # noqa: BLE001  each becomes its request's reply
            self._replies.put(self._failure(data, error))
            return
        try:
            self._executor.submit(self._answer, whole, received_s)
        except RuntimeError:  # shut down between the two
            self._finish(self._failure(data, Stopping("the server is stopping: send it later")))

    def _begin(self) -> float:
        with self._lock:
            if self._running >= self._max_running:
                raise Busy(
                    f"the stream has {self._running} requests running (max_in_stream): "
                    "await a reply before sending more"
                )
            received_s = self._service.admit()
            self._running += 1
            return received_s

    def _answer(self, data: bytes, received_s: float) -> None:
        try:
            reply = wire.encode_stream_reply(self._service.answer(data, received_s))
        except Exception as error:  # noqa: BLE001  each becomes its request's reply
            reply = self._failure(data, error)
        self._finish(reply)

    def _finish(self, reply: bytes) -> None:
        self._service.leave()
        with self._lock:
            self._replies.put(reply)
            self._running -= 1
            if self._ended and self._running == 0:
                self._replies.put(None)

    def _failure(self, data: bytes, error: Exception) -> bytes:
        try:
            id_ = wire.route(data).id
        except WireError:
            id_ = ""
        return wire.encode_stream_error(id_, self._sentence_of(error))
