"""Runs what :func:`plan` chooses: the threads around a piece that answers requests together."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from cloud_fn.errors import DeadlinePassed, Stopping
from cloud_fn.functions.batching import Waiting, plan
from cloud_fn.functions.curve import Curve
from cloud_fn.functions.joining import Arrays, Form, Run, Unbatchable
from cloud_fn.functions.settings import Batching

log = logging.getLogger(__name__)

_WEIGHT = 0.2
"""Of the newest batch, in how much slower than on the curve this machine is believed to be."""
_FASTEST, _SLOWEST = 0.1, 10.0

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    inputs: Arrays
    waiting: Waiting
    answer: "Future[Outputs]" = field(default_factory=Future)


class Batcher:
    """One piece's engine, *width* batches at a time; requests wait only while it is busy.

    A request that finds a place free runs at once, in the thread that brings it. What one request
    gets wrong is never another's error: those that do not fit the form run alone, and a batch that
    fails is run again one by one. Where it was its size that failed, for want of memory say, later
    ones are at most half as large.
    """

    def __init__(
        self,
        run: Run,
        form: Form,
        curve: Curve,
        settings: Batching,
        *,
        width: int = 1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._run = run
        self._form = form
        self._curve = curve
        self._settings = settings
        self._width = width
        self._clock = clock
        self._threads = ThreadPoolExecutor(width, thread_name_prefix="batcher")
        self._lock = threading.Lock()
        self._queue: list[_Request] = []  # guarded by _lock, as all below
        self._running = 0  # below _width, nothing waits
        self._pace = 1.0
        self._most_rows = settings.max_size  # less where that many were too many
        self._closed = False

    def submit(self, inputs: Arrays, deadline_s: float | None = None) -> "Future[Outputs]":
        """Have a request answered; it has been, on return, where the engine was idle.

        Args:
            inputs: its arrays.
            deadline_s: when nobody wants the answer any more, on this batcher's clock.

        Returns:
            What the piece makes of *inputs* or raises, or :class:`DeadlinePassed` where its turn
            came too late. Cancelling it keeps it from running if it does not run yet.

        Raises:
            Stopping: the batcher is closed.
        """
        extent = self._form.extent(inputs)
        request = _Request(inputs, Waiting(extent=extent, deadline_s=deadline_s))
        with self._lock:
            if self._closed:
                raise Stopping("the instance is stopping: send the request again later")
            self._queue.append(request)
            if self._running == self._width:
                return request.answer
            self._running += 1
        self._work()
        return request.answer

    def close(self) -> None:
        """Refuse what waits, and await what our own threads run."""
        with self._lock:
            self._closed = True
            left, self._queue = self._queue, []
        for request in left:
            if request.answer.set_running_or_notify_cancel():
                request.answer.set_exception(
                    Stopping("the instance is stopping: send the request again later")
                )
        self._threads.shutdown()

    def _work(self) -> None:
        """Run one batch, then give the place back, or to our threads where requests wait for it."""
        try:
            self._turn()
        finally:
            with self._lock:
                if self._queue:
                    self._threads.submit(self._work)
                else:
                    self._running -= 1

    def _turn(self) -> None:
        """Run one batch; the caller holds a place."""
        batch, expired, expected_s = self._take()
        for request in expired:
            request.answer.set_exception(
                DeadlinePassed("the request waited for the function until its deadline had passed")
            )
        began_s = self._clock()
        if self._answer(batch) and expected_s is not None:
            self._learn((self._clock() - began_s) / expected_s)

    def _take(self) -> tuple[list[_Request], list[_Request], float | None]:
        """Those whose turn it is, those that came too late, and how long the first may take."""
        with self._lock:
            self._queue = [each for each in self._queue if not each.answer.cancelled()]
            queue = self._queue
            choice = plan(
                [each.waiting for each in queue],
                self._curve,
                self._clock(),
                max_size=self._most_rows,
                max_wait_s=self._settings.max_wait_s,
                pace=self._pace,
            )
            gone = {*choice.run, *choice.expired}
            self._queue = [each for at, each in enumerate(queue) if at not in gone]
        # From here on none can be cancelled; one that was just now is left out.
        batch, expired = (
            [queue[at] for at in places if queue[at].answer.set_running_or_notify_cancel()]
            for places in (choice.run, choice.expired)
        )
        return batch, expired, self._expected_s(batch)

    def _expected_s(self, batch: list[_Request]) -> float | None:
        extents = [each.waiting.extent for each in batch]
        known = [each for each in extents if each is not None]
        if not known or len(known) < len(extents):
            return None
        return self._curve.seconds(
            sum(each.rows for each in known), max(each.length for each in known)
        )

    def _learn(self, ratio: float) -> None:
        with self._lock:
            self._pace += _WEIGHT * (min(max(ratio, _FASTEST), _SLOWEST) - self._pace)

    def _answer(self, batch: list[_Request]) -> bool:
        """Whether the piece answered at the first try."""
        if len(batch) > 1 and self._answer_together(batch):
            return True
        answered = [self._answer_alone(request) for request in batch]
        if len(batch) > 1 and all(answered):  # none of them was at fault
            rows = sum(each.waiting.extent.rows for each in batch if each.waiting.extent)
            with self._lock:
                self._most_rows = min(self._most_rows, rows // 2)
        return answered == [True]

    def _answer_together(self, batch: list[_Request]) -> bool:
        """Run a batch; False where that failed, and nobody has an answer yet."""
        extents = [each.waiting.extent for each in batch if each.waiting.extent is not None]
        try:
            made = self._run(self._form.join([each.inputs for each in batch], extents))
            parts = self._form.split(made, extents)
        except BaseException as error:  # noqa: BLE001  each request is run again, and tells its own
            if isinstance(error, Unbatchable):
                with self._lock:
                    self._most_rows = 0
            reason = " ".join(f"{type(error).__name__} {error}".split())[:200]
            log.warning("batch failed, run one by one: requests=%d error=%s", len(batch), reason)
            return False
        for request, part in zip(batch, parts, strict=True):
            request.answer.set_result(part)
        return True

    def _answer_alone(self, request: _Request) -> bool:
        try:
            made = self._run(request.inputs)
        except BaseException as error:  # noqa: BLE001  whoever waits is told
            request.answer.set_exception(error)
            return False
        request.answer.set_result(made)
        return True
