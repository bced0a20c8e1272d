"""What the worker thread does for a job: run a part, and write the uplink's request. No asyncio."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edge_agent.errors import Refused
from edge_agent.intake import InferJob
from edge_agent.shelf import Arrays, Chain, InTurn, Made, Outgoing, Pieces
from planner.errors import PlannerError
from planner.steps import SOURCE
from protos import codecs
from protos.errors import WireError
from protos.slices import Slice, cut
from protos.tensors import Array
from protos.wire import Request, Tensor, encode_request

Ahead = Callable[[int, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headed:
    """What a head made: the boundary's arrays, the answers it has already, the uplink's request.

    The request is in *chunks*, each a message; there is but one if it is sent whole. *sent_bytes*
    are the tensors' own. *begun_s* is monotonic; *pre_s* of *work_s* were the steps.
    """

    boundary: Arrays
    early: Arrays
    chunks: tuple[bytes, ...]
    sent_bytes: int
    begun_s: float
    pre_s: float
    work_s: float

    @property
    def request_bytes(self) -> int:
        """The size of the request, all messages together."""
        return sum(map(len, self.chunks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The answer as the device made it."""

    outputs: Mapping[str, Array]
    begun_s: float
    pre_s: float
    work_s: float


def head(
    job: InferJob,
    pieces: Pieces,
    *,
    version: str,
    plan: str,
    key: str,
    due_s: float,
    ahead: Ahead | None = None,
) -> Headed:
    """Run the head and write the request to the cloud, where *key* makes repeating it harmless.

    Args:
        job: what was asked.
        pieces: the plan's.
        version: the model's.
        plan: the plan's id.
        key: also the request's id.
        due_s: when the answer is due, monotonic.
        ahead: takes each chunk but the last, and its number from 1 on, as soon as it is written;
            None, or with a plan without stages, the request is written whole.

    Raises:
        Refused: the request's contents do not suit the model.
    """
    begun_s = time.monotonic()
    request = Request(model=job.model, version=version, id=key, cut=plan, key=key)
    arrays, pre_s = _sources(job), 0.0
    if ahead is None or not pieces.stages:
        made = _run(pieces.head, arrays)
        arrays, pre_s = made.arrays, made.pre_s
        writing = _Writing(request, 1, due_s)
        whole = [Outgoing(crossing=each) for each in pieces.crossing]
        writing.write(*(tensor for each in whole for tensor in _coded(each, pieces, arrays)))
    else:
        count = sum(each.slices for stage in pieces.stages for each in stage.sends)
        writing = _Writing(request, count, due_s, ahead)
        for stage in pieces.stages:
            made = _run(stage.chain, arrays)
            arrays, pre_s = made.arrays, pre_s + made.pre_s
            for each in stage.sends:
                for tensor in _coded(each, pieces, arrays):
                    writing.write(tensor)
    return Headed(
        boundary={each.tensor: arrays[each.tensor] for each in pieces.crossing},
        early={name: arrays[name] for name in pieces.early},
        chunks=tuple(writing.chunks),
        sent_bytes=writing.sent_bytes,
        begun_s=begun_s,
        pre_s=pre_s,
        work_s=time.monotonic() - begun_s,
    )


def tail(headed: Headed, pieces: Pieces) -> Finished:
    """Finish from the boundary.

    Raises:
        Refused: the values are such that the model cannot go on.
    """
    begun_s = time.monotonic()
    made = _run(pieces.tail, headed.boundary)
    late = {name: made.arrays[name] for name in pieces.late}
    return Finished(
        outputs={**headed.early, **late},
        begun_s=begun_s,
        pre_s=made.pre_s,
        work_s=time.monotonic() - begun_s,
    )


def whole(job: InferJob, pieces: Pieces) -> Finished:
    """Run all of it.

    Raises:
        Refused: the request's contents do not suit the model.
    """
    begun_s = time.monotonic()
    first = _run(pieces.head, _sources(job))
    then = _run(pieces.tail, first.arrays)
    return Finished(
        outputs={name: then.arrays[name] for name in (*pieces.early, *pieces.late)},
        begun_s=begun_s,
        pre_s=first.pre_s + then.pre_s,
        work_s=time.monotonic() - begun_s,
    )


def _run(chain: Chain | InTurn, given: Arrays) -> Made:
    try:
        return chain.run(given)
    except PlannerError as error:
        raise Refused(400, str(error)) from error


def _sources(job: InferJob) -> dict[str, Array]:
    if job.image is None:
        try:
            return {tensor.name: tensor.array() for tensor in job.tensors}
        except WireError as error:
            raise Refused(400, str(error)) from error
    message = np.empty(1, np.object_)
    message[0] = job.image
    return {SOURCE: message}


class _Writing:
    """A request that is written in *count* chunks, of which all but the last go *ahead*."""

    def __init__(
        self, request: Request, count: int, due_s: float, ahead: Ahead | None = None
    ) -> None:
        self._request = request
        self._count = count
        self._due_s = due_s
        self._ahead = ahead
        self.chunks: list[bytes] = []
        self.sent_bytes = 0

    def write(self, *inputs: Tensor) -> None:
        number = len(self.chunks) + 1
        data = encode_request(
            replace(
                self._request,
                inputs=inputs,
                deadline_ms=max(1.0, 1e3 * (self._due_s - time.monotonic())),
                chunk=(number, self._count) if self._count > 1 else None,
            )
        )
        self.chunks.append(data)
        self.sent_bytes += sum(len(tensor.data) for tensor in inputs)
        if self._ahead is not None and number < self._count:
            self._ahead(number, data)


def _coded(outgoing: Outgoing, pieces: Pieces, arrays: Arrays) -> Iterator[Tensor]:
    """Encode a boundary tensor, slice by slice where it has slices."""
    name, codec = outgoing.crossing.tensor, outgoing.crossing.codec
    datatype, count, axis = pieces.datatypes[name], outgoing.slices, outgoing.axis
    if count == 1:
        yield _tensor(name, arrays[name], codec, datatype)
        return
    for number, array in enumerate(cut(arrays[name], count, axis), start=1):
        yield _tensor(name, array, codec, datatype, Slice(number=number, of=count, axis=axis))


def _tensor(
    name: str, array: Array, codec: str, datatype: str, part: Slice | None = None
) -> Tensor:
    try:
        return Tensor.of(name, array, codec, datatype=datatype, slice=part)
    except WireError:
        if codecs.parse(codec) == codecs.RAW:
            raise
        return Tensor.of(name, array, datatype=datatype, slice=part)  # a value it cannot hold
