"""Many invocations at the same time whose outcomes are given in the order of their requests."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from cloud_fn.functions import Answer
from protos.errors import IsthmusError


def in_order(
    ask: Callable[[bytes], Answer], requests: Iterable[bytes], *, in_flight: int
) -> Generator[Answer | IsthmusError, None, None]:
    """One outcome for each of *requests*: its answer, or why there is none.

    Whoever may stop before the last one closes it, which awaits those that run.

    A request is taken from *requests* only when fewer than *in_flight* wait for their outcome to
    be taken. A chain works at its slowest stage's pace with as many as it has stages and one more.

    Args:
        ask: runs one, such as :meth:`cloud_fn.functions.chain.Chain.call`; called from threads.
        requests: read by a thread of its own; what it raises is raised after the outcomes of those
            before.
        in_flight: at least 1.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight must be at least 1, got {in_flight}")
    outcomes: queue.SimpleQueue[Future[Answer] | BaseException | None] = queue.SimpleQueue()
    places, ended = threading.Semaphore(in_flight), threading.Event()
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="in-order")

    def read() -> None:
        try:
            places.acquire()
            for request in requests:
                if ended.is_set():
                    break
                outcomes.put(pool.submit(ask, request))
                places.acquire()
        except BaseException as error:  # noqa: BLE001  whoever takes the outcomes is told
            outcomes.put(error)
            return
        outcomes.put(None)

    threading.Thread(target=read, name="in-order.read", daemon=True).start()
    try:
        while (outcome := outcomes.get()) is not None:
            if isinstance(outcome, BaseException):
                raise outcome
            yield _settled(outcome)
            places.release()
    finally:
        ended.set()
        places.release()
        pool.shutdown(cancel_futures=True)


def _settled(outcome: Future[Answer]) -> Answer | IsthmusError:
    try:
        return outcome.result()
    except IsthmusError as error:
        return error
