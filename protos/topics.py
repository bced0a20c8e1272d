"""Every MQTT topic of Isthmus: made for one device, and read back into typed values.

The device stands at one fixed level, so that one access-control line covers a fleet.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from protos.errors import WireError

Kind = Literal["status", "info", "desired", "reported", "metrics"]
Side = Literal["req", "res"]

_LEVEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MOST_LEVELS = 8  # AWS IoT Core


@dataclass(frozen=True, slots=True)
class DeviceTopic:
    """A device's own documents and metrics."""

    device: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class InferTopic:
    """A request to a device or its answer; *correlation* is set under MQTT 3.1.1 only."""

    device: str
    model: str
    side: Side
    correlation: str | None = None


@dataclass(frozen=True, slots=True)
class ResultTopic:
    """Answers to a device's own inputs, such as a camera."""

    device: str
    source: str


@dataclass(frozen=True, slots=True)
class EventTopic:
    """Something happened on a device, such as ``plan_changed``."""

    device: str
    type: str


@dataclass(frozen=True, slots=True)
class CommandTopic:
    """A short call to a device or its answer; *correlation* is set under MQTT 3.1.1 only."""

    device: str
    name: str
    side: Side
    correlation: str | None = None


@dataclass(frozen=True, slots=True)
class JobTopic:
    """The retained state of a long job on a device."""

    device: str
    type: str
    id: str


@dataclass(frozen=True, slots=True)
class InboxTopic:
    """Where *client* receives what *device* answers."""

    client: str
    device: str


@dataclass(frozen=True, slots=True)
class PoolTopic:
    """A request that any device of a pool may take."""

    pool: str
    model: str


@dataclass(frozen=True, slots=True)
class FleetTopic:
    """The desired document that a group's devices start from."""

    group: str


Topic = (
    DeviceTopic
    | InferTopic
    | ResultTopic
    | EventTopic
    | CommandTopic
    | JobTopic
    | InboxTopic
    | PoolTopic
    | FleetTopic
)


