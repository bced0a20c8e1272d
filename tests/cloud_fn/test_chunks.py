"""Requests in chunks: held until they are whole, in order, within bounds, and refused once."""
# ruff: noqa: ANN401  (builders take any field)

from typing import Any

import numpy as np
import pytest

from cloud_fn.doors.chunks import MOST_WAIT_S, Chunks
from cloud_fn.errors import Busy, CloudError, InvalidRequest, TooLarge
from protos import wire
from protos.errors import WireError
from protos.invocation import Request, Tensor

BEGIN_ANEW = "send all of them again, in order"


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def a_request(chunk: tuple[int, int] | None, id_: str = "7", **fields: Any) -> bytes:
    x = Tensor.of("x" if chunk is None else f"x{chunk[0]}", np.zeros((1, 4), np.float32))
    defaults: dict[str, Any] = {"model": "m", "id": id_, "inputs": (x,), "chunk": chunk}
    return wire.encode_request(Request(**(defaults | fields)))


def chunks(**changes: Any) -> Chunks:
    defaults: dict[str, Any] = {"max_open": 2, "max_message_bytes": 1 << 20, "clock": Clock()}
    return Chunks(**(defaults | changes))


def refusal(taken: Chunks, data: bytes, error: type[CloudError] = InvalidRequest) -> str:
    with pytest.raises(error) as caught:
        taken.take(data)
    return str(caught.value)


def names(data: bytes | None) -> tuple[str, ...]:
    assert data is not None
    return tuple(tensor.name for tensor in wire.decode_request(data).inputs)


@pytest.mark.parametrize("chunk", [None, (1, 1)])
def test_a_whole_request_comes_back_as_it_is(chunk: tuple[int, int] | None) -> None:
    for data in (a_request(chunk), a_request(chunk, "")):
        assert chunks().take(data) is data


def test_a_request_comes_back_joined_with_its_last_chunk() -> None:
    taken = chunks()
    sent = [a_request((number, 3)) for number in (1, 2, 3)]
    assert [taken.take(data) for data in sent] == [None, None, wire.joined(sent)]
    assert names(wire.joined(sent)) == ("x1", "x2", "x3")


def test_requests_may_come_beside_each_other() -> None:
    taken = chunks()
    order = [("a", 1), ("b", 1), ("b", 2), ("a", 2)]
    back = [taken.take(a_request((number, 2), id_)) for id_, number in order]
    whole = a_request(None, "c")
    assert taken.take(whole) is whole
    assert [data is not None for data in back] == [False, False, True, True]
    assert [wire.route(data).id for data in back if data is not None] == ["b", "a"]


def test_an_id_may_be_used_again_once_its_request_is_whole() -> None:
    taken = chunks(max_open=1)
    for _ in range(3):
        assert taken.take(a_request((1, 2))) is None
        assert names(taken.take(a_request((2, 2)))) == ("x1", "x2")


def test_a_first_chunk_begins_its_request_anew() -> None:
    """The device gave up on what it had sent, or cut its request in another way."""
    taken = chunks()
    assert taken.take(a_request((1, 3))) is None
    assert taken.take(a_request((2, 3))) is None
    assert taken.take(a_request((1, 2), model="n")) is None
    whole = taken.take(a_request((2, 2), model="n"))
    assert names(whole) == ("x1", "x2")


