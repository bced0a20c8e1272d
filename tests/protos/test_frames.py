"""Frames over a real socket pair."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from protos.errors import WireError
from protos.frames import MAX_HEADER_BYTES, PeerClosed, recv_frame, send_frame
from protos.tensors import Buffer

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        left.settimeout(30)
        right.settimeout(30)
        yield left, right


def received(sock: socket.socket) -> tuple[dict[str, Any], bytes]:
    header, body = recv_frame(sock)
    return header, bytes(body)


def a_frame(head: bytes, body: bytes = b"", *, magic: bytes = b"ISF1") -> bytes:
    return struct.pack("<4sIQ", magic, len(head), len(body)) + head + body


def test_a_frame_on_the_wire_is_lengths_then_header_then_body(pair: Pair) -> None:
    send_frame(pair[0], {"id": 7}, b"body")
    assert pair[1].recv(100) == a_frame(b'{"id":7}', b"body")


@pytest.mark.parametrize("body", [b"", b"x", bytearray(b"xy"), memoryview(b"xyz")])
def test_a_frame_comes_back_whole(pair: Pair, body: Buffer) -> None:
    header = {"id": "ü", "ms": [0.5, 1], "deep": {"none": None}}
    send_frame(pair[0], header, body)
    assert received(pair[1]) == (header, body)


def test_frames_larger_than_the_socket_s_buffer_come_back_whole(pair: Pair) -> None:
    body = bytes(range(256)) * 20_000
    sender = threading.Thread(target=send_frame, args=(pair[0], {"n": 1}, body))
    sender.start()
    try:
        assert received(pair[1]) == ({"n": 1}, body)
    finally:
        sender.join()


def test_frames_follow_each_other(pair: Pair) -> None:
    for number in range(3):
        send_frame(pair[0], {"n": number}, bytes(number))
    assert [received(pair[1]) for _ in range(3)] == [({"n": n}, bytes(n)) for n in range(3)]


def test_a_peer_that_closes_between_frames_said_goodbye(pair: Pair) -> None:
    send_frame(pair[0], {})
    pair[0].close()
    assert received(pair[1]) == ({}, b"")
    with pytest.raises(PeerClosed) as caught:
        recv_frame(pair[1])
    assert str(caught.value) == "the peer closed the connection between frames: connect again"


@pytest.mark.parametrize("kept", [1, 15, 16, 20, 27])
def test_a_peer_that_closes_within_a_frame_lost_it(pair: Pair, kept: int) -> None:
    pair[0].sendall(a_frame(b'{"id":7}', b"body")[:kept])
    pair[0].close()
    with pytest.raises(PeerClosed) as caught:
        recv_frame(pair[1])
    assert str(caught.value) == "the peer closed the connection within a frame: connect again"


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (
            b"GET / HTTP/1.1\r\n\r\n",
            "the connection carries no frames: it sent b'GET ', not b'ISF1'",
        ),
        (
            struct.pack("<4sIQ", b"ISF1", MAX_HEADER_BYTES + 1, 0),
            "a frame claims 1048577 + 0 bytes: send at most 1048576 + 1000",
        ),
        (
            struct.pack("<4sIQ", b"ISF1", 2, 1001),
            "a frame claims 2 + 1001 bytes: send at most 1048576 + 1000",
        ),
        (
            a_frame(b"[]"),
            "a frame's header is not a JSON object: Expected `object`, got `array`",
        ),
    ],
)
def test_what_is_no_frame_is_refused(pair: Pair, sent: bytes, sentence: str) -> None:
    pair[0].sendall(sent)
    with pytest.raises(WireError) as caught:
        recv_frame(pair[1], max_body_bytes=1000)
    assert str(caught.value) == sentence


def test_a_header_nested_beyond_reason_is_refused(pair: Pair) -> None:
    pair[0].sendall(a_frame(b'{"a":' * 5000))
    with pytest.raises(WireError, match=r"^a frame's header is not a JSON object: "):
        recv_frame(pair[1])


def test_a_frame_that_would_be_refused_is_not_sent(pair: Pair) -> None:
    header = {"text": "x" * MAX_HEADER_BYTES}
    with pytest.raises(WireError, match=rf"^a frame of {len(json.dumps(header)) - 1} [+] 0 bytes"):
        send_frame(pair[0], header)
    pair[0].close()
    assert pair[1].recv(1) == b""


def test_a_timeout_is_the_socket_s_own(pair: Pair) -> None:
    pair[1].settimeout(0.001)
    with pytest.raises(TimeoutError):
        recv_frame(pair[1])
