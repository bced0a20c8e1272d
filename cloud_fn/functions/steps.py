"""Jobs that take longer than one invocation may: a sequence of them, with a checkpoint in between.

A job says what to ask next, from what was answered last, and knows no files; running it is a loop.
Steps are pure: one whose outcome was not recorded, because its process was killed before, is run
again, and its outcome is recorded once.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import msgspec

from cloud_fn.errors import FunctionFailed
from cloud_fn.functions import Answer
from cloud_fn.functions.again import ATTEMPTS, until_answered
from cloud_fn.functions.checkpoint import Checkpoint
from protos import relay, wire
from protos.invocation import Request
from protos.tensors import Buffer

MOST_STEPS = 1_000_000


class Job(Protocol):
    """What to ask, step after step. Pure."""

    @property
    def digest(self) -> str:
        """Two jobs with the same digest have the same steps."""

    def request(self, step: int, before: Buffer | None) -> bytes | None:
        """What to ask at *step*, given what was answered the step before; None after the last."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Requests that do not depend on each other; each may be made only when it is asked for."""

    requests: Sequence[bytes]

    def __post_init__(self) -> None:
        _check(len(self.requests))

    @property
    def digest(self) -> str:
        """Of the requests and their order; looks at each."""
        return _digest(self.requests)

    def request(self, step: int, before: Buffer | None) -> bytes | None:  # noqa: ARG002  a Job's
        """See :meth:`Job.request`."""
        return self.requests[step] if step < len(self.requests) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A request that is asked again with some of its inputs replaced by what was answered.

    ``fed`` says which output becomes which input; the other inputs stay as in ``first``. It ends
    after ``count`` steps, or when ``until`` says so of a reply; what ``until`` is does not count as
    part of the job's digest.
    """

    first: bytes
    fed: Mapping[str, str]
    count: int
    until: Callable[[Buffer], bool] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _check(self.count)
        inputs = relay.inputs_of(self.first)
        if lacking := [name for name in self.fed.values() if name not in inputs]:
            raise ValueError(f"the first request has no input {lacking[0]!r} to be replaced")

    @property
    def digest(self) -> str:
        """Of the first request, what is fed, and the count."""
        rest = msgspec.json.encode([sorted(self.fed.items()), self.count])
        return _digest((self.first, rest))

    def request(self, step: int, before: Buffer | None) -> bytes | None:
        """See :meth:`Job.request`.

        Raises:
            FunctionFailed: the reply lacks an output that is fed.
        """
        if step >= self.count or (before is not None and self.until and self.until(before)):
            return None
        inputs = relay.inputs_of(self.first)
        made = {} if before is None else relay.outputs_of(before)
        for output, name in self.fed.items() if before is not None else ():
            if output not in made:
                raise FunctionFailed(f"step {step} lacks {output!r}, which step {step - 1} owed")
            inputs[name] = relay.renamed(made[output], name)
        asked = wire.route(self.first)
        request = Request(
            model=asked.model,
            version=asked.version,
            id=asked.id,
            outputs=asked.outputs,
            cut=asked.cut,
            deadline_ms=asked.deadline_ms,
            key=None if asked.key is None else f"{asked.key}/{step}",
        )
        return relay.request_of(request, inputs.values())


def run_steps(
    ask: Callable[[bytes], Answer],
    job: Job,
    checkpoint: Checkpoint,
    *,
    attempts: int = ATTEMPTS,
    stop: threading.Event | None = None,
) -> Iterator[tuple[int, Buffer]]:
    """Run what is left of *job*; gives each step and its reply once that is on disk.

    Args:
        ask: runs one request: a pool's or a chain's call.
        job: its digest must be the checkpoint's.
        checkpoint: where the outcomes of steps before this run are, and those of this one go.
        attempts: how often a step is asked at most while its instances are lost.
        stop: when set, the job ends before its next step, and can be run again.

    Raises:
        CloudError: what a step ended with; the steps before are on disk, and the job can be run
            again.
    """
    with checkpoint.held():
        step, before = checkpoint.done()
        while stop is None or not stop.is_set():
            request = job.request(step, before)
            if request is None:
                return
            reply = until_answered(
                partial(ask, request),
                where=f"step {step}",
                attempts=attempts,
                deadline_s=None,
                clock=time.perf_counter,
            ).body
            checkpoint.write(step, reply)
            yield step, reply
            step, before = step + 1, bytes(reply)


def _check(count: int) -> None:
    if not 1 <= count <= MOST_STEPS:
        raise ValueError(f"a job has 1 to {MOST_STEPS} steps, got {count}")


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()
