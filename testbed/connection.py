"""A connection through an emulated link: two sockets, and a flow each way between them."""

import asyncio
import enum
import itertools
import logging
import socket
import struct
from collections.abc import Callable
from random import Random

from testbed.capacity import average_bps
from testbed.conditions import Pace, Rate
from testbed.lane import Lane

log = logging.getLogger(__name__)

SOCKET_BUFFER_BYTES = 64 * 1024
"""Asked for each socket's receive buffer; Linux gives twice as much, for its own bookkeeping."""
READ_BYTES = 64 * 1024
DIAL_LIMIT_S = 5.0

_LINGER_NONE = struct.pack("ii", 1, 0)  # struct linger: on, for 0 seconds


class Signal(enum.Enum):
    """What travels besides bytes."""

    OPEN = enum.auto()
    OPENED = enum.auto()
    END = enum.auto()
    RESET = enum.auto()


Payload = bytes | Signal


def queue_bytes(rate: Rate) -> int:
    """What a connection may have waiting each way: 64 KiB, or 20 ms of a faster link.

    Deep enough that a wake-up 20 ms late leaves no gap in the transmission.
    """
    return max(64 * 1024, int(average_bps(rate) * 0.020))


class Way:
    """A lane, told the time by the event loop, and the flows at its end."""

    def __init__(self, pace: Pace, loop: asyncio.AbstractEventLoop, random: Random) -> None:
        self.lane: Lane[Payload] = Lane(pace, loop.time(), random)
        self.queue_bytes = queue_bytes(pace.rate)
        self.messages = 0
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._ids = itertools.count()
        self._flows: dict[int, Flow] = {}

    def join(self, flow: "Flow") -> int:
        number = next(self._ids)
        self._flows[number] = flow
        return number

    def leave(self, number: int) -> None:
        self._flows.pop(number, None)
        self.lane.drop(number)

    def set(self, pace: Pace) -> None:
        self.lane.set(self._loop.time(), pace)
        self.queue_bytes = queue_bytes(pace.rate)
        self._tick()

    def offer(self, number: int, payload: Payload) -> None:
        now_s = self._loop.time()
        if isinstance(payload, Signal):
            self.lane.offer(now_s, number, 0, payload)
        else:
            quantum = self.lane.quantum_bytes
            for start in range(0, len(payload), quantum):
                part = payload[start : start + quantum]
                self.lane.offer(now_s, number, len(part), part)
        self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        for parcel in self.lane.advance(self._loop.time()):
            if (flow := self._flows.get(parcel.flow)) is not None:
                flow.arrive(parcel.payload)
        for flow in tuple(self._flows.values()):
            flow.settle()
        self._arm()

    def _arm(self) -> None:
        next_s = self.lane.next_s
        if self._timer is not None:
            if self._timer.when() == next_s and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = None if next_s is None else self._loop.call_at(next_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._tick()


class Flow:
    """One direction of one connection: reads from *source*, and arrives at *sink*."""

    def __init__(self, way: Way, source: "End", sink: "End", act: Callable[[Signal], None]) -> None:
        self._way = way
        self._source = source
        self._sink = sink
        self._act = act
        self._number = way.join(self)

    def offer(self, payload: Payload) -> None:
        self._way.offer(self._number, payload)
        self.settle()

    def arrive(self, payload: Payload) -> None:
        if isinstance(payload, Signal):
            self._act(payload)
        else:
            self._sink.write(payload)

    def settle(self) -> None:
        """Let the source send, or not, by the room in the queue."""
        full = self._way.lane.backlog(self._number) >= self._way.queue_bytes
        self._source.hold("queue", on=full)

    def count_message(self) -> None:
        self._way.messages += 1

    def leave(self) -> None:
        self._way.leave(self._number)


class Connection:
    """A client's connection, ours to the server, and the two flows between."""

    def __init__(
        self, to: tuple[str, int], up: Way, down: Way, forget: Callable[["Connection"], None]
    ) -> None:
        self._to = to
        self._forget = forget
        self._closed = False
        self._turn: Flow | None = None
        self._dialling: asyncio.Task[None] | None = None
        self.client = End(self)
        self.server = End(self)
        self._up = Flow(up, self.client, self.server, self._arrived_up)
        self._down = Flow(down, self.server, self.client, self._arrived_down)

    def connected(self, end: "End") -> None:
        """Answer the client's opening with the server's, and carry nothing before that is back."""
        if end is self.client:
            end.hold("opening", on=True)
            self._up.offer(Signal.OPEN)
        else:
            self._down.offer(Signal.OPENED)

    def received(self, end: "End", payload: Payload) -> None:
        if self._closed:
            return
        flow = self._up if end is self.client else self._down
        if isinstance(payload, bytes) and self._turn is not flow:
            self._turn = flow
            flow.count_message()
        flow.offer(payload)

    def blocked(self, end: "End", *, on: bool) -> None:
        """The receiver at *end* does not read: hold up who sends to it."""
        (self.server if end is self.client else self.client).hold("receiver", on=on)

    def abort(self) -> None:
        """Reset both ends and forget what is on the way."""
        if self._closed:
            return
        self._closed = True
        if self._dialling is not None:
            self._dialling.cancel()
        for end in (self.client, self.server):
            end.abort()
        self._finish()

    def _arrived_up(self, signal: Signal) -> None:
        if signal is Signal.OPEN:
            self._dialling = asyncio.create_task(self._dial(), name="link.dial")
        else:
            self._arrived(signal, self.server)

    def _arrived_down(self, signal: Signal) -> None:
        if signal is Signal.OPENED:
            self.client.hold("opening", on=False)
        else:
            self._arrived(signal, self.client)

    def _arrived(self, signal: Signal, sink: "End") -> None:
        if signal is Signal.RESET:
            self.abort()
            return
        sink.end()
        if self.client.ended and self.server.ended:
            self._closed = True
            self.client.close()
            self.server.close()
            self._finish()

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DIAL_LIMIT_S):
                sock = tcp_socket(self._to)
                try:
                    await loop.sock_connect(sock, self._to)
                    await loop.create_connection(lambda: self.server, sock=sock)
                except BaseException:
                    sock.close()
                    raise
        except OSError as error:  # TimeoutError is one
            log.info("link refused: to=%s:%d reason=%s", *self._to, error)
            self._down.offer(Signal.RESET)

    def _finish(self) -> None:
        self._up.leave()
        self._down.leave()
        self._forget(self)


