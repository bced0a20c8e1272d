"""Requests in chunks: on the rig's wire, in its sender, and which plans are measured so."""

import socket
from collections.abc import Iterator
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from planner.chunks import Chunk
from planner.links import Link
from planner.plans import Crossing, Plan
from protos.errors import WireError
from protos.frames import send_frame
from protos.slices import Slice, cut
from testbed.bench.overlap import Cell, Overlap, Row, _error, _most, _targets, notes, show, stages
from testbed.bench.rig.cloud import _Connection
from testbed.bench.rig.orders import Answer, Message, Request, TensorHead, way_of
from testbed.bench.rig.sender import Sender
from testbed.bench.rig.wire import header, join, pack, receive, unpack

LINK = Link(name="plain", up_bps=1e6, down_bps=1e6, rtt_s=0.01)


def a_plan(id_: str = "p", *chunks: Chunk) -> Plan:
    """100 kB of x and 100 of y, after 100 ms of work."""
    return Plan(
        id=id_,
        crossing=(
            Crossing(tensor="x", codec="raw", bytes=100_000),
            Crossing(tensor="y", codec="raw+zstd", bytes=100),
        ),
        ops_on_device=2,
        ops=4,
        device_s=0.1,
        encode_s=0.0,
        decode_s=0.0,
        cloud_s=0.0,
        download_bytes=0,
        chunks=chunks,
    )


X_THEN_Y = (
    Chunk(tensor="x", number=1, of=2, device_s=0.02, encode_s=0.0, bytes=50_000),
    Chunk(tensor="x", number=2, of=2, device_s=0.0, encode_s=0.0, bytes=50_000),
    Chunk(tensor="y", device_s=0.08, encode_s=0.0, bytes=100),
)


def test_a_way_knows_the_plans_chunks_and_where_a_stage_ends() -> None:
    way = way_of(a_plan("p", *X_THEN_Y))
    assert way.crossing == (("x", "raw"), ("y", "raw+zstd"))
    assert way.chunks == (
        Message(tensor="x", number=1, of=2, stage=True),
        Message(tensor="x", number=2, of=2),
        Message(tensor="y", stage=True),
    )
    assert way_of(a_plan("p", *X_THEN_Y), chunked=False).chunks == ()


def in_slices(
    value: np.ndarray, count: int, axis: int
) -> Iterator[tuple[tuple[TensorHead, ...], memoryview]]:
    for number, part in enumerate(cut(value, count, axis), start=1):
        (head,), body = pack({"x": part}, {"x": "raw+zstd"})
        text = str(Slice(number=number, of=count, axis=axis))
        yield (msgspec.structs.replace(head, part=text),), memoryview(body)


def test_slices_are_joined_along_their_axis_and_whole_tensors_stay_as_they_are() -> None:
    x, y = np.arange(60, dtype=np.float32).reshape(3, 5, 4), np.ones(2, np.int64)
    heads, body = pack({"y": y}, {})
    values = join([*in_slices(x, 4, 1), (heads, memoryview(body))])
    assert list(values) == ["y", "x"]
    np.testing.assert_array_equal(values["x"], x)
    np.testing.assert_array_equal(values["y"], y)
    with pytest.raises(WireError, match="not what its tensors add up to"):
        unpack(heads, memoryview(body)[1:])


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.settimeout(10)
    far.settimeout(10)
    with near, far:
        yield near, far


def a_request(number: int, of: int, frame: int = 0) -> Request:
    return Request(way="p", frame=frame, tensors=(), number=number, of=of)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_messages_go_out_in_their_order_and_none_is_due_before_the_one_ahead(
    ends: tuple[socket.socket, socket.socket], fraction: float
) -> None:
    near, far = ends
    sender = Sender(near)
    due = []
    for frame in range(2):
        sender.begin(fraction)
        for number in (1, 2, 3):
            sender.send(header(a_request(number, 3, frame)), bytes([number]))
        due.append(sender.wait())
    got = [receive(far, Request) for _ in range(6)]
    assert [(each.frame, each.number, bytes(body)) for each, body in got] == [
        (frame, number, bytes([number])) for frame in range(2) for number in (1, 2, 3)
    ]
    assert all(before <= after for before, after in pairwise(due))
    sender.close()


