"""Requests and their instances, which are threads and do as they are told."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud_fn.errors import (
    DeadlinePassed,
    FunctionFailed,
    InstanceLost,
    InvalidRequest,
    Stopping,
)
from cloud_fn.functions import Function, Limits, Pool
from cloud_fn.functions.confinement import Confinement
from tests.cloud_fn.pools import (
    DONE,
    FUNCTION,
    WAIT_S,
    WARM,
    FakeClock,
    FakeLauncher,
    Gate,
    Opener,
    summary,
)


def test_the_first_call_starts_an_instance_and_the_second_finds_it_warm(open_pool: Opener) -> None:
    pool, launcher = open_pool()
    assert launcher.started == []
    first, second = (pool.call(FUNCTION, body) for body in (b"1", b"2"))
    assert summary(first) == (b"reply to 1", "i1", True, 0.25)
    assert summary(second) == (b"reply to 2", "i1", False, 0.25)
    assert first.init_s > 0 == second.init_s
    assert [each.name for each in pool.running()] == ["i1"]


def test_a_reply_that_waited_for_its_model_is_cold(open_pool: Opener) -> None:
    headers = iter([DONE, {"load_s": 0.5, "infer_s": 0.25}])
    pool, _ = open_pool(lambda _: next(headers))
    pool.call(FUNCTION, b"")
    answer = pool.call(FUNCTION, b"")
    assert (answer.cold, answer.init_s, answer.load_s) == (True, 0.0, 0.5)


def test_functions_have_instances_of_their_own(open_pool: Opener) -> None:
    pool, _ = open_pool()
    other = Function(model="m", version=2, model_path="/m")
    assert [pool.call(each, b"").instance for each in (FUNCTION, other, FUNCTION)] == [
        "i1",
        "i2",
        "i1",
    ]


def test_an_instance_runs_so_many_requests_at_once_and_the_next_one_waits(
    open_pool: Opener,
) -> None:
    gate = Gate()
    pool, _ = open_pool(gate, concurrency=2)
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(pool.call, FUNCTION, b"") for _ in range(3)]
        gate.await_entered(2)
        assert not gate.entered.acquire(blocking=False)
        gate.open.set()
        gate.await_entered(1)
        assert [call.result(WAIT_S).instance for call in calls] == ["i1", "i1", "i1"]


def test_a_call_that_finds_no_place_before_its_deadline_ends(open_pool: Opener) -> None:
    gate = Gate()
    pool, _ = open_pool(gate, concurrency=1)
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(pool.call, FUNCTION, b"")
        gate.await_entered(1)
        with pytest.raises(DeadlinePassed, match="all 1 places of m:1 stayed taken"):
            pool.call(FUNCTION, b"", deadline_s=0.0)
        gate.open.set()
        held.result(WAIT_S)


def test_a_deadline_that_passes_costs_the_call_and_not_the_instance(open_pool: Opener) -> None:
    gate = Gate()
    pool, launcher = open_pool(gate, concurrency=1)
    pool.call(FUNCTION, WARM)
    clock = FakeClock()
    pool._clock = clock
    with pytest.raises(DeadlinePassed, match="did not answer before the request's deadline"):
        pool.call(FUNCTION, b"1", deadline_s=clock.now + 0.001)
    gate.open.set()
    assert summary(pool.call(FUNCTION, b"2"))[:2] == (b"reply to 2", "i1")
    assert launcher.ended == []


def test_a_deadline_that_passes_during_the_start_ends_the_call_and_not_the_start(
    open_pool: Opener,
) -> None:
    pool, launcher = open_pool()
    launcher.may_start.clear()
    with pytest.raises(DeadlinePassed, match="while an instance of m:1 was starting"):
        pool.call(FUNCTION, b"", deadline_s=0.0)
    launcher.may_start.set()
    assert pool.call(FUNCTION, b"").instance == "i1"


@pytest.mark.parametrize(
    ("kind", "raised"),
    [("invalid", InvalidRequest), ("failed", FunctionFailed), ("news", FunctionFailed)],
)
def test_what_an_instance_says_of_a_request_reaches_the_caller_and_costs_nothing(
    open_pool: Opener, kind: str, raised: type[Exception]
) -> None:
    headers = iter([{"error": kind, "message": "a sentence"}, DONE])
    pool, _ = open_pool(lambda _: next(headers))
    with pytest.raises(raised, match=r"^a sentence$"):
        pool.call(FUNCTION, b"")
    assert pool.call(FUNCTION, b"").instance == "i1"


def test_a_closed_pool_has_ended_everything_and_takes_nothing(open_pool: Opener) -> None:
    pool, launcher = open_pool()
    pool.call(FUNCTION, b"")
    pool.close()
    assert launcher.ended == ["i1"]
    with pytest.raises(Stopping):
        pool.call(FUNCTION, b"")


def test_closing_waits_for_a_start_and_ends_what_it_brings(open_pool: Opener) -> None:
    pool, launcher = open_pool()
    launcher.may_start.clear()
    with ThreadPoolExecutor(2) as threads:
        call = threads.submit(pool.call, FUNCTION, b"")
        assert launcher.asked.wait(WAIT_S)
        closing = threads.submit(pool.close)
        assert pool._closing.wait(WAIT_S)
        launcher.may_start.set()
        closing.result(WAIT_S)
        with pytest.raises((Stopping, InstanceLost)):
            call.result(WAIT_S)
    assert launcher.started == launcher.ended


def test_other_limits_hold_from_the_next_request_and_replace_an_instance_they_do_not_fit(
    short: Path,
) -> None:
    launcher = FakeLauncher(short, lambda _: DONE)
    limits = [Limits()]
    pool = Pool(launcher, lambda _: limits[0])
    pool.call(FUNCTION, b"")
    limits[0] = Limits(concurrency=2)
    assert pool.call(FUNCTION, b"").instance == "i1"
    limits[0] = Limits(confinement=Confinement(max_memory_bytes=1 << 30))
    assert pool.call(FUNCTION, b"").instance == "i2"
    assert launcher.ended == ["i1"]
    assert launcher.confinements == [None, limits[0].confinement]
    pool.close()
