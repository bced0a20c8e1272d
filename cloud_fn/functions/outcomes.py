"""A list of requests, each with one outcome on disk: its reply, or why there is none.

They run beside each other and are recorded in their order, as the messages of a stream. A request
that its function refuses costs itself alone; what would befall every other as well ends the job,
which can be run again.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial

from cloud_fn.errors import (
    DeadlinePassed,
    FunctionFailed,
    InstanceLost,
    InvalidRequest,
    Stopping,
    TooLarge,
)
from cloud_fn.functions import Answer
from cloud_fn.functions.again import ATTEMPTS, until_answered
from cloud_fn.functions.checkpoint import Checkpoint
from cloud_fn.functions.in_order import in_order
from cloud_fn.functions.steps import Listed
from protos import wire
from protos.errors import IsthmusError
from protos.invocation import Reply, StreamError

MOST_REFUSED = 10
"""So many in a row without one reply between them say that the function is broken."""

_OF_THE_REQUEST = (InvalidRequest, TooLarge, DeadlinePassed, InstanceLost, FunctionFailed)


def run_list(
    ask: Callable[[bytes], Answer],
    job: Listed,
    checkpoint: Checkpoint,
    *,
    in_flight: int,
    retry: bool = False,
    stop: threading.Event | None = None,
) -> Generator[tuple[int, Reply | StreamError], None, None]:
    """Run what is left of *job*; gives each outcome once it is on disk.

    Whoever may stop before the last one closes it.

    Args:
        ask: runs one request; called from threads.
        job: its digest must be the checkpoint's.
        checkpoint: which keeps all.
        in_flight: how many run at one time.
        retry: whether those that were refused before are asked once more.
        stop: when set, nothing more is asked, and what was is recorded.

    Raises:
        FunctionFailed: MOST_REFUSED in a row were refused.
        CloudError: what ends the job beside; the outcomes before are on disk.
    """
    with checkpoint.held():
        done, _ = checkpoint.done()
        again = [step for step in range(done) if retry and _refused(checkpoint, step)]
        todo = [*again, *range(done, len(job.requests))]

        def requests() -> Iterator[bytes]:
            for step in todo:
                if stop is not None and stop.is_set():
                    return
                yield job.requests[step]

        refused = 0
        asking = in_order(partial(_ask, ask), requests(), in_flight=in_flight)
        with closing(asking) as found:
            for step, result in zip(todo, found, strict=False):  # fewer are asked where it stops
                if isinstance(result, Stopping):
                    return
                outcome = _recorded(
                    checkpoint, step, result, partial(job.requests.__getitem__, step)
                )
                yield step, outcome
                if not isinstance(outcome, StreamError):
                    refused = 0
                    continue
                refused += 1
                if refused >= MOST_REFUSED:
                    raise FunctionFailed(
                        f"{refused} requests in a row were refused, the last one so: "
                        f"{outcome.message}; mend that and run the job again, with --retry"
                    )


def outcomes(checkpoint: Checkpoint, count: int) -> Iterator[Reply | StreamError]:
    """What became of the first *count* requests.

    Raises:
        FunctionFailed: an outcome is not there any more.
        CheckpointError: they are another job's.
    """
    for step in range(count):
        data = checkpoint.reply(step)
        if data is None:
            raise FunctionFailed(f"the outcome of step {step} is damaged: run the job again")
        yield wire.decode_stream_reply(data)


def _ask(ask: Callable[[bytes], Answer], request: bytes) -> Answer:
    return until_answered(
        partial(ask, request),
        where=f"request {wire.route(request).id}",
        attempts=ATTEMPTS,
        deadline_s=None,
        clock=time.perf_counter,
    )


def _recorded(
    checkpoint: Checkpoint, step: int, result: Answer | IsthmusError, asked: Callable[[], bytes]
) -> Reply | StreamError:
    if isinstance(result, Answer):
        message = wire.encode_stream_reply(result.body)
    elif isinstance(result, _OF_THE_REQUEST):
        message = wire.encode_stream_error(wire.route(asked()).id, str(result))
    else:
        raise result
    checkpoint.write(step, message)
    return wire.decode_stream_reply(message)


def _refused(checkpoint: Checkpoint, step: int) -> bool:
    data = checkpoint.reply(step)
    return data is not None and isinstance(wire.decode_stream_reply(data), StreamError)
