"""The door between nodes: who is let in, to what, and that bytes go through as they are."""

import hashlib
import logging
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue

import pytest

from cloud_fn.functions.far_door import Door
from cloud_fn.functions.proving import GREETING, NONCE_BYTES, PROOF_BYTES, Unproven
from cloud_fn.functions.reach import HOST, NotThere, connect
from cloud_fn.runtime_dir import HostFolder
from protos.frames import recv_frame, send_frame
from tests.cloud_fn.doors import INSTANCE, LIMIT_S, OpenDoor

GREETED_BYTES = len(GREETING) + NONCE_BYTES


def echo(connection: socket.socket) -> None:
    """Give back what comes until the other side has said all, then hang up."""
    while data := connection.recv(1 << 16):
        connection.sendall(data)


@pytest.fixture
def door(short: Path) -> Iterator[OpenDoor]:
    with OpenDoor(short, echo) as made:
        yield made


def everything(sock: socket.socket) -> bytes:
    """All that comes until the other end closes or breaks off."""
    sock.settimeout(LIMIT_S)
    got = bytearray()
    with suppress(ConnectionResetError):
        while data := sock.recv(1 << 16):
            got += data
    return bytes(got)


def noise(size: int, *, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  no secret


def works(door: OpenDoor) -> bool:
    with closing(connect(door.far(INSTANCE), timeout_s=LIMIT_S)) as sock:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        return everything(sock) == b"hello"


@pytest.mark.parametrize("to", [HOST, INSTANCE])
def test_who_knows_the_secret_reaches_the_host_and_its_instances(door: OpenDoor, to: str) -> None:
    with closing(connect(door.far(to), timeout_s=LIMIT_S)) as sock:
        send_frame(sock, {"n": 1}, b"body")
        header, body = recv_frame(sock)
        assert (header, bytes(body)) == ({"n": 1}, b"body")


def test_who_does_not_know_the_secret_is_sent_away(
    door: OpenDoor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(Unproven):
                connect(door.far(secret=b"another"), timeout_s=LIMIT_S)
    told = [each.message for each in caplog.records if "not let in" in each.message]
    assert len(told) == 1, "it is told once a minute"
    assert "does not know the secret" in told[0]
    assert works(door)


def test_a_proof_that_was_overheard_opens_nothing(door: OpenDoor) -> None:
    """Each proof is of a nonce that the door never uses again."""
    with closing(door.knock()) as first, closing(door.knock()) as second:
        for sock in (first, second):
            assert len(sock.recv(GREETED_BYTES, socket.MSG_WAITALL)) == GREETED_BYTES
        overheard = b"n" * NONCE_BYTES + b"p" * PROOF_BYTES
        for sock in (first, second):
            sock.sendall(overheard)
            assert everything(sock) == b""


def test_the_doors_own_greeting_sent_back_is_no_proof(door: OpenDoor) -> None:
    with closing(door.knock()) as sock:
        greeting = sock.recv(GREETED_BYTES, socket.MSG_WAITALL)
        sock.sendall(greeting[len(GREETING) :] + b"\0" * PROOF_BYTES)
        assert everything(sock) == b""


def test_one_that_only_claims_to_be_the_door_gets_nothing_of_a_request(short: Path) -> None:
    """It greets as a door does, and cannot prove that it is one."""
    heard: SimpleQueue[bytes] = SimpleQueue()

    def impostor(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(GREETING + bytes(NONCE_BYTES))
            connection.recv(NONCE_BYTES + PROOF_BYTES, socket.MSG_WAITALL)
            connection.sendall(bytes(PROOF_BYTES))
            heard.put(everything(connection))

    with socket.create_server(("127.0.0.1", 0)) as listener, OpenDoor(short, echo) as door:
        threading.Thread(target=impostor, args=(listener,), daemon=True).start()
        address = door.far(INSTANCE, port=listener.getsockname()[1])
        with pytest.raises(Unproven, match="does not know its secret"):
            connect(address, timeout_s=LIMIT_S)
        assert INSTANCE.encode() in heard.get(timeout=LIMIT_S), "where to, and no more"


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"ISD1" + bytes(20)])
def test_one_that_says_too_little_is_not_waited_for(short: Path, said: bytes) -> None:
    with OpenDoor(short, echo, prove_s=0.2) as door, closing(door.knock()) as sock:
        sock.sendall(said)
        assert everything(sock).startswith(GREETING)
        assert works(door)


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_garbage_ends_only_its_own_connection(door: OpenDoor, size: int) -> None:
    with closing(door.knock()) as sock:
        with suppress(ConnectionError):
            sock.sendall(noise(size, seed=7))
        assert len(everything(sock)) <= GREETED_BYTES
    assert works(door)


def test_those_who_prove_nothing_do_not_keep_others_out_for_good(short: Path) -> None:
    with OpenDoor(short, echo, prove_s=0.3) as door:
        idlers = [door.knock() for _ in range(70)]
        for sock in idlers:
            with closing(sock):
                everything(sock)
        assert works(door)


@pytest.mark.parametrize(
    "to", ["../cpu/host", "host.sock", "0123abcd.sock", "0123ABCD", "0123abcd\n", "", "ffffffff"]
)
def test_a_name_that_is_none_of_an_instance_leads_nowhere(door: OpenDoor, to: str) -> None:
    with pytest.raises(NotThere):
        connect(door.far(to), timeout_s=LIMIT_S)
    assert works(door)


def test_a_host_that_is_not_there_is_missed_for_the_reason_that_it_gave(door: OpenDoor) -> None:
    door.files.complain("no process can be forked")
    door.files.socket.unlink()
    with pytest.raises(NotThere, match="no process can be forked"):
        connect(door.far(), timeout_s=LIMIT_S)
    with pytest.raises(NotThere, match="there is no host behind the door"):
        connect(door.far(), timeout_s=LIMIT_S)


def test_large_bodies_go_through_unchanged_both_ways_at_once(door: OpenDoor) -> None:
    body = noise(40_000_001, seed=3)
    with closing(connect(door.far(INSTANCE), timeout_s=LIMIT_S)) as sock:
        thread = threading.Thread(target=send_frame, args=(sock, {"big": True}, body))
        thread.start()
        header, got = recv_frame(sock)
        thread.join(LIMIT_S)
    assert header == {"big": True}
    assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()


def test_one_that_has_said_all_still_hears_the_answer(short: Path) -> None:
    def answer_at_the_end(connection: socket.socket) -> None:
        connection.sendall(b"%d" % len(everything(connection)))

    with (
        OpenDoor(short, answer_at_the_end) as door,
        closing(connect(door.far(INSTANCE), timeout_s=LIMIT_S)) as sock,
    ):
        sock.sendall(bytes(300_000))
        sock.shutdown(socket.SHUT_WR)
        assert everything(sock) == b"300000"


def test_an_instance_that_ends_is_seen_to_end(short: Path) -> None:
    with (
        OpenDoor(short, lambda connection: connection.sendall(b"last")) as door,
        closing(connect(door.far(INSTANCE), timeout_s=LIMIT_S)) as sock,
    ):
        assert everything(sock) == b"last"


def test_a_client_that_breaks_off_within_a_body_is_seen_to_go(short: Path) -> None:
    seen: SimpleQueue[int] = SimpleQueue()
    with OpenDoor(short, lambda connection: seen.put(len(everything(connection)))) as door:
        sock = connect(door.far(INSTANCE), timeout_s=LIMIT_S)
        sock.sendall(bytes(100_000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()  # with a reset, and not with a goodbye
        assert seen.get(timeout=LIMIT_S) <= 100_000


class Clock:
    """Stands still until it is set; :meth:`looked` waits until somebody has looked at it again."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._looks: SimpleQueue[None] = SimpleQueue()

    def __call__(self) -> float:
        self._looks.put(None)
        return self.now_s

    def looked(self) -> None:
        while not self._looks.empty():
            self._looks.get()
        for _ in range(2):  # the first may have looked just before it was set
            self._looks.get(timeout=LIMIT_S)


def test_a_gateway_that_is_not_heard_any_more_is_missed_once_and_one_that_asks_is_not(
    short: Path,
) -> None:
    missed: SimpleQueue[str] = SimpleQueue()
    clock = Clock()
    with (
        OpenDoor(short, echo, silence_s=0.1, silent=lambda: missed.put("now"), clock=clock) as door,
        closing(connect(door.far(), timeout_s=LIMIT_S)) as sock,
    ):
        for _ in range(3):
            clock.now_s += 0.09
            send_frame(sock, {})
            recv_frame(sock)
            clock.looked()
        assert missed.empty()
        clock.now_s += 0.11
        assert missed.get(timeout=LIMIT_S) == "now"
    assert missed.empty()


def test_what_is_said_to_an_instance_is_not_said_to_the_host(short: Path) -> None:
    """A gateway whose loop has ended may still have connections open."""
    missed = threading.Event()
    clock = Clock()
    with (
        OpenDoor(short, echo, silence_s=0.1, silent=missed.set, clock=clock) as door,
        closing(connect(door.far(INSTANCE), timeout_s=LIMIT_S)) as sock,
    ):
        clock.now_s = 0.11
        send_frame(sock, {})
        recv_frame(sock)
        assert missed.wait(LIMIT_S)


def test_a_door_does_not_listen_everywhere(short: Path) -> None:
    door = Door(HostFolder(short), secret=b"s", silence_s=1.0, silent=lambda: None)
    with pytest.raises(ValueError, match=r"one address, not at 0\.0\.0\.0"):
        door.open("0.0.0.0")  # noqa: S104  which is the point
