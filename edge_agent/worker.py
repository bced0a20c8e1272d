"""A thread that does one thing after the other for the asyncio loop.

``run_in_executor`` makes two futures and a work item for each call, and has the loop go round twice
before anybody hears of it. Here the outcome is handed to a callback in the loop's next round.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Done = Callable[[Any, Exception | None], None]


class Worker:
    """Runs calls in the order they were submitted, from :meth:`start` to :meth:`stop`."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], Done] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, for the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(
        self, call: Callable[[], T], done: Callable[[T | None, Exception | None], None]
    ) -> None:
        """Have *call* run; *done* gets its result, or None and what it raised, on the loop."""
        self._calls.put((call, done))

    async def call(self, call: Callable[[], T]) -> T:
        """Have *call* run and wait for it."""
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()

        def done(result: T | None, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # T may itself hold None

        self.submit(call, done)
        return await future

    async def stop(self, limit_s: float) -> bool:
        """End after what was submitted.

        Returns:
            Whether the thread ended within *limit_s*; if not, it is left to end with the process.
        """
        if self._loop is None:
            return True
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join, limit_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        assert self._loop is not None
        while (item := self._calls.get()) is not None:
            call, done = item
            result, failure = None, None
            try:
                result = call()
            except Exception as error:  # noqa: BLE001  *done* gets it
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(done, result, failure)
