"""What the controller gives out. Gateways are played by the test, and so is the clock."""

from collections.abc import Mapping

import hypothesis.strategies as st
import msgspec
from hypothesis import given, settings

from cloud_fn.controller.books import (
    Books,
    Finish,
    Forgotten,
    Grant,
    Heard,
    Left,
    Looked,
    Order,
    standing,
    step,
)
from cloud_fn.controller.messages import LAPSE_S, Beat, GatewayRow, HostRow, Need, ShareRow
from cloud_fn.controller.sharing import Claim, divide
from cloud_fn.functions.leases import Lease, Roll
from cloud_fn.processes import Mark

BUDGET = 1000


def need(used: int, idle: int = 0) -> Need:
    return Need(used_bytes=used, idle_bytes=idle)


def beat(
    gateway: str,
    *,
    holds: Mapping[str, int] | None = None,
    used: int = 0,
    idle: int = 0,
    waits: int = 0,
    budgets: Mapping[str, int] | None = None,
) -> Beat:
    """Of a gateway that has a host on node ``n`` alone, unless *budgets* says otherwise."""
    return Beat(
        gateway=gateway,
        address=f"{gateway}:8001",
        budgets=dict(budgets or {"n": BUDGET}),
        needs={"n": need(used, idle)},
        waits_bytes=waits,
        holds=dict(holds or {}),
    )


def roll(leases: Mapping[str, Mapping[str, int]]) -> Roll:
    """Of a host that works for the gateways that are named, which hold so much."""
    return Roll(
        node="n",
        kind="cpu",
        process=Mark(1, 0.0),
        memory_bytes=2 * BUDGET,
        spares=2,
        leases=tuple(
            Lease(id=f"l-{name}", gateway=name, holds=dict(holds)) for name, holds in leases.items()
        ),
    )


class Played:
    """Books that events are told to, at a time that only the test moves on."""

    def __init__(self, books: Books | None = None) -> None:
        self.now_s = 0.0
        self.books = books or Books(began_s=0.0, looked=True)

    def hear(self, said: Beat) -> dict[str, int]:
        self.books, orders = step(self.books, Heard(at_s=self.now_s, beat=said))
        (grant,) = orders
        assert isinstance(grant, Grant)
        return dict(grant.shares)

    def look(self, **rolls: Roll | None) -> tuple[Order, ...]:
        self.books, orders = step(self.books, Looked(at_s=self.now_s, rolls=rolls))
        return orders


def test_a_gateway_that_is_alone_may_use_all_of_each_node() -> None:
    played = Played()
    assert played.hear(beat("a", budgets={"n": BUDGET, "m": 500})) == {"n": BUDGET, "m": 500}


def test_a_second_gateway_gets_what_the_first_has_let_go() -> None:
    """The first still believes to hold all of it until it says that it does not."""
    played = Played()
    held = played.hear(beat("a"))
    assert played.hear(beat("b")) == {"n": 0}
    held = played.hear(beat("a", holds=held))
    assert held == {"n": 500}
    assert played.hear(beat("b")) == {"n": 0}  # that answer may be lost
    played.hear(beat("a", holds=held))
    assert played.hear(beat("b")) == {"n": 500}


def test_what_is_busy_stays_what_waits_comes_next_and_the_rest_is_parted() -> None:
    claims = {"a": Claim(busy=400), "b": Claim(busy=100, waits=200)}
    assert divide(BUDGET, claims) == {"a": 550, "b": 450}


def test_what_idles_gives_way_to_what_waits() -> None:
    claims = {"a": Claim(busy=300, idle=600), "b": Claim(busy=100, waits=400)}
    assert divide(BUDGET, claims) == {"a": 500, "b": 500}


def test_who_claims_more_than_there_is_starves_nobody() -> None:
    claims = {"a": Claim(waits=50_000), "b": Claim(waits=200)}
    assert divide(BUDGET, claims) == {"a": 800, "b": 200}


def test_a_budget_that_was_lowered_takes_nothing_from_what_is_busy() -> None:
    assert divide(100, {"a": Claim(busy=300), "b": Claim()}) == {"a": 300, "b": 0}


def test_where_gateways_differ_about_a_budget_the_least_counts() -> None:
    played = Played()
    played.hear(beat("a", budgets={"n": BUDGET}))
    assert played.hear(beat("b", budgets={"n": 600}, holds={})) == {"n": 0}
    assert played.hear(beat("a", holds={"n": BUDGET})) == {"n": 300}


def test_what_waits_is_meant_for_the_node_with_most_that_is_not_busy() -> None:
    played = Played()
    both = {"n": BUDGET, "m": BUDGET}
    first = beat("a", budgets=both, used=800)
    held = played.hear(first)
    played.hear(beat("b", budgets=both, waits=900))
    shares = played.hear(msgspec.structs.replace(first, holds=held))
    assert shares == {"n": 900, "m": 50}


def test_a_gateway_is_gone_when_neither_it_nor_a_host_of_it_is_heard() -> None:
    played = Played()
    played.hear(beat("a"))
    played.hear(beat("b"))
    played.now_s = LAPSE_S + 1
    played.hear(beat("b"))
    assert played.look(h=roll({"a": {"n": BUDGET}, "b": {}})) == ()  # its connection stands
    assert played.hear(beat("b")) == {"n": 0}
    assert played.look(h=roll({"b": {}})) == (Forgotten(gateway="a"),)
    assert played.hear(beat("b")) == {"n": BUDGET}


