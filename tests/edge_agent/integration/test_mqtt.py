"""The client by itself: what reaches the broker, what comes back, and brokers that are odd."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from edge_agent.errors import BrokerRefused, PublishRefused
from edge_agent.mqtt import IN_FLIGHT, OVERFLOW, MqttClient
from edge_agent.packets import Message, Publication
from edge_agent.session import Settings
from testbed.broker import Broker
from tests.edge_agent.integration.conftest import LIMIT_S

pytestmark = pytest.mark.integration


def settings_for(port: int, **changes: Any) -> Settings:  # noqa: ANN401  any field
    settings = Settings(
        host="127.0.0.1",
        port=port,
        client_id="cam-01-agent",
        filters=("in/#",),
        will=Publication(topic="gone", payload=b""),
        max_payload_bytes=10_000,
    )
    return replace(settings, **changes)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[MqttClient]:
    """A client that is connected, and that is closed in the end."""
    ready = asyncio.Event()
    client = MqttClient(settings, on_connected=ready.set, jitter=lambda: 0.0)
    running = asyncio.create_task(client.run())
    waiting = asyncio.create_task(ready.wait())
    try:
        done, _ = await asyncio.wait(
            {running, waiting}, timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED
        )
        if running in done:
            running.result()
        assert ready.is_set()
        yield client
    finally:
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        await client.close()


async def first(client: MqttClient) -> Message:
    async with asyncio.timeout(LIMIT_S):
        async for message in client.messages():
            return message
    raise AssertionError


def port_of(broker: Broker) -> int:
    return int(broker.url.rpartition(":")[2])


def test_what_is_published_comes_back_with_its_properties(broker: Broker) -> None:
    async def scenario() -> Message:
        async with connected(settings_for(port_of(broker))) as client:
            await client.publish(
                Publication(
                    topic="in/a",
                    payload=b"x" * 5000,
                    content_type="image/png",
                    correlation=b"\x00\x01",
                    user=(("k", "v"),),
                )
            )
            message = await first(client)
            client.ack(message)
            return message

    message = asyncio.run(scenario())
    assert (message.topic, message.payload, message.qos) == ("in/a", b"x" * 5000, 1)
    assert (message.content_type, message.correlation, message.user) == (
        "image/png",
        b"\x00\x01",
        (("k", "v"),),
    )


def test_what_was_not_acknowledged_comes_again_and_what_was_does_not(broker: Broker) -> None:
    """The broker keeps the session of a client that went without a word."""

    async def scenario() -> list[bytes]:
        settings = settings_for(port_of(broker))
        async with connected(settings) as client:
            for payload in (b"1", b"2"):
                await client.publish(Publication(topic="in/a", payload=payload))
            client.ack(await first(client))
        async with connected(settings) as client:
            await client.publish(Publication(topic="in/a", payload=b"3"))
            return [(await first(client)).payload, (await first(client)).payload]

    assert asyncio.run(scenario()) == [b"2", b"3"]


def test_many_messages_go_out_a_few_at_a_time(broker: Broker) -> None:
    async def scenario() -> int:
        async with connected(settings_for(port_of(broker))) as client:
            futures = [
                client.post(Publication(topic="out", payload=str(number).encode()))
                for number in range(5 * IN_FLIGHT)
            ]
            in_flight = len(client._unacknowledged)
            async with asyncio.timeout(LIMIT_S):
                await asyncio.gather(*futures)
            return in_flight

    assert asyncio.run(scenario()) == IN_FLIGHT


def test_a_message_that_is_too_large_is_refused_and_the_next_one_goes_out(broker: Broker) -> None:
    """Left to itself paho would send it, and the broker would hang up."""

    async def scenario() -> None:
        async with connected(settings_for(port_of(broker))) as client:
            with pytest.raises(PublishRefused, match="a message of 10001 bytes is over the 10000"):
                await client.publish(Publication(topic="out", payload=bytes(10_001)))
            await client.publish(Publication(topic="out", payload=bytes(10_000)))

    asyncio.run(scenario())


def test_what_nobody_takes_stays_with_the_broker_and_is_not_lost(broker: Broker) -> None:
    """MQTT 5 holds the broker to our receive maximum."""

    async def scenario() -> tuple[int, list[bytes]]:
        settings = settings_for(port_of(broker), receive_maximum=2)
        async with connected(settings) as client:
            for number in range(6):
                await client.publish(Publication(topic="in/a", payload=str(number).encode()))
            held = client._incoming.qsize()
            taken = []
            for _ in range(6):
                message = await first(client)
                client.ack(message)
                taken.append(message.payload)
            return held, taken

    assert asyncio.run(scenario()) == (2, [b"0", b"1", b"2", b"3", b"4", b"5"])


def test_a_flood_that_no_protocol_limits_is_dropped_and_publishing_goes_on(broker: Broker) -> None:
    """QoS 0 knows no acknowledgement that could be held back."""

    async def scenario() -> int:
        settings = settings_for(port_of(broker), receive_maximum=2)
        async with connected(settings) as client:
            for _ in range(100):
                await client.publish(Publication(topic="in/a", payload=b"", qos=0))
            await client.publish(Publication(topic="out", payload=b""))  # all came before
            return client._incoming.qsize()

    assert asyncio.run(scenario()) == 2 * OVERFLOW


# Brokers of our own, which read packets and answer bytes ----------------------------------------

Answer = Callable[[int], bytes | None]
ACCEPTED_5 = b"\x20\x03\x00\x00\x00"
ACCEPTED, UNSUPPORTED = b"\x20\x02\x00\x00", b"\x20\x02\x00\x01"
GRANTED, NO_PROPERTIES = b"\x01", b"\x00"


@asynccontextmanager
async def odd_broker(answer: Answer) -> AsyncIterator[int]:
    """Answers CONNECT of a protocol level with bytes, or hangs up; grants any subscription."""
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        level = 0
        writers.append(writer)
        while packet := await _packet(reader):
            kind, body = packet
            if kind == 0x10:
                level = body[6]
                reply = answer(level)
                if reply is None:
                    break
                writer.write(reply)
            elif kind == 0x80:
                granted = GRANTED if level == 4 else NO_PROPERTIES + GRANTED
                writer.write(bytes((0x90, 2 + len(granted))) + body[:2] + granted)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for writer in writers:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes] | None:
    try:
        kind, length, shift = (await reader.readexactly(1))[0], 0, 0
        while (byte := (await reader.readexactly(1))[0]) & 0x80:
            length, shift = length | (byte & 0x7F) << shift, shift + 7
        return kind & 0xF0, await reader.readexactly(length | byte << shift)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def speaks(answer: Answer) -> bool:
    """Whether the client speaks MQTT 5 with such a broker once it is connected."""
    async with (
        odd_broker(answer) as port,
        connected(settings_for(port)) as client,
    ):
        return client.v5


def test_a_broker_that_says_it_knows_no_mqtt_5_is_spoken_to_in_311() -> None:
    assert asyncio.run(speaks(lambda level: ACCEPTED if level == 4 else UNSUPPORTED)) is False


def test_a_broker_that_hangs_up_on_mqtt_5_is_spoken_to_in_311() -> None:
    assert asyncio.run(speaks(lambda level: ACCEPTED if level == 4 else None)) is False


def test_a_broker_that_refuses_our_name_is_given_up_at_the_start() -> None:
    async def scenario() -> None:
        async with odd_broker(lambda _level: b"\x20\x03\x00\x86\x00") as port:
            await MqttClient(settings_for(port)).run()

    with pytest.raises(BrokerRefused, match="refuses cam-01-agent: Bad user name or password"):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    "garbage", [b"\xff\xff\xff\xff\xff\xff", b"\x30\x04\x00\xff\x00\x00", b"\x20\x00", b"\x30\x00"]
)
def test_garbage_from_a_broker_costs_the_connection_and_not_the_client(garbage: bytes) -> None:
    """It connects again, and then the broker behaves."""
    turns = iter([ACCEPTED_5 + garbage])

    async def scenario() -> bool:
        def answer(_level: int) -> bytes:
            return next(turns, ACCEPTED_5)

        settings = replace(settings_for(0), protocol="5")
        async with (
            odd_broker(answer) as port,
            connected(replace(settings, port=port)) as client,
        ):
            return client.connected

    assert asyncio.run(scenario())
