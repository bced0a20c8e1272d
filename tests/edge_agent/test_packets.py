"""MQTT 5 properties as we write them, and messages as paho read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.packets import Message, PackedProperties, Publication, received

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


def properties() -> Properties:
    return Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it untyped


@given(TEXT.filter(bool), st.binary(max_size=200), st.lists(st.tuples(TEXT, TEXT), max_size=3))
def test_properties_are_packed_as_paho_packs_them(
    kind: str, correlation: bytes, user: list[tuple[str, str]]
) -> None:
    theirs = properties()
    theirs.ContentType = kind
    theirs.CorrelationData = correlation
    if user:
        theirs.UserProperty = user
    publication = Publication(
        topic="t", payload=b"", content_type=kind, correlation=correlation, user=tuple(user)
    )
    packed = theirs.pack()  # type: ignore[no-untyped-call]  # paho leaves it untyped
    assert PackedProperties(publication).pack() == packed


def test_a_message_is_read_with_its_properties() -> None:
    theirs = MQTTMessage(mid=5, topic=b"a/b")
    theirs.payload, theirs.qos, theirs.retain = b"x", 1, True
    theirs.properties = properties()
    theirs.properties.ContentType = "image/png"
    theirs.properties.ResponseTopic = "c/d"
    theirs.properties.CorrelationData = b"\x01"
    theirs.properties.UserProperty = [("k", "v"), ("k", "w")]
    message = received(theirs, at_s=2.5, connection=3)
    assert message == Message(
        topic="a/b",
        payload=b"x",
        retained=True,
        content_type="image/png",
        response_topic="c/d",
        correlation=b"\x01",
        user=(("k", "v"), ("k", "w")),
        received_s=2.5,
        mid=5,
        connection=3,
    )
    assert (message.user_property("k"), message.user_property("z")) == ("v", None)


def test_a_message_of_mqtt_311_has_no_properties() -> None:
    theirs = MQTTMessage(mid=5, topic=b"a")
    theirs.payload, theirs.qos = b"", 0
    assert received(theirs, at_s=0.0, connection=1) == Message(
        topic="a", payload=b"", qos=0, mid=5, connection=1
    )


def test_a_topic_that_is_not_utf8_is_no_message() -> None:
    with pytest.raises(UnicodeDecodeError):
        received(MQTTMessage(mid=1, topic=b"\xff"), at_s=0.0, connection=1)
