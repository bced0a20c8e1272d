"""From zero instances and back: how many there are, for how long, and within which memory."""
# ruff: noqa: ARG002  (fakes take what the real ones take)

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud_fn.errors import (
    InstanceLost,
)
from cloud_fn.functions import Function, Limits, Pool
from cloud_fn.functions import slot as slots
from cloud_fn.functions.budget import UNMEASURED_BYTES
from cloud_fn.functions.launch import Running
from cloud_fn.functions.scaling import History, Window, seen
from tests.cloud_fn.pools import (
    DONE,
    FUNCTION,
    WAIT_S,
    FakeClock,
    FakeLauncher,
    Gate,
    Opener,
    until,
)


def test_twenty_first_calls_at_once_cause_one_start(open_pool: Opener) -> None:
    pool, launcher = open_pool()
    launcher.may_start.clear()
    together = threading.Barrier(21)

    def call(number: int) -> bytes:
        together.wait(WAIT_S)
        return bytes(pool.call(FUNCTION, b"%d" % number).body)

    with ThreadPoolExecutor(20) as threads:
        calls = [threads.submit(call, number) for number in range(20)]
        together.wait(WAIT_S)
        launcher.may_start.set()
        assert [call.result(WAIT_S) for call in calls] == [b"reply to %d" % n for n in range(20)]
    assert launcher.started == ["i1"]


def test_an_idle_instance_is_sent_away_and_the_next_call_starts_another(
    open_pool: Opener, short: Path
) -> None:
    pool, launcher = open_pool(keep_alive_s=0.05)
    pool.call(FUNCTION, b"")
    assert launcher.some_ended.wait(WAIT_S)
    assert (launcher.ended, pool.running()) == (["i1"], ())
    assert pool.call(FUNCTION, b"").instance == "i2"


def test_an_instance_that_works_is_not_idle(open_pool: Opener) -> None:
    gate = Gate()
    pool, launcher = open_pool(gate, keep_alive_s=0.05)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(pool.call, FUNCTION, b"")
        gate.await_entered(1)
        assert not launcher.some_ended.wait(0.3)
        gate.open.set()
        assert call.result(WAIT_S).instance == "i1"


def test_requests_that_wait_have_further_instances_started_up_to_the_most_allowed(
    open_pool: Opener,
) -> None:
    gate = Gate()
    pool, launcher = open_pool(gate, concurrency=2, max_instances=3)
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(pool.call, FUNCTION, b"") for _ in range(8)]
        gate.await_entered(6)
        assert not gate.entered.acquire(blocking=False)
        assert launcher.started == ["i1", "i2", "i3"]
        gate.open.set()
        answers = [call.result(WAIT_S) for call in calls]
    assert {answer.instance for answer in answers} == {"i1", "i2", "i3"}
    assert launcher.ended == []


def test_a_hundred_first_calls_at_once_cause_one_load_an_instance_and_none_fails(
    open_pool: Opener,
) -> None:
    loads: dict[int, int] = {}
    lock = threading.Lock()

    def script(body: bytes) -> dict[str, object]:
        with lock:
            loads[len(launcher.started)] = loads.get(len(launcher.started), 0) + 1
        return DONE

    pool, launcher = open_pool(script, concurrency=4, max_instances=2)
    together = threading.Barrier(100)

    def call(number: int) -> bytes:
        together.wait(WAIT_S)
        return bytes(pool.call(FUNCTION, b"%d" % number).body)

    with ThreadPoolExecutor(100) as threads:
        got = list(threads.map(call, range(100)))
    assert got == [b"reply to %d" % number for number in range(100)]
    assert len(launcher.started) <= 2
    assert sum(loads.values()) == 100


def test_only_the_wait_for_the_start_of_ones_own_instance_is_init(open_pool: Opener) -> None:
    """A request that found a warm instance full waited in a queue, which is T_trigger."""
    gate = Gate()
    pool, _ = open_pool(gate, concurrency=1)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(pool.call, FUNCTION, b"1")
        gate.await_entered(1)
        second = threads.submit(pool.call, FUNCTION, b"2")
        (slot,) = pool.slots()
        until(lambda: slot.waiting)
        gate.open.set()
        assert first.result(WAIT_S).init_s > 0
        assert second.result(WAIT_S).init_s == 0.0