@pytest.mark.parametrize(
    ("before", "data", "sentence"),
    [
        (
            (),
            a_request((2, 3)),
            (
                "chunk 2 of 3 of request '7' came, but chunk 1 was expected: send all of them "
                "again, in order and within 30 s"
            ),
        ),
        (
            (1,),
            a_request((3, 3)),
            f"chunk 3 of 3 of request '7' came, but chunk 2 of 3 was expected: {BEGIN_ANEW}",
        ),
        (
            (1, 2),
            a_request((2, 3)),
            f"chunk 2 of 3 of request '7' came, but chunk 3 of 3 was expected: {BEGIN_ANEW}",
        ),
        (
            (1,),
            a_request((2, 4)),
            f"chunk 2 of 4 of request '7' came, but chunk 2 of 3 was expected: {BEGIN_ANEW}",
        ),
        (
            (1,),
            a_request((2, 3), model="n"),
            (
                "chunk 2 of 3 of request '7' is for model 'n' version '', but model 'm' version "
                "'' was expected: name the same in all of them"
            ),
        ),
        (
            (1,),
            a_request((2, 3), version="2"),
            (
                "chunk 2 of 3 of request '7' is for model 'm' version '2', but model 'm' version "
                "'' was expected: name the same in all of them"
            ),
        ),
        (
            (),
            a_request((1, 3), ""),
            "chunk 1 of 3 came without an id: send one id with all of its chunks",
        ),
    ],
)
def test_a_chunk_that_does_not_follow_is_refused_once_with_its_request(
    before: tuple[int, ...], data: bytes, sentence: str
) -> None:
    taken = chunks()
    for number in before:
        assert taken.take(a_request((number, 3))) is None
    assert refusal(taken, data) == sentence
    id_ = wire.route(data).id
    assert [taken.take(a_request((number, 3), id_)) for number in (2, 3, 3)] == [None] * 3


def test_a_refused_request_may_begin_anew() -> None:
    taken = chunks()
    assert "chunk 1 was expected" in refusal(taken, a_request((2, 2)))
    assert taken.take(a_request((1, 2))) is None
    assert names(taken.take(a_request((2, 2)))) == ("x1", "x2")


def test_only_so_many_requests_are_held() -> None:
    taken = chunks(max_open=2)
    assert [taken.take(a_request((1, 2), id_)) for id_ in "ab"] == [None, None]
    assert refusal(taken, a_request((1, 2), "c"), Busy) == (
        "the stream has 2 requests in chunks open (max_in_stream): send their last chunks first"
    )
    assert taken.take(a_request((2, 2), "c")) is None
    assert taken.take(a_request((1, 2), "b")) is None  # held already
    assert names(taken.take(a_request((2, 2), "a"))) == ("x1", "x2")
    assert taken.take(a_request((1, 2), "c")) is None
    assert names(taken.take(a_request((2, 2), "c"))) == ("x1", "x2")


def test_only_so_many_refusals_are_remembered() -> None:
    taken = chunks(max_open=2)
    for id_ in "abc":
        refusal(taken, a_request((2, 3), id_))
    assert [taken.take(a_request((3, 3), id_)) for id_ in "bc"] == [None, None]
    refusal(taken, a_request((3, 3), "a"))


def test_a_request_grows_no_larger_than_a_message_may_be() -> None:
    one = a_request((1, 3))
    taken = chunks(max_message_bytes=2 * len(one))
    assert [taken.take(a_request((number, 3))) for number in (1, 2)] == [None, None]
    assert refusal(taken, a_request((3, 3)), TooLarge) == (
        f"the request has {3 * len(one)} bytes in 3 of 3 chunks: send at most {2 * len(one)} "
        "(max_message_bytes)"
    )
    assert [taken.take(a_request((number, 2))) for number in (1,)] == [None]
    assert names(taken.take(a_request((2, 2)))) == ("x1", "x2")


def test_what_is_held_for_too_long_is_dropped_when_the_next_message_comes() -> None:
    clock = Clock()
    taken = chunks(max_open=1, clock=clock)
    assert taken.take(a_request((1, 2), "a")) is None
    clock.now_s += MOST_WAIT_S
    refusal(taken, a_request((1, 2), "b"), Busy)
    clock.now_s += 0.01
    assert taken.take(a_request((1, 2), "b")) is None
    assert "chunk 1 was expected" in refusal(taken, a_request((2, 2), "a"))


def test_what_was_refused_long_ago_is_forgotten() -> None:
    clock = Clock()
    taken = chunks(clock=clock)
    refusal(taken, a_request((2, 3)))
    assert taken.take(a_request((3, 3))) is None
    clock.now_s += MOST_WAIT_S + 0.01
    refusal(taken, a_request((3, 3)))


def test_what_is_no_request_is_refused_and_changes_nothing() -> None:
    taken = chunks()
    assert taken.take(a_request((1, 2))) is None
    with pytest.raises(WireError):
        taken.take(b"\xff\xff")
    assert names(taken.take(a_request((2, 2)))) == ("x1", "x2")
