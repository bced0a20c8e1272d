"""A user-space link: a TCP proxy in front of a port, as slow, far and unreliable as it is told.

Each direction is one :class:`~testbed.lane.Lane` that all connections share. What a sender sees:

- N bytes take N / bandwidth to leave and arrive one delay later. Only payload counts: no TCP and
  IP headers (2.7 % of a full packet).
- Opening a connection takes a round trip on the link, as the handshake would: the kernel accepts
  at once, but nothing is carried before. In an outage a new connection hangs in the same way.
- A sender may be ahead of the link by its own send buffer, the socket's receive buffer (128 KiB)
  and a queue of 64 KiB or 20 ms (both in :mod:`testbed.connection`); after that it blocks. A
  receiver that does not read holds up its own connection only.
- Closing and resetting travel behind the bytes. A server that refuses looks like a reset.

Deliveries are up to about 1 ms late, the resolution of asyncio's timers on Linux, and lateness
does not add up.
"""

import asyncio
import logging
import socket
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Self

from testbed.conditions import Conditions
from testbed.connection import Connection, End, Way, tcp_socket
from testbed.errors import TestbedError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Payload since the start that has left the transmitters, over all connections.

    A message is a run of bytes one way on one connection until bytes go the other way: exact for
    request and answer in turn, an upper figure for protocols that talk both ways at once.
    """

    up_bytes: int = 0
    down_bytes: int = 0
    up_messages: int = 0
    down_messages: int = 0
    connections: int = 0


class LinkEmulator:
    """The link in front of the port *to*; use as an async context manager.

    *seed* makes the jitter repeatable. ``set`` and ``reset`` are for the loop's own thread; other
    processes use :mod:`testbed.control`.
    """

    def __init__(
        self,
        to: tuple[str, int],
        conditions: Conditions,
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        seed: int = 0,
    ) -> None:
        self._to = to
        self._listen = listen
        self._conditions = conditions
        self._seed = seed
        self._server: asyncio.Server | None = None
        self._up: Way | None = None
        self._down: Way | None = None
        self._connections: set[Connection] = set()
        self._accepted = 0

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            TestbedError: the address is taken or not ours.
        """
        loop = asyncio.get_running_loop()
        random = Random(self._seed)  # noqa: S311 - jitter, no secret
        self._up = Way(self._conditions.upward, loop, random)
        self._down = Way(self._conditions.downward, loop, random)
        sock = tcp_socket(self._listen)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(self._listen)
        except OSError as error:
            sock.close()
            host, port = self._listen
            raise TestbedError(
                f"the link cannot listen on {host}:{port} ({error.strerror}): give another port, "
                "or 0 for any free one"
            ) from error
        self._server = await loop.create_server(self._accept, sock=sock)
        log.info("link up: listen=%s:%d to=%s:%d", *self.address, *self._to)

    async def close(self) -> None:
        """Stop listening and reset what is open."""
        if self._server is not None:
            self._server.close()
            self.reset()
            await self._server.wait_closed()
            for way in (self._up, self._down):
                if way is not None:
                    way.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    @property
    def conditions(self) -> Conditions:
        return self._conditions

    def set(self, conditions: Conditions) -> None:
        """Change the link from now on, for what is on the way too."""
        self._conditions = conditions
        assert self._up is not None
        assert self._down is not None
        self._up.set(conditions.upward)
        self._down.set(conditions.downward)

    def reset(self) -> None:
        """Reset every open connection, at both ends and at once."""
        for connection in tuple(self._connections):
            connection.abort()

    @property
    def stats(self) -> Stats:
        assert self._up is not None
        assert self._down is not None
        return Stats(
            up_bytes=self._up.lane.sent_bytes,
            down_bytes=self._down.lane.sent_bytes,
            up_messages=self._up.messages,
            down_messages=self._down.messages,
            connections=self._accepted,
        )

    def _accept(self) -> End:
        assert self._up is not None
        assert self._down is not None
        self._accepted += 1
        connection = Connection(self._to, self._up, self._down, self._connections.discard)
        self._connections.add(connection)
        return connection.client
