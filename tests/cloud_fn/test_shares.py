"""A gateway that keeps to its shares of nodes. Instances, controller and clock are the test's."""

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from cloud_fn.controller.beating import Beating, Unheard
from cloud_fn.controller.messages import LAPSE_S, Beat, Need
from cloud_fn.errors import InstanceLost, ServeError
from cloud_fn.functions import Function, Limits
from cloud_fn.functions.budget import UNMEASURED_BYTES, Budget, Use
from cloud_fn.functions.launch import Running
from cloud_fn.functions.reach import Near
from cloud_fn.functions.shares import Shares
from cloud_fn.functions.slot import Live, Slot
from cloud_fn.processes import Mark

SIZE = UNMEASURED_BYTES
FUNCTION = Function(model="m", version=1, model_path="/m")


class Gateway:
    """A budget with shares, and instances that the test puts on nodes."""

    def __init__(self, **shares: int) -> None:
        self.slot = Slot(FUNCTION, Limits(max_instances=50))
        self.shares = Shares()
        self.shares.replace(shares)
        self.ended: list[str] = []
        self.budget = Budget(None, slots=lambda: [self.slot], end=self._end, shares=self.shares)

    def put(self, name: str, node: str, *, busy: bool = False) -> None:
        running = Running(name=name, process=Mark(1, 0.0), address=Near(Path(name)), node=node)
        self.slot.lives.append(Live(running, asked_s=0.0, ready_s=0.0, in_use=int(busy)))

    def _end(self, _slot: Slot, live: Live, _why: str) -> None:
        self.ended.append(live.running.name)


def test_an_instance_goes_only_to_a_node_where_it_fits() -> None:
    gateway = Gateway(n=SIZE, m=SIZE)
    gateway.put("busy", "n", busy=True)
    with gateway.budget.room(gateway.slot, 0.1) as room:
        assert not room.fits("n")
        assert not room.fits("of which nothing is known")
        assert room.fits("m")
        with pytest.raises(InstanceLost, match="take 64 of 64 MiB"):
            gateway.budget.room(gateway.slot, 0.0).__enter__()
    assert gateway.ended == []


def test_two_that_start_at_once_are_not_given_the_same_room() -> None:
    gateway = Gateway(n=SIZE)
    with (
        gateway.budget.room(gateway.slot, 0.1),
        pytest.raises(InstanceLost),
        gateway.budget.room(gateway.slot, 0.0),
    ):
        raise AssertionError("there was room for one")


def test_room_that_is_taken_on_one_node_is_free_on_the_others() -> None:
    gateway = Gateway(n=SIZE, m=SIZE)
    with gateway.budget.room(gateway.slot, 0.1) as first:
        assert first.fits("n")
        with gateway.budget.room(gateway.slot, 0.1) as second:
            assert not second.fits("n")
            assert second.fits("m")


def test_idle_instances_make_room_on_the_node_where_most_is_to_be_had() -> None:
    gateway = Gateway(n=SIZE, m=2 * SIZE)
    gateway.put("n1", "n", busy=True)
    gateway.put("m1", "m")
    gateway.put("m2", "m", busy=True)
    with gateway.budget.room(gateway.slot, 0.1) as room:
        assert gateway.ended == ["m1"]
        assert not room.fits("n")
        assert room.fits("m")


def test_a_smaller_share_sends_idle_instances_away_and_no_busy_ones() -> None:
    gateway = Gateway(n=4 * SIZE)
    for name, busy in (("b1", True), ("b2", True), ("i1", False), ("i2", False)):
        gateway.put(name, "n", busy=busy)
    gateway.budget.adopt({"n": SIZE})
    assert sorted(gateway.ended) == ["i1", "i2"]
    assert gateway.shares.now() == {"n": 2 * SIZE}  # what is busy is held, and said to be


def test_a_start_that_was_promised_room_keeps_it_when_the_share_shrinks() -> None:
    gateway = Gateway(n=2 * SIZE)
    with gateway.budget.room(gateway.slot, 0.1) as room:
        gateway.budget.adopt({})
        assert gateway.shares.now() == {"n": SIZE}
        assert room.fits("n")