class End(asyncio.BufferedProtocol):
    """One socket of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(READ_BYTES)
        self._holds: set[str] = set()
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._holds:
            transport.pause_reading()
        self._connection.connected(self)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's signature
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.received(self, bytes(memoryview(self._buffer)[:nbytes]))

    def eof_received(self) -> bool:
        self._connection.received(self, Signal.END)
        return True  # keep the other half open

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._connection.received(self, Signal.RESET)

    def pause_writing(self) -> None:
        self._connection.blocked(self, on=True)

    def resume_writing(self) -> None:
        self._connection.blocked(self, on=False)

    def hold(self, reason: str, *, on: bool) -> None:
        """Stop reading while any reason holds."""
        held = bool(self._holds)
        if on:
            self._holds.add(reason)
        else:
            self._holds.discard(reason)
        if self._transport is None or self._transport.is_closing() or held == bool(self._holds):
            return
        if self._holds:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def end(self) -> None:
        self.ended = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close with a reset, not in order: the peer must see an error."""
        if self._transport is not None:
            sock: socket.socket = self._transport.get_extra_info("socket")
            if not self._transport.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            self._transport.abort()


def tcp_socket(address: tuple[str, int]) -> socket.socket:
    """A non-blocking socket whose small receive buffer lets backpressure through."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
    return sock