def test_a_lost_connection_is_told_to_who_waits(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    near, far = ends
    sender = Sender(near)
    far.close()
    sender.begin(1.0)
    for number in (1, 2, 3):
        sender.send(header(a_request(number, 3)), bytes(1 << 20))
    with pytest.raises(OSError, match=r"."):
        sender.wait()
    sender.close()


def test_the_tail_runs_when_the_last_message_is_there(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    near, far = ends
    connection = _Connection(far, lambda _: (Answer(way="p", frame=0), b""))
    for number in (1, 2, 3):
        send_frame(near, header(a_request(number, 3)), bytes([number]))
    send_frame(near, header(a_request(1, 1, frame=1)), b"")
    found = [connection._collected() for _ in range(2)]
    assert [[bytes(body) for _, body in messages] for messages in found] == [
        [b"\x01", b"\x02", b"\x03"],
        [b""],
    ]
    send_frame(near, header(a_request(1, 3)), b"")
    send_frame(near, header(a_request(3, 3)), b"")
    with pytest.raises(WireError, match="message 3 of 3 of frame 0 came after message 1 of 3"):
        connection._collected()


def test_a_stage_ends_where_the_device_works_on_before_the_next_chunk() -> None:
    first_without_work = msgspec.structs.replace(X_THEN_Y[0], device_s=0.0)
    assert stages(a_plan("p", *X_THEN_Y)) == 2
    assert stages(a_plan("p", first_without_work, *X_THEN_Y[1:])) == 2
    assert stages(a_plan()) == 1


def test_what_hides_most_is_measured_if_it_hides_enough() -> None:
    """Tensor x is across after 0.12 s and y at once, 0.1 ms later: 80 ms are hidden."""
    ahead = Cell(link=LINK, what="plan", plan=a_plan("ahead", *X_THEN_Y))
    whole = Cell(link=LINK, what="plan", plan=a_plan("whole"))
    assert ahead.hidden_s == pytest.approx(0.08)
    assert ahead.chunks_s == pytest.approx(0.12 + 0.0001 + LINK.rtt_s)
    assert _most([whole, ahead]) == ahead
    assert _most([whole]) is None
    assert _most([]) is None


def a_row(whole_ms: float, chunks_ms: float) -> Row:
    return Row(
        model="m",
        link="WiFi",
        what="choice",
        plan="p",
        tensors=2,
        chunks=3,
        stages=2,
        predicted_whole_ms=200.0,
        predicted_chunks_ms=100.0,
        measured_whole_ms=whole_ms,
        measured_chunks_ms=chunks_ms,
        predicted_ratio=2.0,
        measured_ratio=round(whole_ms / chunks_ms, 4),
        apart=None,
    )


def test_the_targets_are_the_mean_the_worst_and_how_far_the_prediction_is_off() -> None:
    rows = (a_row(200.0, 100.0), a_row(100.0, 200.0))
    figures = [(each.name.split(",")[-2], each.value, each.met) for each in _targets(rows)]
    assert figures == [
        (" geometric mean", 1.0, True),
        (" worst cell", 0.5, False),
        (" mean absolute error", 0.25, False),
    ]
    assert _targets(()) == ()


def test_the_error_in_chunks_stands_beside_that_of_sending_whole() -> None:
    assert _error([(90.0, 100.0), (120.0, 100.0)]) == pytest.approx(0.15)
    assert _error([]) is None
    result = Overlap(
        device_speed=0.1,
        message_ms=1.0,
        agent_message_ms=0.3,
        rows=(a_row(200.0, 100.0),),
        skipped=3,
        error=0.12,
        whole_error=0.14,
        targets=(),
    )
    assert notes(result) == (
        "skipped, as nothing there hides enough: 3",
        "the predicted latency is off by 12.0% in chunks and by 14.0% whole",
    )
    assert notes(msgspec.structs.replace(result, error=None))[1:] == ()
    assert show(result).row_count == 1
