"""The link in front of a real server, over loopback sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from testbed.conditions import Conditions
from testbed.errors import TestbedError
from testbed.link import LinkEmulator, Stats

pytestmark = pytest.mark.integration

LIMIT_S = 20.0
QUIET_S = 0.2
"""How long we listen before we say that nothing came."""

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def conditions(
    *, bps: float = 10e6, delay_s: float = 0.0, jitter_s: float = 0.0, outage: bool = False
) -> Conditions:
    return Conditions(up=bps, down=bps, delay_s=delay_s, jitter_s=jitter_s, outage=outage)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    writer.close()


@contextlib.asynccontextmanager
async def a_link(like: Conditions, handler: Handler = echo) -> AsyncIterator[LinkEmulator]:
    """A link in front of a server of its own."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server, LinkEmulator(server.sockets[0].getsockname(), like) as link:
        yield link


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario()

    asyncio.run(limited())


def test_bytes_come_through_unchanged_both_ways_and_so_does_the_end() -> None:
    message = bytes(range(256)) * 2000

    async def scenario() -> None:
        async with a_link(conditions(bps=20e6, jitter_s=0.002)) as link:
            reader, writer = await asyncio.open_connection(*link.address)
            writer.write(message)
            writer.write_eof()
            assert await reader.read(-1) == message
            writer.close()
            assert link.stats == Stats(
                up_bytes=len(message),
                down_bytes=len(message),
                up_messages=link.stats.up_messages,
                down_messages=link.stats.down_messages,
                connections=1,
            )

    run(scenario)


def test_nothing_is_faster_than_the_link() -> None:
    """100 KB at 1 MB/s and 20 ms each way, after a handshake: 0.1 + 0.1 + 2 * 0.04 s at least."""

    async def scenario() -> None:
        async with a_link(conditions(bps=1e6, delay_s=0.02)) as link:
            clock = asyncio.get_running_loop().time
            start_s = clock()
            reader, writer = await asyncio.open_connection(*link.address)
            writer.write(bytes(100_000))
            await reader.readexactly(1)
            assert clock() - start_s >= 0.08
            await reader.readexactly(99_999)
            assert clock() - start_s >= 0.18
            writer.close()

    run(scenario)


def test_connections_share_one_bandwidth() -> None:
    """Five times 20 KB at 1 MB/s take as long as 100 KB."""

    async def scenario() -> None:
        async with a_link(conditions(bps=1e6)) as link:
            clock = asyncio.get_running_loop().time
            start_s = clock()

            async def talk() -> None:
                reader, writer = await asyncio.open_connection(*link.address)
                writer.write(bytes(20_000))
                await reader.readexactly(20_000)
                writer.close()

            await asyncio.gather(*(talk() for _ in range(5)))
            assert clock() - start_s >= 0.1
            assert (link.stats.up_bytes, link.stats.connections) == (100_000, 5)

    run(scenario)


def test_request_and_answer_in_turn_are_counted_as_messages() -> None:
    async def scenario() -> None:
        async with a_link(conditions()) as link:
            reader, writer = await asyncio.open_connection(*link.address)
            for _ in range(3):
                writer.write(b"request")
                await reader.readexactly(7)
            assert link.stats == Stats(
                up_bytes=21, down_bytes=21, up_messages=3, down_messages=3, connections=1
            )
            writer.close()

    run(scenario)


def test_in_an_outage_bytes_stall_and_afterwards_they_arrive() -> None:
    async def scenario() -> None:
        async with a_link(conditions()) as link:
            reader, writer = await asyncio.open_connection(*link.address)
            writer.write(b"before")
            assert await reader.readexactly(6) == b"before"
            link.set(replace(link.conditions, outage=True))
            writer.write(b"during")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiting := _read(reader, 6)), QUIET_S)
            link.set(replace(link.conditions, outage=False))
            assert await waiting == b"during"
            writer.close()

    run(scenario)


