"""The rig's device: runs heads, sends what crosses, and takes the time."""

import contextlib
import socket
import time
from typing import assert_never

from protos.errors import WireError
from protos.frames import send_frame
from testbed.bench.rig.ahead import Ahead
from testbed.bench.rig.loaded import Heads, difference, read_model
from testbed.bench.rig.orders import (
    Answer,
    Ask,
    Asked,
    Check,
    Checked,
    Load,
    Loaded,
    Order,
    Report,
    Request,
    Stream,
)
from testbed.bench.rig.pace import Pacer
from testbed.bench.rig.sender import Sender
from testbed.bench.rig.streaming import Pipeline
from testbed.bench.rig.wire import Values, header, receive, unpack
from testbed.errors import TestbedError

ANSWER_LIMIT_S = 60.0
"""For one request, whatever the link: a plan that takes longer is none."""


class Machine:
    """Takes one order at a time; *cloud* is where it connects, through the link."""

    def __init__(self, cloud: tuple[str, int]) -> None:
        self._cloud = cloud
        self._sock: socket.socket | None = None
        self._sender: Sender | None = None
        self._heads: Heads | None = None
        self._ways: tuple[str, ...] = ()

    def obey(self, order: Order, body: memoryview) -> Report:
        """Carry out *order*.

        Raises:
            TestbedError: nothing is loaded, or the cloud could not answer.
            PlannerError: the model cannot be read or cut so.
            OSError: the connection failed, or an answer took too long.
        """
        match order:
            case Load():
                return self._load(order, body)
            case Check():
                return self._check()
            case Ask():
                return self._ask(order)
            case Stream():
                self._hang_up()  # a stream has its own connection, with nothing under way
                with self._dial() as sock:
                    return Pipeline(self._loaded, order, sock).run()
        assert_never(order)

    @property
    def _loaded(self) -> Heads:
        if self._heads is None:
            raise TestbedError("no model is loaded on the device: load one first")
        return self._heads

    def _load(self, order: Load, body: memoryview) -> Loaded:
        self._heads = None
        ways = {way.id: way for way in order.ways}
        self._heads = Heads(read_model(order), ways, unpack(order.tensors, body))
        self._heads.warm()
        self._ways = tuple(ways)
        return Loaded(pieces=len(self._heads.pieces))

    def _check(self) -> Checked:
        whole = self._loaded.answer()
        found: dict[str, float | None] = {}
        for way in self._ways:
            if not self._loaded.local(way):
                apart = []
                for chunked in (False, True):
                    values, _, _, _ = self._remote(way, 1.0, frame=0, chunked=chunked)
                    apart.append(difference(values, whole))
                known = [each for each in apart if each is not None]
                found[way] = max(known) if len(known) == len(apart) else None
        return Checked(difference=found)

    def _ask(self, order: Ask) -> Asked:
        total, head, cloud, sent = [], [], [], 0
        if not self._loaded.local(order.way):
            self._connected()  # a handshake is not the plan's time
        for frame in range(order.count):
            began = time.perf_counter()
            if self._loaded.local(order.way):
                Pacer(order.pace).run(self._loaded.answer)
                head_s, cloud_s = time.perf_counter() - began, 0.0
            else:
                _, head_s, cloud_s, sent = self._remote(
                    order.way, order.pace, frame=frame, chunked=order.chunked
                )
            total.append(time.perf_counter() - began)
            head.append(head_s)
            cloud.append(cloud_s)
            time.sleep(order.rest_s)
        return Asked(
            total_s=tuple(total), head_s=tuple(head), cloud_s=tuple(cloud), sent_bytes=sent
        )

    def _remote(
        self, way: str, pace: float, *, frame: int, chunked: bool
    ) -> tuple[Values, float, float, int]:
        """One request that crosses: its answers, seconds of head and cloud, and the bytes sent."""
        sock = self._connected()
        ahead = self._loaded.ahead(way) if chunked else None
        pacer, began = Pacer(pace), time.perf_counter()
        try:
            if ahead is None:
                early, done_s, sent = self._send(way, pacer, frame)
            else:
                early, done_s, sent = self._send_ahead(way, pace, frame, ahead)
                pacer = Pacer(pace)  # the sender saw to the time until here
            answer, back = receive(sock, Answer)
        except (OSError, WireError):
            self._hang_up()
            raise
        if answer.error:
            raise TestbedError(f"the cloud could not answer: {answer.error}")
        late = pacer.run(lambda: unpack(answer.tensors, back))
        return early | late, done_s - began, answer.cloud_s, sent

    def _send(self, way: str, pacer: Pacer, frame: int) -> tuple[Values, float, int]:
        """Run the head and send: the answers made already, when it was done, and the bytes."""
        heads, sock = self._loaded, self._connected()
        early, tensors, body = pacer.run(lambda: heads.send(way))
        done_s = time.perf_counter()
        request = header(Request(way=way, frame=frame, tensors=tensors))
        pacer.run(lambda: send_frame(sock, request, body))
        return early, done_s, len(body)

    def _send_ahead(
        self, way: str, pace: float, frame: int, ahead: Ahead
    ) -> tuple[Values, float, int]:
        """The same, each message as soon as it is ready, while what comes after is worked on."""
        if self._sender is None:
            self._sender = Sender(self._connected())
        sent = 0
        self._sender.begin(pace)
        for number, (tensors, body) in enumerate(ahead, start=1):
            request = Request(way=way, frame=frame, tensors=tensors, number=number, of=ahead.count)
            self._sender.send(header(request), body)
            sent += len(body)
        return ahead.early, self._sender.wait(), sent

    def _connected(self) -> socket.socket:
        if self._sock is None:
            self._sock = self._dial()
        return self._sock

    def _dial(self) -> socket.socket:
        sock = socket.create_connection(self._cloud, timeout=ANSWER_LIMIT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _hang_up(self) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):  # wakes the sender where it is
                self._sock.shutdown(socket.SHUT_RDWR)
            if self._sender is not None:
                self._sender.close()
                self._sender = None
            self._sock.close()
            self._sock = None
