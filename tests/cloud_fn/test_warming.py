"""Deployed cuts are loaded in the instances that run, behind real sockets and a fake engine."""
# ruff: noqa: ANN401  (builders take any field)

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fn.errors import FunctionFailed, InvalidRequest
from cloud_fn.functions import Function, Pool
from cloud_fn.functions.cuts import CutsReport, Deployed, Known, cut_of, cuts_of
from cloud_fn.functions.instance import Executed
from cloud_fn.functions.listener import Listener, listening, loaded
from cloud_fn.functions.reach import Near
from protos.deployments import MAX_CUTS, MAX_NAME_CHARS, MAX_TENSORS
from protos.tensors import Buffer
from tests.cloud_fn.pools import FUNCTION, WAIT_S, FakeLauncher, Opener, until

A, B, C = ("a",), ("b",), ("c", "d")


class Engine:
    """Runs anything, and loads what it is told to; keeps a record of both."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.record: list[tuple[str, ...] | str] = []
        self.failing: dict[tuple[str, ...], BaseException] = {}
        self.stuck: set[tuple[str, ...]] = set()
        self.unstuck = threading.Event()

    def execute(self, data: Buffer) -> Executed:
        self.entered.set()
        assert self.open.wait(WAIT_S)
        self.record.append("request")
        return Executed(body=bytes(data), load_s=0.0, infer_s=0.0)

    def warm(self, tensors: Sequence[str]) -> float:
        cut = tuple(tensors)
        self.record.append(cut)
        if cut in self.stuck:
            self.unstuck.wait(WAIT_S)
        if cut in self.failing:
            raise self.failing[cut]
        return 0.5


class Ending(Listener):
    """One that ends with its socket, where an instance's ends with its process."""

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(SystemExit):
            super()._serve(connection)


