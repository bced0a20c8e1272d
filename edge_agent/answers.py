"""Answers and problem documents, as they are published. Pure."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from edge_agent.account import Course, account, as_message
from edge_agent.errors import Refused
from edge_agent.intake import ReplyTo, id_of
from edge_agent.packets import Publication
from protos.errors import WireError
from protos.json_tensors import JsonTensor
from protos.messages import InferResult, ModelRef, Placement, Problem, encode
from protos.tensors import Array

PROBLEM_TYPE = "application/problem+json"


def answer(
    *,
    id_: str,
    reply: ReplyTo,
    model: ModelRef,
    outputs: Mapping[str, Array],
    placement: Placement,
    course: Course,
    sent_bytes: int,
    received_bytes: int,
) -> Publication:
    """Write the answer to a request.

    Raises:
        Refused: an output has no form in JSON.
    """
    try:
        tensors = tuple(JsonTensor.of(name, array) for name, array in outputs.items())
    except WireError as error:
        raise Refused(500, f"the model's answer cannot be written: {error}") from error
    timing, milestones = account(course)
    result = InferResult(
        id=id_,
        model=model,
        outputs=tensors,
        placement=placement,
        ms=milestones,
        timing=as_message(timing),
        sent_bytes=sent_bytes,
        received_bytes=received_bytes,
        degraded=placement.mode == "fallback",
    )
    return _publication(reply, 200, encode(result), "application/json")


def problem(*, reply: ReplyTo, status: int, detail: str, id_: str | None = None) -> Publication:
    """Write why a request has no answer (RFC 9457); its id is its correlation's unless given."""
    document = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        id=id_of(reply.correlation) if id_ is None else id_,
    )
    return _publication(reply, status, encode(document), PROBLEM_TYPE)


def pong(*, reply: ReplyTo, device: str, boot: str) -> Publication:
    """Write the answer to the command ``ping``."""
    payload = msgspec.json.encode({"device": device, "boot": boot})
    return _publication(reply, 200, payload, "application/json")


def _publication(reply: ReplyTo, status: int, payload: bytes, kind: str) -> Publication:
    user = [("status", str(status))]
    if reply.traceparent is not None:
        user.append(("traceparent", reply.traceparent))
    return Publication(
        topic=reply.topic,
        payload=payload,
        content_type=kind,
        correlation=reply.correlation,
        user=tuple(user),
    )
