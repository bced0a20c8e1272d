"""Requests of one stream run beside each other, each gets its own answer, and the stream ends."""
# ruff: noqa: ARG002  (fakes take what the real ones take)

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloud_fn.doors.streams import Stream
from cloud_fn.errors import InvalidRequest, Stopping
from protos import wire
from protos.invocation import Reply, Request, StreamError

WAIT_S = 20.0


class FakeService:
    """Answers a request once ``may[id]`` is set; "bad" ones fail."""

    def __init__(self) -> None:
        self.may: dict[str, threading.Event] = {}
        self.running = threading.Semaphore(0)
        self.in_flight = 0
        self.admitted = 0
        self.stopping = False

    def admit(self) -> float:
        if self.stopping:
            raise Stopping("stopping")
        self.in_flight += 1
        self.admitted += 1
        return 0.0

    def leave(self) -> None:
        self.in_flight -= 1

    def answer(self, data: bytes, received_s: float) -> bytes:
        self.running.release()
        id_ = wire.route(data).id
        if id_ in self.may:
            assert self.may[id_].wait(WAIT_S)
        if id_.startswith("bad"):
            raise InvalidRequest("no good")
        return wire.encode_reply(Reply(model="m", id=id_))


def a_request(id_: str, chunk: tuple[int, int] | None = None) -> bytes:
    return wire.encode_request(Request(model="m", id=id_, chunk=chunk))


class Peer:
    """The other end: says things when told to, and hangs up."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def say(self, *ids: str) -> None:
        for id_ in ids:
            self._said.put(a_request(id_))

    def hang_up(self) -> None:
        self._said.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while (data := self._said.get(timeout=WAIT_S)) is not None:
            yield data


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def a_stream(service: FakeService, executor: ThreadPoolExecutor, max_running: int = 4) -> Stream:
    return Stream(
        service,
        executor,
        max_running=max_running,
        max_message_bytes=1 << 20,
        sentence_of=str,
    )


def read(reply: bytes) -> tuple[str, str]:
    found = wire.decode_stream_reply(reply)
    return (found.id, found.message if isinstance(found, StreamError) else "")


def test_every_request_gets_one_reply_and_then_the_stream_ends(
    executor: ThreadPoolExecutor,
) -> None:
    service = FakeService()
    requests = [a_request(id_) for id_ in ("1", "bad 2", "3")]
    replies = list(map(read, a_stream(service, executor).run(requests)))
    assert sorted(replies) == [("1", ""), ("3", ""), ("bad 2", "no good")]
    assert service.in_flight == 0


def test_a_slow_request_holds_up_no_other(executor: ThreadPoolExecutor) -> None:
    service, peer = FakeService(), Peer()
    service.may["slow"] = threading.Event()
    replies = a_stream(service, executor).run(peer)
    peer.say("slow", "quick")
    assert read(next(replies)) == ("quick", "")
    service.may["slow"].set()
    assert read(next(replies)) == ("slow", "")
    peer.hang_up()
    assert list(replies) == []


def test_beyond_its_bound_a_stream_answers_busy_at_once(executor: ThreadPoolExecutor) -> None:
    service, peer = FakeService(), Peer()
    service.may = {"1": threading.Event(), "2": threading.Event()}
    replies = a_stream(service, executor, max_running=2).run(peer)
    peer.say("1", "2", "3")
    id_, message = read(next(replies))
    assert id_ == "3"
    assert message.startswith("the stream has 2 requests running (max_in_stream)")
    for each in service.may.values():
        each.set()
    peer.hang_up()
    assert sorted(map(read, replies)) == [("1", ""), ("2", "")]


def test_garbage_gets_an_error_without_an_id_and_the_stream_goes_on(
    executor: ThreadPoolExecutor,
) -> None:
    service = FakeService()
    replies = list(map(read, a_stream(service, executor).run([b"\xff\xff", a_request("2")])))
    (nameless, sentence), answered = sorted(replies)
    assert (nameless, answered) == ("", ("2", ""))
    assert sentence.startswith("the request is not an Open Inference message")


def test_a_stream_that_is_told_to_end_answers_what_runs_first(
    executor: ThreadPoolExecutor,
) -> None:
    service, peer = FakeService(), Peer()
    service.may["1"] = threading.Event()
    stream = a_stream(service, executor)
    replies = stream.run(peer)
    with ThreadPoolExecutor(1) as caller:
        first = caller.submit(next, replies)
        peer.say("1")
        assert service.running.acquire(timeout=WAIT_S)
        stream.end()
        service.may["1"].set()
        assert read(first.result(WAIT_S)) == ("1", "")
        assert list(replies) == []
    peer.hang_up()


def test_an_idle_stream_that_is_told_to_end_ends(executor: ThreadPoolExecutor) -> None:
    peer = Peer()
    stream = a_stream(FakeService(), executor)
    replies = stream.run(peer)
    stream.end()
    stream.end()
    assert list(replies) == []
    peer.hang_up()


def test_a_peer_that_vanishes_ends_the_stream(executor: ThreadPoolExecutor) -> None:
    def requests() -> Iterator[bytes]:
        yield a_request("1")
        raise ConnectionError

    assert list(map(read, a_stream(FakeService(), executor).run(requests()))) == [("1", "")]


def test_what_arrives_while_the_server_stops_is_refused_by_its_id(
    executor: ThreadPoolExecutor,
) -> None:
    service = FakeService()
    service.stopping = True
    assert list(map(read, a_stream(service, executor).run([a_request("1")]))) == [("1", "stopping")]


def test_a_request_in_chunks_is_admitted_with_its_last_and_answered_once(
    executor: ThreadPoolExecutor,
) -> None:
    service = FakeService()
    service.may["1"] = threading.Event()
    seen = []

    def requests() -> Iterator[bytes]:
        for number in (1, 2):
            yield a_request("1", (number, 3))
            seen.append(service.admitted)
        yield a_request("1", (3, 3))
        seen.append(service.admitted)
        service.may["1"].set()

    assert list(map(read, a_stream(service, executor).run(requests()))) == [("1", "")]
    assert seen == [0, 0, 1]
    assert service.in_flight == 0


def test_a_refused_chunk_is_answered_by_its_id_and_the_rest_of_it_not_at_all(
    executor: ThreadPoolExecutor,
) -> None:
    service = FakeService()
    requests = [
        a_request("1", (1, 4)),
        a_request("1", (3, 4)),
        a_request("1", (4, 4)),
        a_request("", (1, 2)),
        a_request("", (2, 2)),
        a_request("2"),
    ]
    replies = sorted(map(read, a_stream(service, executor).run(requests)))
    assert [id_ for id_, _ in replies] == ["", "1", "2"]
    assert replies[0][1].startswith("chunk 1 of 2 came without an id")
    assert replies[1][1].startswith("chunk 3 of 4 of request '1' came, but chunk 2 of 4 was")
    assert service.admitted == 1


def test_a_request_whose_last_chunk_never_comes_is_never_answered(
    executor: ThreadPoolExecutor,
) -> None:
    service = FakeService()
    requests = [a_request("1", (1, 2)), a_request("2")]
    assert list(map(read, a_stream(service, executor).run(requests))) == [("2", "")]
    assert service.admitted == 1
