"""What the worker thread does for a job: run a part, and write the uplink's request. No asyncio."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import Refused
from edge_agent.intake import InferJob
from edge_agent.shelf import Arrays, Pieces
from planner.errors import PlannerError
from planner.steps import SOURCE
from protos import codecs
from protos.errors import WireError
from protos.tensors import Array
from protos.wire import Request, Tensor, encode_request


@dataclass(frozen=True, slots=True, kw_only=True)
class Headed:
    """What a head made: the boundary's arrays, the answers it has already, the uplink's request.

    *begun_s* is monotonic; *pre_s* of *work_s* were the steps.
    """

    boundary: Arrays
    early: Arrays
    request: bytes
    sent_bytes: int
    begun_s: float
    pre_s: float
    work_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The answer as the device made it."""

    outputs: Mapping[str, Array]
    begun_s: float
    pre_s: float
    work_s: float


def head(
    job: InferJob, pieces: Pieces, *, version: str, plan: str, key: str, due_s: float
) -> Headed:
    """Run the head and write the request to the cloud, where *key* makes repeating it harmless.

    Raises:
        Refused: the request's contents do not suit the model.
    """
    begun_s = time.monotonic()
    try:
        made = pieces.head.run(_sources(job))
    except (PlannerError, WireError) as error:
        raise Refused(400, str(error)) from error
    inputs = tuple(
        _coded(each.tensor, made.arrays[each.tensor], each.codec, pieces.datatypes[each.tensor])
        for each in pieces.crossing
    )
    request = encode_request(
        Request(
            model=job.model,
            version=version,
            id=key,
            inputs=inputs,
            cut=plan,
            deadline_ms=max(1.0, 1e3 * (due_s - time.monotonic())),
            key=key,
        )
    )
    return Headed(
        boundary={each.tensor: made.arrays[each.tensor] for each in pieces.crossing},
        early={name: made.arrays[name] for name in pieces.early},
        request=request,
        sent_bytes=sum(len(tensor.data) for tensor in inputs),
        begun_s=begun_s,
        pre_s=made.pre_s,
        work_s=time.monotonic() - begun_s,
    )


def tail(headed: Headed, pieces: Pieces) -> Finished:
    """Finish from the boundary.

    Raises:
        Refused: the values are such that the model cannot go on.
    """
    begun_s = time.monotonic()
    try:
        made = pieces.tail.run(headed.boundary)
    except PlannerError as error:
        raise Refused(400, str(error)) from error
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
    try:
        first = pieces.head.run(_sources(job))
        then = pieces.tail.run(first.arrays)
    except (PlannerError, WireError) as error:
        raise Refused(400, str(error)) from error
    return Finished(
        outputs={name: then.arrays[name] for name in (*pieces.early, *pieces.late)},
        begun_s=begun_s,
        pre_s=first.pre_s + then.pre_s,
        work_s=time.monotonic() - begun_s,
    )


def _sources(job: InferJob) -> dict[str, Array]:
    if job.image is None:
        return {tensor.name: tensor.array() for tensor in job.tensors}
    message = np.empty(1, np.object_)
    message[0] = job.image
    return {SOURCE: message}


def _coded(name: str, array: Array, codec: str, datatype: str) -> Tensor:
    try:
        return Tensor.of(name, array, codec, datatype=datatype)
    except WireError:
        if codecs.parse(codec) == codecs.RAW:
            raise
        return Tensor.of(name, array, datatype=datatype)  # a value the codec cannot hold
