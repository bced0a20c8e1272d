"""Tensors in frames, and orders over a Unix socket: nothing but JSON headers and raw contents."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from protos import codecs
from protos.errors import IsthmusError, WireError
from protos.frames import PeerClosed, recv_frame, send_frame
from protos.slices import parse
from protos.tensors import datatype_of
from testbed.bench.rig.orders import Failed, Order, Report, TensorHead
from testbed.errors import TestbedError

T = TypeVar("T")

Values = dict[str, np.ndarray]

_ORDER: Any = Order  # a union, which mypy does not take for a type[T]
_REPORT: Any = Report


def pack(
    values: Mapping[str, np.ndarray], written: Mapping[str, str]
) -> tuple[tuple[TensorHead, ...], bytes]:
    """Write *values* one after the other, each with the codec that *written* names, else raw.

    Raises:
        WireError: a codec does not suit a tensor, or cannot hold one of its values.
    """
    heads, parts = [], []
    for name, value in values.items():
        codec = codecs.parse(written.get(name, "raw"))
        part = codecs.encode(codec, value)
        parts.append(part)
        heads.append(
            TensorHead(
                name=name,
                datatype=datatype_of(value),
                shape=value.shape,
                codec=str(codec),
                bytes=len(part),
            )
        )
    return tuple(heads), parts[0] if len(parts) == 1 else b"".join(parts)


def unpack(heads: tuple[TensorHead, ...], body: memoryview) -> Values:
    """Read what :func:`pack` wrote.

    Raises:
        WireError: the body is shorter or longer than its tensors, or one is not what it claims.
    """
    return join([(heads, body)])


def join(frames: Sequence[tuple[tuple[TensorHead, ...], memoryview]]) -> Values:
    """Read the tensors of all *frames*, and put those together that came in slices.

    Raises:
        WireError: a body is shorter or longer than its tensors, or one is not what it claims.
    """
    values: Values = {}
    parted: dict[str, tuple[int, list[np.ndarray]]] = {}
    for heads, body in frames:
        if sum(head.bytes for head in heads) != len(body):
            raise WireError(f"a frame's body has {len(body)} bytes, not what its tensors add up to")
        at = 0
        for head in heads:
            coded = body[at : at + head.bytes]
            at += head.bytes
            value = codecs.decode(codecs.parse(head.codec), coded, head.datatype, head.shape)
            if head.part:
                _, slices = parted.setdefault(head.name, (parse(head.part).axis, []))
                slices.append(value)
            else:
                values[head.name] = value
    for name, (axis, slices) in parted.items():
        values[name] = np.concatenate(slices, axis)
    return values


def header(value: msgspec.Struct) -> dict[str, Any]:
    """*value* as a frame's header."""
    found: dict[str, Any] = msgspec.to_builtins(value)
    return found


def receive(
    sock: socket.socket, type_: type[T], *, max_body_bytes: int = 1 << 30
) -> tuple[T, memoryview]:
    """One frame whose header is a *type_*, and its body.

    Raises:
        WireError: no frame, or another header; :class:`protos.frames.PeerClosed` at the end.
        OSError: the connection failed, or its timeout passed.
    """
    found, body = recv_frame(sock, max_body_bytes=max_body_bytes)
    try:
        return msgspec.convert(found, type_), body
    except msgspec.ValidationError as error:
        raise WireError(f"a frame's header is not what was expected: {error}") from error


def serve_orders(
    path: Path, obey: Callable[[Order, memoryview], Report], ready: Callable[[], None]
) -> None:
    """Carry out orders from the Unix socket *path*, one at a time, until the process ends.

    An order that fails with an error of ours is answered by :class:`Failed`. *ready* is called
    once there is somebody to listen.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(os.fspath(path))
        server.listen(1)
        ready()
        while True:
            sock, _ = server.accept()
            with sock:
                _serve(sock, obey)


def _serve(sock: socket.socket, obey: Callable[[Order, memoryview], Report]) -> None:
    report: Report
    while True:
        try:
            order, body = receive(sock, _ORDER)
        except PeerClosed:
            return
        try:
            report = obey(order, body)
        except (IsthmusError, OSError) as error:
            report = Failed(reason=" ".join(str(error).split()))
        send_frame(sock, header(report))


class Orders:
    """Gives orders to a process that :func:`serve_orders` runs in."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._sock: socket.socket | None = None

    def give(self, order: Order, answer: type[T], *, body: bytes = b"", limit_s: float) -> T:
        """Have *order* carried out; waits *limit_s* at most.

        Raises:
            TestbedError: it failed, or the process does not answer.
        """
        try:
            if self._sock is None:
                self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._sock.connect(os.fspath(self._path))
            self._sock.settimeout(limit_s)
            send_frame(self._sock, header(order), body)
            report, _ = receive(self._sock, _REPORT)
        except (OSError, WireError) as error:
            self.close()
            raise TestbedError(
                f"the rig's {self._name} does not answer ({error}): see {self._name}.log"
            ) from error
        if isinstance(report, Failed):
            raise TestbedError(f"the rig's {self._name} failed: {report.reason}")
        if not isinstance(report, answer):
            raise TestbedError(f"the rig's {self._name} answered {type(report).__name__}")
        return report

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