_DEVICE = r"d/(?P<device>[^/]+)/"
_SIDE = r"(?P<side>req|res)(?:/(?P<correlation>[^/]+))?"
_FORMS: tuple[tuple[re.Pattern[str], Callable[..., Topic]], ...] = tuple(
    (re.compile(form), type_)
    for form, type_ in (
        (_DEVICE + r"(?P<kind>status|info|desired|reported|metrics)", DeviceTopic),
        (_DEVICE + r"infer/(?P<model>[^/]+)/" + _SIDE, InferTopic),
        (_DEVICE + r"result/(?P<source>[^/]+)", ResultTopic),
        (_DEVICE + r"event/(?P<type>[^/]+)", EventTopic),
        (_DEVICE + r"cmd/(?P<name>[^/]+)/" + _SIDE, CommandTopic),
        (_DEVICE + r"job/(?P<type>[^/]+)/(?P<id>[^/]+)", JobTopic),
        (r"c/(?P<client>[^/]+)/inbox/(?P<device>[^/]+)", InboxTopic),
        (r"pool/(?P<pool>[^/]+)/infer/(?P<model>[^/]+)/req", PoolTopic),
        (r"fleet/(?P<group>[^/]+)/desired", FleetTopic),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topics of one device below one root.

    *root* has one or two levels. Every level, and every name given to a method, is 1 to 63 of
    ``a-z 0-9 _ -`` and begins with a letter or digit; anything else is a WireError.
    """

    root: str = "isthmus"
    device: str

    def __post_init__(self) -> None:
        levels = self.root.split("/")
        if len(levels) > 2:
            raise WireError(f"MQTT root {self.root!r} is too deep: use one or two levels")
        for level in (*levels, self.device):
            _checked(level)

    @property
    def status(self) -> str:
        """Retained, QoS 1, and the connection's last will."""
        return self._own("status")

    @property
    def info(self) -> str:
        """Retained, QoS 1: what the device is."""
        return self._own("info")

    @property
    def desired(self) -> str:
        """Retained, QoS 1: what the device should be; it subscribes."""
        return self._own("desired")

    @property
    def reported(self) -> str:
        """Retained, QoS 1: what the device applied."""
        return self._own("reported")

    @property
    def metrics(self) -> str:
        """QoS 0."""
        return self._own("metrics")

    def infer(self, model: str, side: Side, correlation: str | None = None) -> str:
        """QoS 1: a request, or the answer when the request named no other topic for it."""
        return self._own("infer", model, side, *_given(correlation))

    def result(self, source: str) -> str:
        """QoS 0, or 1 for alerts."""
        return self._own("result", source)

    def event(self, type_: str) -> str:
        """QoS 1."""
        return self._own("event", type_)

    def command(self, name: str, side: Side, correlation: str | None = None) -> str:
        """QoS 1."""
        return self._own("cmd", name, side, *_given(correlation))

    def job(self, type_: str, id_: str) -> str:
        """Retained, QoS 1; an empty message clears it."""
        return self._own("job", type_, id_)

    def inbox(self, client: str) -> str:
        """QoS 1: where *client* receives this device's answers."""
        return self._below("c", client, "inbox", self.device)

    def pool_infer(self, pool: str, model: str) -> str:
        """QoS 1: where an application asks whichever device of *pool* is free."""
        return self._below("pool", pool, "infer", model, "req")

    def fleet_desired(self, group: str) -> str:
        """Retained, QoS 1: the group's defaults; the device's own document wins key by key."""
        return self._below("fleet", group, "desired")

    @property
    def infer_filter(self) -> str:
        """Matches this device's requests, with or without a correlation level."""
        return f"{self.root}/v1/d/{self.device}/infer/+/req/#"

    @property
    def command_filter(self) -> str:
        """Matches this device's commands, with or without a correlation level."""
        return f"{self.root}/v1/d/{self.device}/cmd/+/req/#"

    @property
    def device_filter(self) -> str:
        """Matches everything below this device."""
        return f"{self.root}/v1/d/{self.device}/#"

    def pool_filter(self, pool: str) -> str:
        """A shared subscription: the broker gives each request to one subscriber."""
        return f"$share/{_checked(pool)}/{self.root}/v1/pool/{pool}/infer/+/req"

    def may_answer_on(self, topic: str) -> bool:
        """Whether a requester may have this device publish its answer on *topic*.

        Only a client's inbox for this device and the device's own answer topics: otherwise a
        request could make the device write wherever its rights reach.
        """
        try:
            match self.parse(topic):
                case InboxTopic(device=device) | InferTopic(device=device, side="res"):
                    return device == self.device
                case CommandTopic(device=device, side="res"):
                    return device == self.device
                case _:
                    return False
        except WireError:
            return False

    def parse(self, topic: str) -> Topic:
        """Read *topic*, of any device below this root; see :func:`parse`."""
        return parse(topic, root=self.root)

    def _own(self, *levels: str) -> str:
        return self._below("d", self.device, *levels)

    def _below(self, *levels: str) -> str:
        topic = "/".join((self.root, "v1", *map(_checked, levels)))
        if topic.count("/") >= _MOST_LEVELS:
            raise WireError(f"MQTT topic {topic} has more than 8 levels: use a root of one level")
        return topic


def parse(topic: str, *, root: str = "isthmus") -> Topic:
    """Read a topic below *root*.

    Raises:
        WireError: not a topic of the contract, or a level that none may have.
    """
    prefix = f"{root}/v1/"
    if not topic.startswith(prefix):
        raise WireError(f"MQTT topic {topic[:80]!r} is not below {prefix}: check the root")
    below = topic.removeprefix(prefix)
    for level in below.split("/"):
        _checked(level)
    for form, type_ in _FORMS:
        if found := form.fullmatch(below):
            return type_(**found.groupdict())
    raise WireError(f"MQTT topic {topic[:80]!r} is not in the contract: use one of its topics")


def _checked(level: str) -> str:
    if not _LEVEL.fullmatch(level):
        raise WireError(
            f"MQTT topic level {level[:80]!r} is not allowed: use 1 to 63 of a-z, 0-9, _ and -, "
            "a letter or digit first"
        )
    return level


def _given(correlation: str | None) -> tuple[str, ...]:
    return () if correlation is None else (correlation,)
