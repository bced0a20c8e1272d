"""Connections near and far, and the cord that ends all those to a host that was lost."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cloud_fn.functions.channel import Connection
from cloud_fn.functions.listener import listening
from cloud_fn.functions.proving import Unproven
from cloud_fn.functions.reach import Cord, Far, Near, connect
from protos.frames import recv_frame, send_frame
from tests.cloud_fn.doors import INSTANCE, LIMIT_S, OpenDoor


def serve_one(connection: socket.socket) -> None:
    """An instance that answers with the body that it was sent."""
    while True:
        try:
            _, body = recv_frame(connection)
        except Exception:  # noqa: BLE001  the gateway is gone
            return
        if bytes(body) != b"say nothing":
            send_frame(connection, {"load_s": 0.0, "infer_s": 0.0}, body)


@pytest.fixture
def door(short: Path) -> Iterator[OpenDoor]:
    with OpenDoor(short, serve_one) as made:
        yield made


@pytest.mark.parametrize("is_near", [True, False])
def test_an_instance_is_asked_in_the_same_frames_near_and_far(
    door: OpenDoor, *, is_near: bool
) -> None:
    near = Near(door.files.path / f"{INSTANCE}.sock")
    with closing(Connection(near if is_near else door.far(INSTANCE))) as connection:
        for body in (b"one", bytes(2_000_000)):
            connection.send(body, timeout_s=LIMIT_S)
            assert bytes(connection.receive(timeout_s=LIMIT_S).body) == body
        assert connection.is_idle


def test_where_nobody_listens_there_is_no_connection(short: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect(Near(short / "nobody"), timeout_s=LIMIT_S)
    listening(short / "left").close()
    with pytest.raises(ConnectionRefusedError):
        connect(Near(short / "left"), timeout_s=LIMIT_S)


def test_what_listens_and_is_no_door_is_told_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        far = Far(host="127.0.0.1", port=other.getsockname()[1], secret=b"s", cord=Cord())
        with pytest.raises(TimeoutError):
            connect(far, timeout_s=0.2)
        first, _ = other.accept()
        with first:
            assert first.recv(100) == b""


def test_a_server_of_another_kind_is_not_taken_for_a_door(short: Path) -> None:
    with OpenDoor(short, serve_one) as door, socket.create_server(("127.0.0.1", 0)) as other:

        def chatty() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP at your service, what may it be\r\n")

        threading.Thread(target=chatty, daemon=True).start()
        with pytest.raises(Unproven, match="no door"):
            connect(door.far(port=other.getsockname()[1]), timeout_s=LIMIT_S)


def test_a_cord_that_is_cut_ends_who_waits_and_who_comes_later(door: OpenDoor) -> None:
    """Nothing else would, where the other node has lost its power."""
    connection = Connection(door.far(INSTANCE))
    other = Connection(door.far(INSTANCE, cord=Cord()))
    with closing(connection), closing(other):
        connection.send(b"say nothing", timeout_s=LIMIT_S)
        assert not connection.wait(0.05)
        door.cord.cut()
        assert connection.wait(LIMIT_S)
        assert not connection.is_idle
        with pytest.raises(ConnectionResetError, match="its host was lost"):
            connect(door.far(INSTANCE), timeout_s=LIMIT_S)
        assert other.is_idle, "another host's connections stay"


def test_the_secret_is_not_shown() -> None:
    far = Far(host="h", port=1, secret=b"hidden", cord=Cord())
    assert "hidden" not in f"{far!r} {far}"
