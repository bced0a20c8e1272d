"""From zero instances and back, with instances that are threads and do as they are told."""
# ruff: noqa: ANN401, ARG002  (builders take any field, fakes what the real ones take)

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloud_fn.errors import (
    DeadlinePassed,
    FunctionFailed,
    HostLost,
    InstanceLost,
    InvalidRequest,
    Stopping,
)
from cloud_fn.functions import Answer, Function, Limits, Pool
from cloud_fn.functions import slot as slots
from cloud_fn.functions.budget import UNMEASURED_BYTES
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.launch import CPU, HOST_ENDED, NODE_LOST, Running
from cloud_fn.functions.reach import Near
from cloud_fn.functions.scaling import FixedPolicy, History, Window, seen
from cloud_fn.processes import Mark
from protos.errors import WireError
from protos.frames import recv_frame, send_frame

Script = Callable[[bytes], dict[str, object] | None]
"""What an instance answers to a body: a header, or None to die without an answer."""

FUNCTION = Function(model="m", version=1, model_path="/m")
DONE: dict[str, object] = {"load_s": 0.0, "infer_s": 0.25}
WARM = b"warm"
WAIT_S = 20.0


class FakeClock:
    """Stands still, so that a deadline is as far away at every look."""

    def __init__(self) -> None:
        self.now = time.perf_counter()  # a pool's clock never goes back

    def __call__(self) -> float:
        return self.now


class FakeInstance:
    """Listens like one, in threads of this process."""

    def __init__(self, path: Path, script: Script) -> None:
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def die(self) -> None:
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, WireError):
            while True:
                _, body = recv_frame(connection)
                header = self._script(bytes(body))
                if header is None:
                    self.die()
                    return
                send_frame(connection, header, b"reply to " + bytes(body))


class FakeLauncher:
    """Starts fake instances, and keeps a record."""

    def __init__(self, folder: Path, script: Script) -> None:
        self.script = script
        self.ended: list[str] = []
        self.some_ended = threading.Event()
        self.asked = threading.Event()
        self.may_start = threading.Event()
        self.may_start.set()
        self.failure: Exception | None = None
        self.failed = threading.Event()
        self.second = threading.Event()
        self.why: str | None = None
        self.asked_why: list[str] = []
        self.confinements: list[Confinement | None] = []
        self.instances: dict[str, FakeInstance] = {}
        self._folder = folder
        self._lock = threading.Lock()

    @property
    def started(self) -> list[str]:
        return list(self.instances)

    def start(
        self,
        function: Function,
        *,
        timeout_s: float,
        confinement: Confinement | None = None,
        kind: str = CPU,
    ) -> Running:
        self.asked.set()
        assert self.may_start.wait(WAIT_S)
        if self.failure is not None:
            self.failed.set()
            raise self.failure
        with self._lock:
            name = f"i{len(self.instances) + 1}"
            path = self._folder / name
            self.instances[name] = FakeInstance(path, self.script)
            self.confinements.append(confinement)
            if len(self.instances) == 2:
                self.second.set()
        return Running(name=name, process=Mark(1, 0.0), address=Near(path))

    def end(self, running: Running) -> None:
        self.instances[running.name].die()
        self.ended.append(running.name)
        self.some_ended.set()

    def why_ended(self, running: Running) -> str | None:
        self.asked_why.append(running.name)
        return self.why


class Gate:
    """A script that holds requests until it is opened, all but WARM, and counts them."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, body: bytes) -> dict[str, object]:
        if body == WARM:
            return DONE
        self.entered.release()
        self.open.wait(WAIT_S)
        return DONE

    def await_entered(self, count: int) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=WAIT_S)


Opener = Callable[..., tuple[Pool, FakeLauncher]]


@pytest.fixture
def open_pool(short: Path) -> Iterator[Opener]:
    """Open a pool with a launcher whose instances follow a script; closed afterwards."""
    pools: list[Pool] = []

    def make(script: Script = lambda _: DONE, **limits: Any) -> tuple[Pool, FakeLauncher]:
        launcher = FakeLauncher(short, script)
        if "keep_alive_s" in limits:
            limits["policy"] = FixedPolicy(keep_alive_s=limits.pop("keep_alive_s"))
        given = Limits(**limits)
        pool = Pool(launcher, lambda _: given)
        pool.start()
        pools.append(pool)
        return pool, launcher

    yield make
    for pool in pools:
        pool.close()


def until(happened: Callable[[], object]) -> None:
    """Look until something has happened of which nobody tells."""
    limit_s = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < limit_s
        time.sleep(0.001)


def summary(answer: Answer) -> tuple[bytes, str, bool, float]:
    return bytes(answer.body), answer.instance, answer.cold, answer.infer_s


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


def test_a_deadline_that_passes_during_the_start_ends_the_call_and_not_the_start(
    open_pool: Opener,
) -> None:
    pool, launcher = open_pool()
    launcher.may_start.clear()
    with pytest.raises(DeadlinePassed, match="while an instance of m:1 was starting"):
        pool.call(FUNCTION, b"", deadline_s=0.0)
    launcher.may_start.set()
    assert pool.call(FUNCTION, b"").instance == "i1"


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


def test_an_instance_that_talks_nonsense_is_replaced(open_pool: Opener) -> None:
    headers = iter([{"load_s": "soon"}, DONE])
    pool, _ = open_pool(lambda _: next(headers))
    with pytest.raises(InstanceLost):
        pool.call(FUNCTION, b"")
    assert pool.call(FUNCTION, b"").instance == "i2"


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
