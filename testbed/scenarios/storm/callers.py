"""The clients of a storm: unary calls and long-lived streams, each call taken down in the ledger.

grpc.aio, as the agents use it. Whoever gives up waits longer than every limit that the server has
for such a call: what has no outcome by then is lost, not slow.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc
import grpc.aio

from protos.errors import WireError
from protos.wire import SERVICE, Reply, StreamError, decode_reply, decode_stream_reply
from testbed.scenarios.storm.ledger import Ledger, Outcome, refusal
from testbed.scenarios.storm.subjects import DEADLINE_S, Function

PATIENCE_S = DEADLINE_S + 10.0
STREAMS = 4
GOODBYE_S = 10.0
OPTIONS = (
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.enable_retries", 0),  # one call is one call
)


class Callers:
    """Calls functions of the gateway at *address*, each call once; an async context manager."""

    def __init__(self, address: str, functions: Sequence[Function], ledger: Ledger) -> None:
        self._address = address
        self._functions = functions
        self._ledger = ledger
        self._asked = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_settled = asyncio.Event()
        self._all_settled.set()

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=OPTIONS)
        self._infer: Any = self._channel.unary_unary(f"/{SERVICE}/ModelInfer")
        self._streams = [
            _Stream(self._address, self._functions, self._settle) for _ in range(STREAMS)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for stream in self._streams:
            await stream.close()
        await self._channel.close()

    def call(self, function: int, variant: int, *, streamed: bool) -> None:
        """Have a call begin; its outcome goes to the ledger."""
        self._asked += 1
        id_ = f"{'s' if streamed else 'u'}{self._asked}"
        self._ledger.ask(id_, function)
        self._all_settled.clear()
        data = self._functions[function].request(id_, variant)
        if streamed:
            self._streams[self._asked % STREAMS].send(id_, function, variant, data)
            return
        task = asyncio.create_task(self._unary(id_, function, variant, data), name=f"storm.{id_}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def probe_s(self, function: int) -> float | None:
        """The way there and back alone: the bytes of a call that the gateway refuses on sight."""
        data = self._functions[function].request("probe", 0, model="no-such-model")
        began = time.perf_counter()
        try:
            await self._infer(data, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return time.perf_counter() - began
        return None

    async def settled(self) -> None:
        """Wait until each call has its outcome, or may be given up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._all_settled.wait()

    async def hang_up(self) -> None:
        """End the streams in order, and hear what still comes on them."""
        await asyncio.gather(*(stream.hang_up() for stream in self._streams))

    async def _unary(self, id_: str, function: int, variant: int, data: bytes) -> None:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_S):
                body: bytes = await self._infer(data)
        except TimeoutError:
            return  # it stays without an outcome
        except grpc.aio.AioRpcError as error:
            total_s = time.perf_counter() - began
            self._settle(id_, refusal(error.code().name, error.details() or "", total_s))
            return
        total_s = time.perf_counter() - began
        try:
            reply = decode_reply(body)
        except WireError as error:
            self._settle(id_, Outcome(kind="wrong", total_s=total_s, reason=str(error)))
            return
        self._settle(id_, judged(self._functions[function], variant, id_, reply, total_s))

    def _settle(self, id_: str, outcome: Outcome) -> None:
        self._ledger.settle(id_, outcome)
        if not self._ledger.waiting:
            self._all_settled.set()


class _Stream:
    """One ModelStreamInfer call, opened when it is first used and again when it has ended.

    What waited for an answer on a stream that ended gets none: killing an instance must not end it.
    """

    def __init__(
        self, address: str, functions: Sequence[Function], settle: Callable[[str, Outcome], None]
    ) -> None:
        self._address = address
        self._functions = functions
        self._settle = settle
        self._sent: dict[str, tuple[int, int, float]] = {}
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._channel: grpc.aio.Channel | None = None
        self._running: asyncio.Task[None] | None = None

    def send(self, id_: str, function: int, variant: int, data: bytes) -> None:
        if self._running is None or self._running.done():
            self._outgoing = asyncio.Queue()
            self._running = asyncio.create_task(self._converse(self._outgoing), name="storm.stream")
        self._sent[id_] = (function, variant, time.perf_counter())
        self._outgoing.put_nowait(data)

    async def hang_up(self) -> None:
        if self._running is None:
            return
        self._outgoing.put_nowait(None)
        with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError):
            async with asyncio.timeout(GOODBYE_S):
                await asyncio.shield(self._running)

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _converse(self, outgoing: "asyncio.Queue[bytes | None]") -> None:
        async with grpc.aio.insecure_channel(self._address, options=OPTIONS) as channel:
            method: Any = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
            call = method()
            writing = asyncio.create_task(_write(call, outgoing), name="storm.write")
            try:
                while (data := await call.read()) is not grpc.aio.EOF:
                    self._take(data)
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    def _take(self, data: bytes) -> None:
        now_s = time.perf_counter()
        reply = decode_stream_reply(data)
        function, variant, began_s = self._sent.get(reply.id, (0, 0, now_s))
        total_s = now_s - began_s
        if isinstance(reply, StreamError):
            outcome = refusal("stream", reply.message, total_s)
        else:
            outcome = judged(self._functions[function], variant, reply.id, reply, total_s)
        self._settle(reply.id, outcome)


def judged(function: Function, variant: int, id_: str, reply: Reply, total_s: float) -> Outcome:
    """The outcome that an answer is."""
    if (reply.model, reply.id) != (function.name, id_):
        wrong = f"the answer of {reply.model} to {reply.id or 'no id'}"
    elif reply.timing is None:
        wrong = "it does not say where its time went"
    else:
        wrong = function.subject.verdict(variant, reply)
    return Outcome(
        kind="wrong" if wrong else "right",
        total_s=total_s,
        reason=wrong,
        cold=reply.cold,
        timing=reply.timing,
    )


async def _write(call: Any, outgoing: "asyncio.Queue[bytes | None]") -> None:  # noqa: ANN401
    while (data := await outgoing.get()) is not None:
        await call.write(data)
    await call.done_writing()