def _read(reader: asyncio.StreamReader, count: int) -> "asyncio.Task[bytes]":
    return asyncio.create_task(reader.readexactly(count))


def test_in_an_outage_a_new_connection_hangs_until_it_is_over() -> None:
    async def scenario() -> None:
        seen = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set()
            await echo(reader, writer)

        async with a_link(conditions(outage=True), handler) as link:
            reader, writer = await asyncio.open_connection(*link.address)
            writer.write(b"hello")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(seen.wait(), QUIET_S)
            link.set(conditions())
            assert await reader.readexactly(5) == b"hello"
            writer.close()

    run(scenario)


def test_a_sender_feels_a_link_that_does_not_move() -> None:
    """Its own buffer (here 16 KiB, which Linux doubles), our socket's and our queue; no more."""

    async def scenario() -> None:
        async with a_link(conditions()) as link:
            loop = asyncio.get_running_loop()
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
            sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
            with sock:
                await loop.sock_connect(sock, link.address)
                await loop.sock_sendall(sock, b"x")
                assert await loop.sock_recv(sock, 1) == b"x"
                link.set(conditions(outage=True))
                sent = 0
                with contextlib.suppress(TimeoutError):
                    while sent < 1_000_000:
                        await asyncio.wait_for(loop.sock_sendall(sock, bytes(4096)), QUIET_S)
                        sent += 4096
                assert 64 * 1024 <= sent <= 512 * 1024

    run(scenario)


def test_a_receiver_that_does_not_read_holds_up_only_itself() -> None:
    async def scenario() -> None:
        deaf = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if await reader.readexactly(1) == b"d":
                await deaf.wait()
            else:
                await echo(reader, writer)
            writer.close()

        async with a_link(conditions(bps=100e6), handler) as link:
            _, stuck = await asyncio.open_connection(*link.address)
            stuck.write(b"d" + bytes(30_000_000))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stuck.drain(), QUIET_S)
            reader, writer = await asyncio.open_connection(*link.address)
            writer.write(b"e" + bytes(1000))
            await reader.readexactly(1000)
            writer.close()
            stuck.transport.abort()
            deaf.set()

    run(scenario)


def test_a_server_that_is_not_there_looks_like_a_reset() -> None:
    async def scenario() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can take it
            async with LinkEmulator(sock.getsockname(), conditions()) as link:
                reader, writer = await asyncio.open_connection(*link.address)
                with pytest.raises(ConnectionResetError):
                    await reader.read(1)
                writer.close()

    run(scenario)


def test_a_reset_reaches_both_ends() -> None:
    async def scenario() -> None:
        ended: asyncio.Queue[BaseException | None] = asyncio.Queue()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await echo_once(reader, writer)
                await reader.read(1)
            except ConnectionResetError as error:
                ended.put_nowait(error)
            writer.close()

        async with a_link(conditions(), handler) as link:
            reader, writer = await asyncio.open_connection(*link.address)
            writer.write(b"x")
            await reader.readexactly(1)
            link.reset()
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
            assert isinstance(await ended.get(), ConnectionResetError)
            writer.close()

    run(scenario)


async def echo_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(1))


def test_a_server_that_resets_is_seen_through_the_link() -> None:
    async def scenario() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            linger_none = b"\x01\0\0\0\0\0\0\0"
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger_none
            )
            writer.transport.abort()

        async with a_link(conditions(), handler) as link:
            reader, writer = await asyncio.open_connection(*link.address)
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
            writer.close()

    run(scenario)


def test_a_port_that_is_taken_is_said_in_one_sentence() -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            link = LinkEmulator(("127.0.0.1", 1), conditions(), listen=("127.0.0.1", port))
            with pytest.raises(TestbedError) as caught:
                await link.start()
            assert str(caught.value) == (
                f"the link cannot listen on 127.0.0.1:{port} (Address already in use): "
                "give another port, or 0 for any free one"
            )

    run(scenario)