def test_who_waits_for_room_goes_on_when_the_share_grows() -> None:
    gateway = Gateway()
    asked, got = threading.Event(), threading.Event()
    gateway.budget.lacks = asked.set

    def start() -> None:
        with gateway.budget.room(gateway.slot, 20.0) as room:
            if room.fits("n"):
                got.set()

    starter = threading.Thread(target=start)
    starter.start()
    assert asked.wait(20.0)
    assert gateway.budget.uses()[1] == SIZE
    gateway.budget.adopt({"n": SIZE})
    starter.join(20.0)
    assert got.is_set()
    assert gateway.budget.uses() == ({"n": Use()}, 0)


class FakeLink:
    """A controller that says what the test has it say, or nothing."""

    def __init__(self, *answers: Mapping[str, int] | None) -> None:
        self.answers = list(answers)
        self.said: list[Beat] = []

    def beat(self, beat: Beat) -> Mapping[str, int]:
        self.said.append(beat)
        answer = self.answers.pop(0) if self.answers else None
        if answer is None:
            raise Unheard("it is gone")
        return answer


class FakeHosts:
    def __init__(self) -> None:
        self.there = True

    def memory(self) -> dict[str, int]:
        return {"n": 10 * SIZE}

    def hosts(self) -> tuple[str, ...]:
        return ("h",) if self.there else ()


class Played:
    """A gateway that beats when the test says so."""

    def __init__(self, link: FakeLink, *, budget_bytes: int | None = None) -> None:
        self.gateway, self.hosts, self.now_s = Gateway(), FakeHosts(), 0.0
        self.beating = Beating(
            link,
            self.hosts,
            self.gateway.budget,
            self.gateway.shares,
            gateway="g",
            address="g:8001",
            budget_bytes=budget_bytes,
            clock=self.clock,
        )

    def clock(self) -> float:
        return self.now_s


def test_a_beat_says_what_there_is_and_adopts_what_is_answered() -> None:
    link = FakeLink({"n": 3 * SIZE}, {"n": 4 * SIZE})
    played = Played(link)
    played.beating.beat()
    played.gateway.put("i1", "n")
    played.gateway.put("b1", "n", busy=True)
    played.beating.beat()
    assert link.said == [
        Beat(gateway="g", address="g:8001", budgets={"n": 5 * SIZE}),
        Beat(
            gateway="g",
            address="g:8001",
            budgets={"n": 5 * SIZE},
            needs={"n": Need(used_bytes=2 * SIZE, idle_bytes=SIZE)},
            holds={"n": 3 * SIZE},
        ),
    ]
    assert played.gateway.shares.now() == {"n": 4 * SIZE}


def test_a_budget_that_was_set_is_each_nodes() -> None:
    link = FakeLink({})
    Played(link, budget_bytes=7).beating.beat()
    assert link.said[0].budgets == {"n": 7}


def test_a_gateway_goes_on_with_what_it_holds_while_no_controller_answers() -> None:
    played = Played(FakeLink({"n": SIZE}))
    played.beating.beat()
    played.now_s = 100 * LAPSE_S
    played.beating.beat()
    assert played.gateway.shares.now() == {"n": SIZE}


def test_a_gateway_of_which_nobody_can_know_holds_nothing() -> None:
    """Others may have been given what it held: it has no host that would tell of it."""
    played = Played(FakeLink({"n": SIZE}))
    played.beating.beat()
    played.hosts.there = False
    played.now_s = LAPSE_S
    played.beating.beat()
    assert played.gateway.shares.now() == {"n": SIZE}
    played.now_s = LAPSE_S + 1
    played.beating.beat()
    assert played.gateway.shares.now() == {}


def test_a_gateway_that_gets_no_share_does_not_begin() -> None:
    for link, why in ((FakeLink({"n": 0}), "others hold all"), (FakeLink(), "no controller")):
        with pytest.raises(ServeError, match=why):
            Played(link).beating.join(-1.0, stop=threading.Event())


def test_a_gateway_that_is_told_to_stop_waits_for_no_share() -> None:
    stop = threading.Event()
    stop.set()
    assert not Played(FakeLink()).beating.join(60.0, stop=stop)
