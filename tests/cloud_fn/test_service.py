"""What the service takes, refuses and says of time."""
# ruff: noqa: ANN401, ARG002  (builders take any field, fakes what the real ones take)

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_fn.errors import Busy, InvalidRequest, Stopping, TooLarge, UnknownModel
from cloud_fn.functions import Answer, Function
from cloud_fn.functions.node_cache import NodeCache
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.service import Bounds, Service, account
from protos import wire
from protos.errors import WireError
from protos.invocation import Reply, Request, Tensor
from protos.timing import Timing
from tests.cloud_fn.cuts import FakeCuts

NOW = threading.Event()
NOW.set()


class FakePool:
    """Answers what it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.cuts = FakeCuts()
        self.asked: list[tuple[str, float | None]] = []
        self.caches: list[str | None] = []

    def deploy(self, function: Function) -> None:
        """Nothing is kept ready here."""

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        self.asked.append((function.key, deadline_s))
        self.caches.append(function.cache_path)
        return an_answer(body=wire.encode_reply(Reply(model=function.model, id="7")))


def an_answer(**changes: Any) -> Answer:
    fields: dict[str, Any] = {
        "body": b"",
        "instance": "i1",
        "handed_s": 0.0,
        "init_s": 0.0,
        "load_s": 0.0,
        "infer_s": 0.0,
    }
    return Answer(**(fields | changes))


def a_request(model: str = "mlp", **fields: Any) -> bytes:
    x = Tensor.of("x", np.zeros((1, 4), np.float32))
    return wire.encode_request(Request(model=model, inputs=(x,), **fields))


def a_service(catalog: Catalog, **bounds: Any) -> tuple[Service, FakePool]:
    pool = FakePool()
    return Service(catalog, pool, Bounds(**bounds)), pool


def test_the_five_terms_are_told_apart_and_add_up() -> None:
    answer = an_answer(handed_s=13.0, init_s=2.0, load_s=0.5, infer_s=0.25)
    timing = account(answer, received_s=10.0, now_s=14.0)
    assert timing == Timing(trigger_s=1.0, init_s=2.0, load_s=0.5, infer_s=0.25, response_s=0.25)
    assert timing.total_s == 4.0


def test_the_terms_add_up_even_if_the_instance_counts_more_than_there_was() -> None:
    """Two clocks of the same rate still differ by their resolution."""
    answer = an_answer(handed_s=10.0, load_s=3.0, infer_s=2.0)
    timing = account(answer, received_s=10.0, now_s=14.0)
    assert timing == Timing(load_s=3.0, infer_s=1.0)


def test_a_reply_is_stamped_and_otherwise_what_the_instance_said(
    catalog: Catalog, published: dict[str, Manifest]
) -> None:
    service, pool = a_service(catalog)
    reply = wire.decode_reply(service.infer(a_request()))
    assert (reply.model, reply.id, reply.instance, reply.cold) == ("mlp", "7", "i1", False)
    assert reply.timing is not None
    assert pool.asked == [("mlp:1", None)]


@pytest.mark.parametrize(
    ("timeout_s", "deadline_ms", "waits_s"),
    [
        (None, None, None),
        (2.0, None, 2.0),
        (None, 500, 0.5),
        (0.25, 500, 0.25),
        (9.0, 500, 0.5),
        (0.0, None, 0.0),
    ],
)
def test_the_shorter_of_the_calls_and_the_requests_deadline_counts_from_receipt(
    catalog: Catalog,
    published: dict[str, Manifest],
    timeout_s: float | None,
    deadline_ms: float | None,
    waits_s: float | None,
) -> None:
    service, pool = a_service(catalog)
    service.answer(a_request(deadline_ms=deadline_ms), 100.0, timeout_s=timeout_s)
    assert pool.asked == [("mlp:1", None if waits_s is None else 100.0 + waits_s)]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\xff\xff", WireError),
        (a_request(model="nope"), UnknownModel),
        (a_request(version="9"), UnknownModel),
        (b"\0" * 2000, TooLarge),
    ],
)
def test_what_cannot_be_answered_never_reaches_an_instance(
    catalog: Catalog, published: dict[str, Manifest], data: bytes, error: type[Exception]
) -> None:
    service, pool = a_service(catalog, max_message_bytes=1024)
    with pytest.raises(error):
        service.infer(data)
    assert pool.asked == []


def test_a_chunk_that_came_alone_is_refused_and_a_request_joined_from_chunks_is_not(
    catalog: Catalog, published: dict[str, Manifest]
) -> None:
    service, pool = a_service(catalog)
    with pytest.raises(InvalidRequest) as caught:
        service.infer(a_request(chunk=(1, 3)))
    assert str(caught.value) == (
        "chunk 1 of 3 came over ModelInfer: send a request's chunks over one ModelStreamInfer"
    )
    assert pool.asked == []
    service.answer(a_request(chunk=(3, 3)), 0.0)
    service.infer(a_request(chunk=(1, 1)))
    assert pool.asked == [("mlp:1", None)] * 2


def test_no_more_than_so_many_are_in_flight(catalog: Catalog) -> None:
    service, _ = a_service(catalog, max_in_flight=1)
    service.admit()
    with pytest.raises(Busy, match="the server has 1 requests in flight"):
        service.admit()
    service.leave()
    service.admit()


def test_draining_takes_nothing_new_and_waits_for_what_was_taken(catalog: Catalog) -> None:
    service, _ = a_service(catalog)
    service.admit()
    with ThreadPoolExecutor(1) as threads:
        drained = threads.submit(service.drain, 30.0, give_up=threading.Event())
        while service.is_ready():
            threading.Event().wait(0.001)
        with pytest.raises(Stopping):
            service.admit()
        service.leave()
        assert drained.result(20) == 0


def test_draining_ends_at_its_limit_or_when_told_so(catalog: Catalog) -> None:
    service, _ = a_service(catalog)
    service.admit()
    assert service.drain(0.0, give_up=threading.Event()) == 1
    assert service.drain(60.0, give_up=NOW) == 1


def test_a_model_may_be_asked_from_its_push_on(
    catalog: Catalog, published: dict[str, Manifest]
) -> None:
    service, _ = a_service(catalog)
    assert [service.has(*each) for each in (("mlp",), ("mlp", "1"), ("mlp", "2"), ("x",))] == [
        True,
        True,
        False,
        False,
    ]


def test_what_instances_make_themselves_lies_where_the_bounds_say(
    catalog: Catalog, published: dict[str, Manifest], tmp_path: Path
) -> None:
    service, pool = a_service(catalog, cache=NodeCache(tmp_path / "fast"))
    service.infer(a_request())
    (path,) = pool.caches
    assert path is not None
    assert Path(path).parent == tmp_path / "fast"
