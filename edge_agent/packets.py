"""MQTT messages as the agent sees them, and their properties as paho carries them.

paho builds its tables anew for every set of properties and looks each up by name: 54 us for the
three of an answer, where writing the bytes here takes 3 (2026-11; a tenth of a core makes it 0.5
ms).
"""

import struct
from dataclasses import dataclass

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_CONTENT_TYPE, _CORRELATION_DATA, _USER_PROPERTY = b"\x03", b"\x09", b"\x26"
_LENGTH = struct.Struct(">H")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message that came, with the MQTT 5 properties that matter here.

    *received_s* is the loop's time at arrival. *mid* and *connection* are for acknowledging it:
    packet ids mean nothing on another connection.
    """

    topic: str
    payload: bytes
    qos: int = 1
    retained: bool = False
    content_type: str = ""
    response_topic: str | None = None
    correlation: bytes | None = None
    user: tuple[tuple[str, str], ...] = ()
    received_s: float = 0.0
    mid: int = 0
    connection: int = 0

    def user_property(self, name: str) -> str | None:
        """Look up the first user property of that name."""
        return next((value for key, value in self.user if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One message to send; under MQTT 3.1.1 only topic, payload, QoS and retain are sent."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    content_type: str = "application/json"
    correlation: bytes | None = None
    user: tuple[tuple[str, str], ...] = ()


class PackedProperties(Properties):
    """The properties of a publication, already in the form they travel in."""

    def __init__(self, publication: Publication) -> None:
        # not super().__init__(), which builds the tables that this class does without
        object.__setattr__(self, "packetType", PacketTypes.PUBLISH)
        object.__setattr__(self, "packed", _pack(publication))

    def __str__(self) -> str:
        return repr(self.pack())

    def pack(self) -> bytes:
        """Give the bytes, as paho's own does."""
        packed: bytes = object.__getattribute__(self, "packed")
        return packed


def received(message: MQTTMessage, *, at_s: float, connection: int) -> Message:
    """Read paho's message.

    Raises:
        UnicodeDecodeError: its topic is not UTF-8.
    """
    properties = message.properties
    return Message(
        topic=message.topic,
        payload=bytes(message.payload),
        qos=message.qos,
        retained=message.retain,
        content_type=getattr(properties, "ContentType", ""),
        response_topic=getattr(properties, "ResponseTopic", None),
        correlation=getattr(properties, "CorrelationData", None),
        user=tuple(getattr(properties, "UserProperty", ())),
        received_s=at_s,
        mid=message.mid,
        connection=connection,
    )


def _pack(publication: Publication) -> bytes:
    parts: list[bytes] = []
    if publication.content_type:
        parts += (_CONTENT_TYPE, _prefixed(publication.content_type.encode()))
    if publication.correlation is not None:
        parts += (_CORRELATION_DATA, _prefixed(publication.correlation))
    for name, value in publication.user:
        parts += (_USER_PROPERTY, _prefixed(name.encode()), _prefixed(value.encode()))
    packed = b"".join(parts)
    return _variable(len(packed)) + packed


def _prefixed(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _variable(length: int) -> bytes:
    """Encode a variable byte integer (MQTT 5.0, 1.5.5)."""
    encoded = bytearray()
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)