def test_as_many_as_the_least_allowed_run_before_anybody_asks_and_stay(open_pool: Opener) -> None:
    pool, launcher = open_pool(min_instances=1, max_instances=2, keep_alive_s=0.05, concurrency=1)
    pool.deploy(FUNCTION)
    gate = Gate()
    launcher.script = gate
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(pool.call, FUNCTION, b"") for _ in range(2)]
        gate.open.set()
        for call in calls:
            call.result(WAIT_S)
    if len(launcher.started) == 2:
        assert launcher.some_ended.wait(WAIT_S)
    assert [len(launcher.started) - len(launcher.ended), len(pool.running())] == [1, 1]


def test_a_policy_may_send_an_instance_away_and_have_one_back_before_the_next_request(
    open_pool: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "LINGER_S", 0.0)

    class Returns:
        name = "returns"

        def window(self, history: History) -> Window:
            return Window(0.05, 600.0)

    pool, launcher = open_pool(policy=Returns())
    pool.call(FUNCTION, b"")
    assert launcher.some_ended.wait(WAIT_S)
    assert launcher.second.wait(WAIT_S)
    assert launcher.ended == ["i1"]
    answer = pool.call(FUNCTION, b"")
    assert answer.instance == "i2"


def test_what_a_policy_is_told_are_the_times_between_the_end_of_one_and_the_next_request(
    open_pool: Opener,
) -> None:
    told: list[History] = []

    class Listens:
        name = "listens"

        def window(self, history: History) -> Window:
            told.append(history)
            return Window(0.0, 600.0)

    pool, _ = open_pool(policy=Listens())
    clock = pool._clock = FakeClock()
    pool.call(FUNCTION, b"")
    clock.now += 90.0
    pool.call(FUNCTION, b"")
    (slot,) = pool.slots()
    assert slot.history == seen(History(), 90.0)


def test_an_idle_instance_makes_room_for_another_function(short: Path) -> None:
    launcher = FakeLauncher(short, lambda _: DONE)
    limits = Limits()
    pool = Pool(launcher, lambda _: limits, memory_budget_bytes=2 * UNMEASURED_BYTES)
    first, second, third = (Function(model="m", version=n, model_path="/m") for n in (1, 2, 3))
    for each in (first, *[second] * 200, third):  # so often that no start's time matters
        pool.call(each, b"")
    assert launcher.ended == ["i1"]
    pool.close()


def test_busy_instances_make_no_room_and_who_waited_for_it_in_vain_is_told(short: Path) -> None:
    gate = Gate()
    launcher = FakeLauncher(short, gate)
    limits = Limits(start_timeout_s=0.2)
    pool = Pool(launcher, lambda _: limits, memory_budget_bytes=UNMEASURED_BYTES)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(pool.call, FUNCTION, b"")
        gate.await_entered(1)
        other = Function(model="m", version=2, model_path="/m")
        with pytest.raises(InstanceLost, match="no memory for an instance of m:2: others"):
            pool.call(other, b"")
        gate.open.set()
        call.result(WAIT_S)
    assert pool.call(other, b"").instance == "i2"
    assert launcher.ended == ["i1"]
    pool.close()


def test_an_instance_counts_with_the_memory_it_was_seen_to_take(short: Path) -> None:
    launcher = FakeLauncher(short, lambda _: DONE)
    limits = Limits()
    measured = threading.Event()

    def size_of(_: Running) -> int:
        measured.set()
        return 1 << 20

    pool = Pool(
        launcher,
        lambda _: limits,
        memory_budget_bytes=UNMEASURED_BYTES + (1 << 20),
        size_of=size_of,
    )
    pool.start()
    pool.call(FUNCTION, b"")
    assert measured.wait(WAIT_S)
    until(lambda: pool.slots()[0].size_bytes is not None)
    pool.call(Function(model="m", version=2, model_path="/m"), b"")
    assert launcher.ended == []
    pool.close()
