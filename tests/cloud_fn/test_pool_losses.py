"""Instances that die, hang or never come: what becomes of requests, and of the next one."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cloud_fn.errors import (
    DeadlinePassed,
    HostLost,
    InstanceLost,
)
from cloud_fn.functions.launch import HOST_ENDED, NODE_LOST
from tests.cloud_fn.pools import (
    DONE,
    FUNCTION,
    WAIT_S,
    WARM,
    FakeClock,
    Gate,
    Opener,
    summary,
    until,
)


def test_an_instance_that_died_while_idle_is_replaced_unnoticed(open_pool: Opener) -> None:
    """Nothing was sent to it, so the call may go to another."""
    pool, launcher = open_pool()
    pool.call(FUNCTION, b"")
    launcher.instances["i1"].die()
    assert summary(pool.call(FUNCTION, b"2"))[:3] == (b"reply to 2", "i2", True)
    assert launcher.ended == ["i1"]


def test_an_instance_that_dies_under_a_request_ends_it_and_is_replaced(open_pool: Opener) -> None:
    """The request may be what killed it, so it is not tried again."""
    seen: list[bytes] = []

    def script(body: bytes) -> dict[str, object] | None:
        seen.append(body)
        return None if body == b"!" else DONE

    pool, launcher = open_pool(script)
    with pytest.raises(InstanceLost, match="the instance of m:1 ended while it ran the request"):
        pool.call(FUNCTION, b"!")
    assert pool.call(FUNCTION, b"2").instance == "i2"
    assert (seen, launcher.ended) == ([b"!", b"2"], ["i1"])


def test_a_request_whose_instance_went_with_its_host_runs_again_elsewhere(
    open_pool: Opener,
) -> None:
    """Inference is pure, and a lost host or node is no fault of the request's."""
    seen: list[bytes] = []

    def script(body: bytes) -> dict[str, object] | None:
        seen.append(body)
        return None if len(seen) == 1 else DONE

    pool, launcher = open_pool(script)
    launcher.why = NODE_LOST
    assert summary(pool.call(FUNCTION, b"!"))[:2] == (b"reply to !", "i2")
    assert (seen, launcher.ended) == ([b"!", b"!"], ["i1"])


def test_a_request_that_may_be_what_costs_the_hosts_runs_no_third_time(open_pool: Opener) -> None:
    seen: list[bytes] = []

    def script(body: bytes) -> None:
        seen.append(body)

    pool, launcher = open_pool(script)
    launcher.why = HOST_ENDED
    with pytest.raises(HostLost, match="ended while it ran the request: its host ended"):
        pool.call(FUNCTION, b"!")
    assert seen == [b"!", b"!"]


def test_instances_that_went_with_their_host_while_idle_are_passed_by(open_pool: Opener) -> None:
    gate = Gate()
    pool, launcher = open_pool(gate, max_instances=4, min_instances=4, concurrency=1)
    pool.deploy(FUNCTION)
    until(lambda: len(pool.running()) == 4)
    launcher.why = HOST_ENDED
    for each in tuple(launcher.instances.values()):
        each.die()
    gate.open.set()
    assert bytes(pool.call(FUNCTION, b"2").body) == b"reply to 2"


def test_an_instance_that_runs_too_long_is_ended_and_replaced(open_pool: Opener) -> None:
    gate = Gate()
    pool, launcher = open_pool(gate, max_execution_s=0.5)
    with pytest.raises(DeadlinePassed) as caught:
        pool.call(FUNCTION, b"")
    assert str(caught.value) == (
        "m:1 ran longer than 0.5 s (max_execution_s): its instance was replaced"
    )
    assert launcher.ended == ["i1"]
    gate.open.set()
    assert pool.call(FUNCTION, b"").instance == "i2"


def test_an_instance_that_hangs_is_ended_even_if_every_caller_gave_up_before(
    open_pool: Opener,
) -> None:
    pool, launcher = open_pool(Gate(), max_execution_s=1.0)
    pool.call(FUNCTION, WARM)
    clock = FakeClock()
    pool._clock = clock
    with pytest.raises(DeadlinePassed, match="did not answer"):
        pool.call(FUNCTION, b"", deadline_s=clock.now + 0.001)
    assert launcher.some_ended.wait(WAIT_S)
    assert launcher.ended == ["i1"]


def test_a_start_that_fails_tells_everybody_who_waited_and_the_next_call_tries_again(
    open_pool: Opener,
) -> None:
    pool, launcher = open_pool()
    launcher.failure = InstanceLost("no instance of m:1 came up")
    for _ in range(2):
        with pytest.raises(InstanceLost, match="came up"):
            pool.call(FUNCTION, b"")
    launcher.failure = None
    assert pool.call(FUNCTION, b"").instance == "i1"


def test_an_instance_that_talks_nonsense_is_replaced(open_pool: Opener) -> None:
    headers = iter([{"load_s": "soon"}, DONE])
    pool, _ = open_pool(lambda _: next(headers))
    with pytest.raises(InstanceLost):
        pool.call(FUNCTION, b"")
    assert pool.call(FUNCTION, b"").instance == "i2"


def test_what_is_known_of_an_instances_end_is_told(open_pool: Opener) -> None:
    pool, launcher = open_pool(lambda _: None)
    launcher.why = "it used more than its 64 MiB of memory (max_memory_bytes)"
    with pytest.raises(InstanceLost) as caught:
        pool.call(FUNCTION, b"")
    assert str(caught.value) == (
        "the instance of m:1 ended while it ran the request: it used more than its 64 MiB of "
        "memory (max_memory_bytes); try again, or lower what one request needs"
    )


def test_nobody_asks_why_an_instance_ended_that_was_told_to(open_pool: Opener) -> None:
    """The answer would be waited for, as long as a process needs to be noticed."""
    pool, launcher = open_pool(lambda body: None if body == b"!" else DONE)
    pool.call(FUNCTION, b"")
    with pytest.raises(InstanceLost):
        pool.call(FUNCTION, b"!")
    pool.call(FUNCTION, b"")
    pool.close()
    assert (sorted(launcher.ended), launcher.asked_why) == (["i1", "i2"], ["i1"])


def test_a_further_start_that_fails_costs_nobody_who_has_an_instance(open_pool: Opener) -> None:
    gate = Gate()
    pool, launcher = open_pool(gate, concurrency=1, max_instances=2)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(pool.call, FUNCTION, b"1")
        gate.await_entered(1)
        launcher.failure = InstanceLost("no room")
        second = threads.submit(pool.call, FUNCTION, b"2")
        assert launcher.failed.wait(WAIT_S)
        gate.open.set()
        assert [call.result(WAIT_S).instance for call in (first, second)] == ["i1", "i1"]
