"""From an MQTT message to a job, or to the reason why it is none. Pure.

Whatever arrives, the answer goes only where :meth:`Topics.may_answer_on` allows: a requester could
otherwise have the device write wherever its rights reach.
"""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from edge_agent.errors import Refused
from edge_agent.packets import Message
from protos import envelope
from protos.errors import WireError
from protos.invocation import Parameter, Tensor
from protos.messages import InferRequest, decode
from protos.topics import CommandTopic, InferTopic, Topics

MAX_BUDGET_MS = 3_600_000.0
MAX_ID = 128

_IMAGES = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/bmp": b"BM",
    "image/webp": b"RIFF",
}
_UNSAID = frozenset({"", "application/octet-stream"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What this device serves under one name: its version, and the tensors a request must hold.

    *takes_bytes* is for models with steps, which start from the sensor's own message.
    """

    version: str
    sources: tuple[str, ...]
    takes_bytes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyTo:
    """Where an answer goes, and what it echoes; *denied* is the topic it asked for in vain."""

    topic: str
    correlation: bytes | None = None
    traceparent: str | None = None
    denied: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InferJob:
    """One request that may be run.

    *image* is the sensor's own message, else the *tensors* are the model's inputs. *budget_s*
    counts from receipt.
    """

    id: str
    model: str
    image: bytes | None
    tensors: tuple[Tensor, ...] = ()
    budget_s: float


def reply_to(message: Message, topic: InferTopic | CommandTopic, topics: Topics) -> ReplyTo:
    """Where the answer to *message* goes; a topic that is not allowed is replaced by our own."""
    asked = message.response_topic
    allowed = asked is not None and topics.may_answer_on(asked)
    return ReplyTo(
        topic=asked if asked is not None and allowed else _own(topic, topics),
        correlation=_correlation(message, topic),
        traceparent=message.user_property("traceparent"),
        denied=None if allowed else asked,
    )


def id_of(correlation: bytes | None) -> str:
    """Write a correlation id as text: UUIDs in their form, text as it is, other bytes in hex."""
    if correlation is None:
        return ""
    if len(correlation) == 16:
        return str(uuid.UUID(bytes=correlation))
    text = correlation[:MAX_ID].decode("ascii", "ignore")
    if len(text) == len(correlation) and text.isprintable():
        return text
    return correlation[:MAX_ID].hex()


def key_of(message: Message, topic: InferTopic) -> str | None:
    """What tells a repeated request: who asked what, and with which bytes, under which id.

    None where the requester gave no correlation id. The payload belongs to it: a requester that
    numbers its requests from 1 after each start must not get yesterday's answers.
    """
    correlation = _correlation(message, topic)
    if correlation is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for part in ((message.response_topic or "").encode(), topic.model.encode(), correlation):
        digest.update(len(part).to_bytes(4, "big") + part)
    digest.update(message.payload)
    return digest.hexdigest()


def read(
    message: Message,
    topic: InferTopic,
    reply: ReplyTo,
    served: Mapping[str, Served],
    *,
    deadline_s: float,
    max_payload_bytes: int,
) -> InferJob:
    """Read a request.

    Raises:
        Refused: it can't be served, with the status and a sentence for the requester.
    """
    if reply.denied is not None:
        raise Refused(400, denial(reply.denied, topic.device))
    model = served.get(topic.model)
    if model is None:
        known = ", ".join(served)
        raise Refused(404, f"there is no model {topic.model} on this device: it has {known}")
    if len(message.payload) > max_payload_bytes:
        raise Refused(
            413,
            f"the request has {len(message.payload)} bytes, over the {max_payload_bytes} that are "
            "taken here: send a smaller one",
        )
    id_, image, tensors, header = _contents(message, model)
    _check_version(_option(message, header, "model-version"), topic.model, model)
    return InferJob(
        id=id_of(_correlation(message, topic)) or id_ or uuid.uuid4().hex,
        model=topic.model,
        image=image,
        tensors=tensors,
        budget_s=_budget_s(_option(message, header, "timeout-ms"), deadline_s),
    )


def _contents(
    message: Message, model: Served
) -> tuple[str, bytes | None, tuple[Tensor, ...], Mapping[str, Parameter]]:
    """Id, image, tensors and header of the payload; the last two from a tensor message."""
    data = message.payload
    kind = message.content_type.partition(";")[0].strip().lower()
    found = _kind_of(data)
    if kind in _UNSAID:
        kind = found
    if kind in _IMAGES:
        if found not in _IMAGES:
            raise Refused(400, f"the payload ({len(data)} bytes) is no image: send a JPEG or PNG")
        if not model.takes_bytes:
            raise Refused(415, f"this model takes no image: send {_wanted(model)}")
        return "", data, (), {}
    if kind not in {envelope.MEDIA_TYPE, "application/json"}:
        raise Refused(
            400 if not kind else 415,
            f"the payload ({kind or 'of no type'}, {len(data)} bytes) is nothing that can be read: "
            f"send a JPEG or PNG, {envelope.MEDIA_TYPE} or Open Inference JSON",
        )
    try:
        id_, tensors, header = _tensors(data, kind)
    except WireError as error:
        raise Refused(400, str(error)) from error
    if {tensor.name for tensor in tensors} != set(model.sources):
        names = ", ".join(tensor.name for tensor in tensors)
        raise Refused(400, f"the request holds {names}: send {_wanted(model)}")
    return id_, None, tensors, header


def _tensors(data: bytes, kind: str) -> tuple[str, tuple[Tensor, ...], Mapping[str, Parameter]]:
    if kind == envelope.MEDIA_TYPE:
        tensors, header = envelope.unpack(data)
        return "", tensors, header
    request = decode(data, InferRequest, what="request")
    tensors = tuple(each.tensor() for each in request.inputs)
    return request.id[:MAX_ID], tensors, {}


def _kind_of(data: bytes) -> str:
    """The content type that the first bytes tell, or an empty string."""
    if data.startswith(envelope.MAGIC):
        return envelope.MEDIA_TYPE
    for kind, magic in _IMAGES.items():
        if data.startswith(magic):
            return kind
    return "application/json" if data.lstrip()[:1] == b"{" else ""


def _option(message: Message, header: Mapping[str, Parameter], name: str) -> str | None:
    """A user property, or under MQTT 3.1.1, which has none, the tensor header's parameter."""
    value = message.user_property(name)
    if value is None and name in header:
        value = str(header[name])
    return value


def _budget_s(text: str | None, default_s: float) -> float:
    if text is None:
        return default_s
    try:
        budget_ms = float(text)
    except ValueError:
        budget_ms = 0.0
    if not (isfinite(budget_ms) and 0 < budget_ms <= MAX_BUDGET_MS):
        raise Refused(
            400, f"timeout-ms is {text[:40]!r}: send milliseconds above 0, at most an hour"
        )
    return budget_ms / 1e3


def _check_version(asked: str | None, name: str, model: Served) -> None:
    if asked is not None and asked != model.version:
        raise Refused(
            404, f"{name} is here in version {model.version}, not {asked[:40]}: ask for that"
        )


def denial(asked: str, device: str) -> str:
    """Say why the answer does not go to *asked*."""
    return (
        f"this device may not answer on {asked[:80]!r}: name an inbox for it, that is ROOT/v1/c/"
        f"YOU/inbox/{device}, or no topic"
    )


def _own(topic: InferTopic | CommandTopic, topics: Topics) -> str:
    match topic:
        case InferTopic(model=model, correlation=correlation):
            return topics.infer(model, "res", correlation)
        case CommandTopic(name=name, correlation=correlation):
            return topics.command(name, "res", correlation)


def _correlation(message: Message, topic: InferTopic | CommandTopic) -> bytes | None:
    """The property of MQTT 5, or the topic's last level under 3.1.1, which has no properties."""
    if message.correlation is not None or topic.correlation is None:
        return message.correlation
    return topic.correlation.encode()


def _wanted(model: Served) -> str:
    if model.takes_bytes and len(model.sources) == 1:
        return "a JPEG or PNG"
    return f"tensors {', '.join(model.sources)} as {envelope.MEDIA_TYPE} or Open Inference JSON"