def test_a_host_that_does_not_answer_is_taken_at_its_last_word() -> None:
    played = Played()
    played.look(h=roll({"a": {"n": 700}}))
    played.look(h=None)
    assert played.hear(beat("b")) == {"n": 300}
    played.look()  # Ray does not know it any more
    assert played.hear(beat("b")) == {"n": BUDGET}


def test_a_new_controller_gives_nothing_out_before_it_has_heard_whom_hosts_name() -> None:
    played = Played(Books(began_s=0.0))
    assert played.hear(beat("a", holds={"n": 300})) == {"n": 300}
    played.look(h=roll({"a": {"n": 300}, "b": {"n": 400}}))
    assert played.hear(beat("a", holds={"n": 300}, used=300, waits=500)) == {"n": 300}
    played.hear(beat("b", holds={"n": 400}))
    assert played.hear(beat("a", holds={"n": 300}, used=300, waits=500)) == {"n": 600}


def test_of_one_that_is_not_heard_in_time_what_its_hosts_say_counts() -> None:
    """It answers its hosts, so it lives, and holds what it told them."""
    played = Played(Books(began_s=0.0))
    named = roll({"b": {"n": 400}})
    played.look(h=named)
    played.now_s = LAPSE_S + 1
    played.look(h=named)
    assert played.hear(beat("a", waits=BUDGET)) == {"n": 600}


def test_a_host_that_says_nothing_at_first_is_waited_for_but_not_for_ever() -> None:
    played = Played(Books(began_s=0.0))
    played.look(h=None)
    assert played.hear(beat("a")) == {}
    played.now_s = LAPSE_S + 1
    played.look(h=None)
    assert played.hear(beat("a")) == {"n": BUDGET}


def test_the_last_gateway_that_leaves_is_told_that_nobody_is_left() -> None:
    played = Played()
    for name in ("a", "b"):
        played.hear(beat(name))
    books, orders = step(played.books, Left(at_s=0.0, gateway="a"))
    assert orders == ()
    assert step(books, Left(at_s=0.0, gateway="b"))[1] == (Finish(),)


def test_books_that_nobody_needs_are_closed_after_a_while() -> None:
    played = Played()
    played.hear(beat("a"))
    played.now_s = 10.0
    assert played.look() == (Forgotten(gateway="a"),)
    played.now_s = 20.0
    assert played.look() == ()
    played.now_s = 30.0
    assert played.look() == (Finish(),)


def test_what_people_are_shown_is_what_the_books_hold() -> None:
    played = Played()
    played.hear(beat("a", used=300, idle=100))
    played.look(h=roll({"a": {}}))
    shown = standing(played.books, 2.0)
    assert [(node.id, node.budget_bytes, node.held_bytes) for node in shown.nodes] == [
        ("n", BUDGET, BUDGET)
    ]
    assert shown.gateways == (GatewayRow(id="a", address="a:8001", heard_ago_s=2.0),)
    assert shown.shares == (
        ShareRow(gateway="a", node="n", used_bytes=300, idle_bytes=100, held_bytes=BUDGET),
    )
    assert shown.hosts == (HostRow(name="h", node="n", kind="cpu", pid=1, gateways=("a",)),)


NAMES = ("a", "b", "c")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("beat"), st.sampled_from(NAMES), st.booleans(), st.integers(0, 1200)),
        st.tuples(st.just("use"), st.sampled_from(NAMES), st.booleans(), st.integers(0, 1200)),
        st.tuples(st.just("restart"), st.just("a"), st.just(value=True), st.just(0)),
    ),
    max_size=40,
)


class Simulated:
    """Three gateways and one host that remembers what they hold, as :class:`Budget` has it."""

    def __init__(self) -> None:
        self.played = Played()
        self.held = dict.fromkeys(NAMES, 0)
        self.used = dict.fromkeys(NAMES, 0)

    def take(self, kind: str, name: str, arrives: bool, amount: int) -> None:  # noqa: FBT001  drawn
        if kind == "use":
            self.used[name] = min(amount, self.held[name])
        elif kind == "restart":
            self.played = Played(Books(began_s=0.0))
            self.played.look(h=roll({each: {"n": self.held[each]} for each in NAMES}))
        else:
            said = beat(name, holds={"n": self.held[name]}, used=self.used[name], waits=amount)
            shares = self.played.hear(said)
            if arrives:
                self.held[name] = max(shares.get("n", 0), self.used[name])


@given(STEPS)
@settings(max_examples=80, deadline=None)
def test_all_together_never_hold_more_than_the_budget(
    steps: list[tuple[str, str, bool, int]],
) -> None:
    """Whichever answers are lost, whatever they ask, and however often the controller begins anew.

    Each has a lease on a host: one that has none holds nothing, or is heard first.
    """
    world = Simulated()
    for kind, name, arrives, amount in steps:
        world.take(kind, name, arrives, amount)
        assert sum(world.held.values()) <= BUDGET


def test_a_beat_that_changes_nothing_changes_no_answer() -> None:
    played = Played()
    held = played.hear(beat("a", used=200))
    again = played.hear(beat("a", used=200, holds=held))
    books = played.books
    assert again == held == played.hear(beat("a", used=200, holds=again))
    assert played.books == books