class Attended:
    """An instance that is a listener in this process before *engine*."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self._socket = listening(path)
        Ending(self._socket, engine.execute, peer=os.getpid(), warm=engine.warm).start()

    def die(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.open.set()
    made.unstuck.set()


@pytest.fixture
def open_pool(open_pool: Opener, short: Path, engine: Engine) -> Opener:
    """Open a pool whose instances have *engine*, and end because they use too much."""

    def make(**limits: Any) -> tuple[Pool, FakeLauncher]:
        launcher = FakeLauncher(short, instance=lambda path: Attended(path, engine))
        launcher.why = "it used too much"
        return open_pool(launcher=launcher, **limits)

    return make


# What is remembered -----------------------------------------------------------------------------


def test_a_cut_is_its_tensors_whatever_their_order() -> None:
    assert cut_of(["b", "a", "b"]) == ("a", "b")
    assert cuts_of([["b", "a"], ["c"], ["a", "b"]]) == (("a", "b"), ("c",))


@pytest.mark.parametrize(
    ("cuts", "why"),
    [
        ([[]], "a cut has 0 boundary tensors: name 1 to 256 of them"),
        ([map(str, range(MAX_TENSORS + 1))], "a cut has 257 boundary tensors"),
        ([[""]], "a boundary tensor's name has 0 characters: use 1 to 200"),
        ([["x" * (MAX_NAME_CHARS + 1)]], "a boundary tensor's name has 201 characters"),
        ([[str(n)] for n in range(MAX_CUTS + 1)], "17 cuts are to be deployed: send at most 16"),
    ],
)
def test_a_deployment_beyond_its_bounds_is_refused(cuts: Any, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        cuts_of(cuts)
    assert str(caught.value).startswith(why)


@given(st.lists(st.integers(0, 40)))
def test_the_last_sixteen_cuts_are_remembered_and_the_rest_is_not(numbers: list[int]) -> None:
    known = Known()
    for number in numbers:
        known.name((str(number),))
    last = list(dict.fromkeys(reversed(numbers)))[:MAX_CUTS]
    assert known.all() == tuple((str(number),) for number in reversed(last))


def test_what_failed_is_not_missing_until_the_cut_is_forgotten() -> None:
    deployed = Deployed()
    deployed.deploy([A, B])
    deployed.refuse(A, "it is unknown")
    deployed.refuse(C, "nobody deployed it")
    deployed.deploy([A])
    assert (deployed.missing(Known()), deployed.refused) == ((B,), {A: "it is unknown"})
    deployed.deploy([(str(number),) for number in range(MAX_CUTS)])
    deployed.deploy([A])
    assert A in deployed.missing(Known())


# What is loaded ---------------------------------------------------------------------------------


def test_deploying_starts_nothing_and_the_first_request_comes_before_the_cuts(
    open_pool: Opener, engine: Engine
) -> None:
    pool, launcher = open_pool()
    assert pool.cuts.deploy(FUNCTION, (A, C)) == CutsReport()
    assert launcher.started == []
    pool.call(FUNCTION, b"")
    until(lambda: pool.cuts.report(FUNCTION).warm == (A, C))
    assert engine.record == ["request", A, C]


def test_no_instance_loads_cuts_while_its_first_request_waits_or_runs(
    open_pool: Opener, engine: Engine
) -> None:
    pool, _ = open_pool()
    pool.cuts.deploy(FUNCTION, (A,))
    engine.open.clear()
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(pool.call, FUNCTION, b"")
        assert engine.entered.wait(WAIT_S)
        slot = pool.slot(FUNCTION)
        assert not slot.may_warm(slot.lives[0])
        pool.cuts.look(slot)
        engine.open.set()
        call.result(WAIT_S)
    until(lambda: pool.cuts.report(FUNCTION).warm == (A,))
    assert engine.record == ["request", A]


def test_an_instance_that_is_started_ahead_of_demand_loads_them_without_a_request(
    open_pool: Opener, engine: Engine
) -> None:
    pool, _ = open_pool(min_instances=1)
    pool.cuts.deploy(FUNCTION, (A,))
    pool.deploy(FUNCTION)
    until(lambda: pool.cuts.report(FUNCTION).warm == (A,))
    assert engine.record == [A]


def test_deploying_to_an_instance_that_works_loads_at_once_and_each_cut_once(
    open_pool: Opener, engine: Engine
) -> None:
    """It is never idle, so that waiting for that would be waiting for ever."""
    pool, _ = open_pool()
    pool.call(FUNCTION, b"")
    engine.open.clear()
    engine.entered.clear()
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(pool.call, FUNCTION, b"")
        assert engine.entered.wait(WAIT_S)
        pool.cuts.deploy(FUNCTION, (A, B))
        until(lambda: pool.cuts.report(FUNCTION).warm == (A, B))
        assert pool.cuts.deploy(FUNCTION, (B, A)).warm == (A, B)
        engine.open.set()
        call.result(WAIT_S)
    assert engine.record == ["request", A, B, "request"]


def test_a_cut_that_requests_used_is_warm_and_not_loaded_again(
    open_pool: Opener, engine: Engine
) -> None:
    pool, _ = open_pool()
    pool.cuts.used(FUNCTION, "i1", A)
    answer = pool.call(FUNCTION, b"")
    pool.cuts.used(FUNCTION, answer.instance, A)
    pool.cuts.used(FUNCTION, "another", B)
    assert pool.cuts.report(FUNCTION).warm == (A,)
    pool.cuts.deploy(FUNCTION, (A, B))
    until(lambda: pool.cuts.report(FUNCTION).warm == (A, B))
    assert engine.record == ["request", B]


def test_a_cut_is_warm_if_every_instance_has_it(open_pool: Opener, engine: Engine) -> None:
    pool, launcher = open_pool(min_instances=2, max_instances=2)
    pool.deploy(FUNCTION)
    until(lambda: len(pool.running()) == 2)
    pool.cuts.used(FUNCTION, "i1", A)
    assert pool.cuts.report(FUNCTION).warm == ()
    pool.cuts.used(FUNCTION, "i2", A)
    assert pool.cuts.report(FUNCTION).warm == (A,)
    assert sorted(launcher.started) == ["i1", "i2"]


# What fails -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (InvalidRequest("there is no tensor a"), "there is no tensor a"),
        (FunctionFailed("the file is gone"), "the file is gone"),
        (RuntimeError("oh"), "the function failed: RuntimeError oh"),
    ],
)
def test_a_cut_that_cannot_be_loaded_says_why_and_is_not_tried_again(
    open_pool: Opener, engine: Engine, error: Exception, why: str
) -> None:
    pool, launcher = open_pool()
    engine.failing = {A: error}
    pool.call(FUNCTION, b"")
    pool.cuts.deploy(FUNCTION, (A, B))
    until(lambda: pool.cuts.report(FUNCTION) == CutsReport(warm=(B,), refused={A: why}))
    slot = pool.slot(FUNCTION)
    pool.end(slot, slot.lives[0], "idle")
    pool.call(FUNCTION, b"")
    until(lambda: pool.cuts.deploy(FUNCTION, (A, B)).warm == (B,))
    assert engine.record == ["request", A, B, "request", B]
    assert launcher.ended == ["i1"]


def test_a_cut_that_ends_its_instance_is_not_given_to_the_next(
    open_pool: Opener, engine: Engine
) -> None:
    """Else each instance would die of it."""
    pool, launcher = open_pool()
    engine.failing = {A: SystemExit()}
    pool.call(FUNCTION, b"")
    pool.cuts.deploy(FUNCTION, (A, B))
    until(lambda: pool.cuts.report(FUNCTION).warm == (B,))
    assert (engine.record, launcher.ended) == (["request", A, B], ["i1"])
    assert pool.cuts.report(FUNCTION).refused == {
        A: "an instance ended while it loaded it: it used too much"
    }


def test_a_cut_that_takes_longer_than_a_request_may_is_left_alone_and_its_instance_too(
    open_pool: Opener, engine: Engine
) -> None:
    pool, launcher = open_pool(max_execution_s=0.2)
    engine.stuck = {A}
    pool.call(FUNCTION, b"")
    pool.cuts.deploy(FUNCTION, (A, B))
    until(lambda: pool.cuts.report(FUNCTION).warm == (B,))
    assert pool.cuts.report(FUNCTION).refused == {
        A: "loading it took longer than 0.2 s (max_execution_s)"
    }
    assert launcher.ended == []


def test_a_request_that_could_use_a_refused_cut_redeems_it(
    open_pool: Opener, engine: Engine
) -> None:
    pool, _ = open_pool()
    engine.failing = {A: FunctionFailed("no memory")}
    pool.cuts.deploy(FUNCTION, (A,))
    name = pool.call(FUNCTION, b"").instance
    until(lambda: pool.cuts.report(FUNCTION).refused)
    pool.cuts.used(FUNCTION, name, A)
    assert pool.cuts.report(FUNCTION) == CutsReport(warm=(A,))


def test_another_setting_of_the_function_has_what_failed_tried_again(
    open_pool: Opener, engine: Engine
) -> None:
    pool, _ = open_pool()
    pool.cuts.deploy(FUNCTION, (A,))
    pool.slot(FUNCTION).deployed.refuse(A, "no memory")
    assert pool.cuts.deploy(FUNCTION, (A,)).refused == {A: "no memory"}
    changed = Function(model="m", version=1, model_path="/m", threads=2)
    assert pool.cuts.deploy(changed, (A,)).refused == {}


def test_an_instance_that_is_gone_is_left_to_its_next_request(
    open_pool: Opener, engine: Engine
) -> None:
    pool, launcher = open_pool()
    pool.call(FUNCTION, b"")
    live = pool.slot(FUNCTION).lives[0]
    live.running = replace(live.running, address=Near(Path("/tmp/is-nobody")))  # noqa: S108  not made
    pool.cuts.deploy(FUNCTION, (A,))
    until(lambda: not live.warming)
    assert (pool.cuts.report(FUNCTION), launcher.ended) == (CutsReport(), [])


@pytest.mark.parametrize("tensors", ["a", [1], None, {"a": 1}])
def test_an_instance_refuses_what_is_no_cut(tensors: object) -> None:
    assert loaded(lambda _: 0.0, tensors) == {
        "error": "invalid",
        "message": "a cut is written by the names of its boundary tensors",
    }


def test_an_engine_that_loads_nothing_ahead_says_so() -> None:
    assert loaded(None, ["a"]) == {
        "error": "failed",
        "message": "its engine loads nothing ahead of a request",
    }
