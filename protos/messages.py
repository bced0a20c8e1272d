"""The JSON messages that MQTT carries.

What a device must act on is read strictly: it may not claim to have applied a field that it does
not know. Reports are read leniently, so that an older reader follows a newer device.
"""

from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from protos.documents import DocumentError, decode_json
from protos.errors import WireError
from protos.json_tensors import JsonTensor
from protos.tensors import Buffer

T = TypeVar("T")

Moment = Annotated[datetime, Meta(tz=True)]
Natural = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[float, Meta(ge=0)]
LogLevel = Literal["debug", "info", "warning", "error"]


class Status(Struct, frozen=True, kw_only=True):
    """Whether a device is there; ``lost`` is the connection's last will.

    A ``lost`` counts only if its *boot* is that of the newest ``online``.
    """

    state: Literal["online", "degraded", "offline", "lost"]
    boot: str
    seq: Natural = 0
    ts: Moment
    agent: str


class Hardware(Struct, frozen=True, kw_only=True):
    arch: str
    cpu: str
    cores: Natural
    mem_mb: Natural
    accel: tuple[str, ...] = ()


class Runtime(Struct, frozen=True, kw_only=True):
    onnxruntime: str
    eps: tuple[str, ...] = ()


class HeldModel(Struct, frozen=True, kw_only=True):
    """A model on the device: all of it, or heads only; *splits* are the plans it can follow."""

    name: str
    version: str
    digest: str
    role: Literal["head", "full"]
    splits: tuple[str, ...] = ()


class MqttLimits(Struct, frozen=True, kw_only=True):
    """*v* is 5, or 4 for MQTT 3.1.1; *max_payload* in bytes."""

    v: Literal[4, 5]
    max_payload: Natural


class Info(Struct, frozen=True, kw_only=True):
    """What a device is and offers."""

    schema: Literal[1] = 1
    device: str
    agent: str
    hw: Hardware
    runtime: Runtime
    models: tuple[HeldModel, ...] = ()
    inputs: tuple[str, ...] = ()
    mqtt: MqttLimits
    cmds: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()


class DesiredModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """*plan* is an id of the model's plan document; without one the device chooses."""

    version: str
    digest: str
    plan: str | None = None


class DesiredLink(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to assume of the uplink until it was measured; bandwidth in bytes per second."""

    bandwidth_bps: Annotated[float, Meta(gt=0)] | None = None
    rtt_s: Annotated[float, Meta(ge=0)] | None = None


class Desired(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a device should be; it applies the whole or nothing."""

    version: Natural
    models: dict[str, DesiredModel] = {}
    link: DesiredLink = DesiredLink()
    log_level: LogLevel = "info"


class Fault(Struct, frozen=True, kw_only=True):
    """Why part of a desired document was not applied; *path* such as ``models.resnet50``."""

    path: str
    code: str
    msg: str


class Reported(Struct, frozen=True, kw_only=True):
    """What a device applied; *config* is what is in effect now."""

    applied_version: Natural
    status: Literal["applied", "applying", "rejected"]
    errors: tuple[Fault, ...] = ()
    config: Desired | None = None


class ModelRef(Struct, frozen=True, kw_only=True):
    name: str
    version: str
    digest: str


class Estimate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a device knows when it chooses a plan; where None, the plan document's figure holds.

    *up_bps* is in bytes per second. *wait_s* is the expected wait for an instance in the cloud,
    *pace* what the device takes over what its profile predicted, *local_s* and *remote_s* what is
    left to the software around a request that is answered on the device, and around one that is
    sent.
    """

    up_bps: float | None = None
    rtt_s: float | None = None
    wait_s: float | None = None
    local_s: float | None = None
    remote_s: float | None = None
    pace: float | None = None


class Placement(Struct, frozen=True, kw_only=True):
    """Where an answer was computed; *split* names the tensors that crossed.

    ``fallback``: the plan was another, but the device finished alone. *estimate* is what the device
    knows by the time of the answer.
    """

    mode: Literal["edge", "split", "cloud", "fallback"]
    plan: str
    split: tuple[str, ...] = ()
    estimate: Estimate | UnsetType = UNSET


class PlanChanged(Struct, frozen=True, kw_only=True):
    """The event ``plan_changed``: *model* follows another plan, as *estimate* suggests."""

    boot: str
    ts: Moment
    model: str
    before: str = field(name="from")
    plan: str = field(name="to")
    estimate: Estimate


class Milestones(Struct, frozen=True, kw_only=True):
    """Where the time of one answer went, in ms, each measured on one clock.

    *queue* before the device began, *pre* its steps, *edge* the head, *net* the network's share,
    *cloud* as the gateway measured it; *total* from receipt of the request until its answer.
    """

    queue: Milliseconds = 0.0
    pre: Milliseconds = 0.0
    edge: Milliseconds = 0.0
    net: Milliseconds = 0.0
    cloud: Milliseconds = 0.0
    total: Milliseconds


class Terms(Struct, frozen=True, kw_only=True):
    """The five terms of T_total in ms; see :class:`protos.timing.Timing`."""

    trigger: Milliseconds
    init: Milliseconds
    load: Milliseconds
    infer: Milliseconds
    response: Milliseconds


class InferResult(Struct, frozen=True, kw_only=True):
    """An answer, with where and when it was made.

    *timing* has the five terms of the whole way, which add up to ``ms.total``; *sent_bytes* and
    *received_bytes* are the tensors' bytes on the uplink, 0 when nothing was sent.
    """

    id: str
    model: ModelRef
    outputs: tuple[JsonTensor, ...]
    placement: Placement
    ms: Milestones
    timing: Terms | None = None
    sent_bytes: Natural = 0
    received_bytes: Natural = 0
    degraded: bool = False


class InferRequest(Struct, frozen=True, kw_only=True):
    """A request as Open Inference JSON, for small inputs; other members of it are ignored."""

    id: str = ""
    inputs: Annotated[tuple[JsonTensor, ...], Meta(min_length=1)]


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A failed request, as problem JSON (RFC 9457); *status* as in HTTP, *id* the request's."""

    type: str = "about:blank"
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str = ""
    instance: str = ""
    id: str = ""


def encode(message: Struct) -> bytes:
    """Write a message as compact JSON."""
    return msgspec.json.encode(message)


def decode(data: Buffer, type_: type[T], *, what: str) -> T:
    """Read a message of *type_*; *what* is how the error calls it, such as ``"status message"``.

    Raises:
        WireError: not JSON, or a field is missing or of the wrong type or range.
    """
    try:
        return decode_json(bytes(data), type_, what=what)
    except DocumentError as error:
        raise WireError(str(error)) from error
