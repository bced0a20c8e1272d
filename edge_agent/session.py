"""What a session with the broker is made of: whom, as whom, and the paho client for it."""

from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.config import Protocol
from edge_agent.packets import Publication

CONNECT_LIMIT_S = 5.0

SESSION_EXPIRY_S = 300
"""How long the broker keeps requests for an agent that is away."""

WILL_DELAY_S = 10
LEAST_PACKET_BYTES, MOST_PACKET_BYTES = 1 << 20, (1 << 28) - 1  # the latter is the protocol's
PACKET_OF_PAYLOAD = 4
"""Packets of this many times the configured payload are taken, to reply that they are too large;
MQTT 5 brokers drop what is larger without a word to the sender."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Whom to connect to, as whom, and what to hear."""

    host: str
    port: int
    client_id: str
    filters: tuple[str, ...]
    will: Publication
    protocol: Protocol = "auto"
    username: str | None = None
    password: str | None = None
    keepalive_s: int = 30
    receive_maximum: int = 64
    max_payload_bytes: int = 256 << 10


def paho_client(settings: Settings, *, v5: bool) -> paho.Client:
    """Make the client; it connects and reconnects only when it is told to."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=settings.client_id,
        clean_session=None if v5 else False,
        protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = CONNECT_LIMIT_S
    client.max_inflight_messages = 0  # the limit is ours
    if settings.password is not None:
        client.username_pw_set(settings.username, settings.password)
    will, properties = settings.will, None
    if v5:
        properties = _properties(PacketTypes.WILLMESSAGE)
        properties.WillDelayInterval = WILL_DELAY_S
        properties.ContentType = will.content_type
    client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
    return client


def connect_properties(settings: Settings) -> Properties:
    """Say what an MQTT 5 broker must know of us."""
    properties = _properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = SESSION_EXPIRY_S
    properties.ReceiveMaximum = settings.receive_maximum
    properties.MaximumPacketSize = min(
        MOST_PACKET_BYTES,
        max(LEAST_PACKET_BYTES, PACKET_OF_PAYLOAD * settings.max_payload_bytes),
    )
    return properties


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves it untyped
