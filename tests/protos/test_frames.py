"""Frames over a real socket pair."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from protos.errors import WireError
from protos.frames import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    PeerClosed,
    Turns,
    recv_frame,
    send_frame,
)
from protos.tensors import Buffer

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        left.settimeout(30)
        right.settimeout(30)
        yield left, right


class Receive(Protocol):
    """Either way of receiving a frame."""

    def __call__(
        self, sock: socket.socket, *, max_body_bytes: int = MAX_BODY_BYTES
    ) -> tuple[dict[str, Any], bytes]: ...


def received(
    sock: socket.socket, *, max_body_bytes: int = MAX_BODY_BYTES
) -> tuple[dict[str, Any], bytes]:
    header, body = recv_frame(sock, max_body_bytes=max_body_bytes)
    return header, bytes(body)


def in_turns(
    sock: socket.socket, *, max_body_bytes: int = MAX_BODY_BYTES
) -> tuple[dict[str, Any], bytes]:
    header, body = Turns(sock, max_body_bytes=max_body_bytes).receive()
    return header, bytes(body)


@pytest.fixture(params=[received, in_turns], ids=["any time", "in turns"])
def receive(request: pytest.FixtureRequest) -> Receive:
    found: Receive = request.param
    return found


def a_frame(head: bytes, body: bytes = b"", *, magic: bytes = b"ISF1") -> bytes:
    return struct.pack("<4sIQ", magic, len(head), len(body)) + head + body


def test_a_frame_on_the_wire_is_lengths_then_header_then_body(pair: Pair) -> None:
    send_frame(pair[0], {"id": 7}, b"body")
    assert pair[1].recv(100) == a_frame(b'{"id":7}', b"body")


@pytest.mark.parametrize("body", [b"", b"x", bytearray(b"xy"), memoryview(b"xyz")])
def test_a_frame_comes_back_whole(pair: Pair, receive: Receive, body: Buffer) -> None:
    header = {"id": "ü", "ms": [0.5, 1], "deep": {"none": None}}
    send_frame(pair[0], header, body)
    assert receive(pair[1]) == (header, body)


@pytest.mark.parametrize("text", ["", "x" * 65_515, "x" * 65_530, "x" * 200_000])
def test_frames_larger_than_the_socket_s_buffer_come_back_whole(
    pair: Pair, receive: Receive, text: str
) -> None:
    body = bytes(range(256)) * 20_000
    sender = threading.Thread(target=send_frame, args=(pair[0], {"n": text}, body))
    sender.start()
    try:
        assert receive(pair[1]) == ({"n": text}, body)
    finally:
        sender.join()


@pytest.mark.parametrize("first", [1, 15, 16, 17, 23, 24, 26])
def test_a_frame_in_two_parts_comes_back_whole(pair: Pair, receive: Receive, first: int) -> None:
    frame = a_frame(b'{"id":7}', b"body")
    pair[0].sendall(frame[:first])
    rest = threading.Timer(0.02, pair[0].sendall, [frame[first:]])
    rest.start()
    try:
        assert receive(pair[1]) == ({"id": 7}, b"body")
    finally:
        rest.join()


def test_frames_follow_each_other(pair: Pair) -> None:
    for number in range(3):
        send_frame(pair[0], {"n": number}, bytes(number))
    assert [received(pair[1]) for _ in range(3)] == [({"n": n}, bytes(n)) for n in range(3)]


def test_turns_are_taken_on_one_connection(pair: Pair) -> None:
    turns = Turns(pair[1])
    for number in (3, 100_000, 0):
        sender = threading.Thread(target=send_frame, args=(pair[0], {"n": number}, b"x" * number))
        sender.start()
        header, body = turns.receive()
        assert (header, bytes(body)) == ({"n": number}, b"x" * number)
        sender.join()


def test_what_is_received_outlives_the_next_turn(pair: Pair) -> None:
    turns = Turns(pair[1])
    send_frame(pair[0], {}, b"first")
    _, first = turns.receive()
    send_frame(pair[0], {}, b"other")
    turns.receive()
    assert bytes(first) == b"first"


def test_who_sends_before_he_was_answered_is_refused(pair: Pair) -> None:
    pair[0].sendall(a_frame(b"{}", b"x") * 2)
    with pytest.raises(WireError, match=r"^the peer sent more before it was answered: "):
        Turns(pair[1]).receive()


def test_a_peer_that_closes_between_frames_said_goodbye(pair: Pair, receive: Receive) -> None:
    send_frame(pair[0], {})
    pair[0].close()
    assert received(pair[1]) == ({}, b"")
    with pytest.raises(PeerClosed) as caught:
        receive(pair[1])
    assert str(caught.value) == "the peer closed the connection between frames: connect again"


@pytest.mark.parametrize("kept", [1, 15, 16, 20, 27])
def test_a_peer_that_closes_within_a_frame_lost_it(pair: Pair, receive: Receive, kept: int) -> None:
    pair[0].sendall(a_frame(b'{"id":7}', b"body")[:kept])
    pair[0].close()
    with pytest.raises(PeerClosed) as caught:
        receive(pair[1])
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
def test_what_is_no_frame_is_refused(
    pair: Pair, receive: Receive, sent: bytes, sentence: str
) -> None:
    pair[0].sendall(sent)
    with pytest.raises(WireError) as caught:
        receive(pair[1], max_body_bytes=1000)
    assert str(caught.value) == sentence


def test_a_header_nested_beyond_reason_is_refused(pair: Pair, receive: Receive) -> None:
    pair[0].sendall(a_frame(b'{"a":' * 5000))
    with pytest.raises(WireError, match=r"^a frame's header is not a JSON object: "):
        receive(pair[1])


def test_a_frame_that_would_be_refused_is_not_sent(pair: Pair) -> None:
    header = {"text": "x" * MAX_HEADER_BYTES}
    with pytest.raises(WireError, match=rf"^a frame of {len(json.dumps(header)) - 1} [+] 0 bytes"):
        send_frame(pair[0], header)
    pair[0].close()
    assert pair[1].recv(1) == b""


def test_a_timeout_is_the_socket_s_own(pair: Pair, receive: Receive) -> None:
    pair[1].settimeout(0.001)
    with pytest.raises(TimeoutError):
        receive(pair[1])
