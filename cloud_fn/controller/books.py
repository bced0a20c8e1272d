"""The controller's books: who is there, who holds what, and who may have more. No Ray, no clock.

What a gateway may believe to hold is known from above at any time, its *bound*: what it said last
that it holds or what it was answered since, whichever is more, for an answer may be lost or late.
No answer exceeds what the bounds of all others leave of the budget. A gateway takes over less at
once, down to what its instances use, and says so in its next beat, which frees the rest. So the sum
of what gateways hold stays within the budget, whichever message is lost.

A new controller knows nothing, and asks the hosts: each remembers its gateways and what each of
them holds. It gives nothing out beyond what gateways hold already until those have been heard, or
have had the time to be; where one has not, what its hosts say of it counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias, assert_never

from cloud_fn.controller.messages import (
    LAPSE_S,
    Beat,
    GatewayRow,
    HostRow,
    InstanceRow,
    Need,
    NodeRow,
    ShareRow,
    Standing,
)
from cloud_fn.controller.sharing import Claim, divide
from cloud_fn.functions.leases import Roll

_NOTHING = Need()
_LONELY_S = 3 * LAPSE_S
"""How long the books are kept when there is nobody: a gateway may be starting again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A gateway spoke."""

    at_s: float
    beat: Beat


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """All hosts that there are, by the names of their actors; None where one did not answer."""

    at_s: float
    rolls: Mapping[str, Roll | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A gateway has ended all that it had, and goes."""

    at_s: float
    gateway: str


Event: TypeAlias = Heard | Looked | Left


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Tell the gateway that was heard what it may use of each node."""

    shares: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """A gateway is gone, and what it held is free."""

    gateway: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Nobody is left to keep books for."""


Order: TypeAlias = Grant | Forgotten | Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A gateway: what it said last, when, and the most that it may believe to hold, by node."""

    at_s: float
    beat: Beat
    bound: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Kept since ``began_s``; ``awaited`` are gateways that hosts named and that were not heard.

    ``looked`` says whether the hosts have been asked at all.
    """

    began_s: float
    looked: bool = False
    awaited: frozenset[str] = frozenset()
    quiet_s: float | None = None
    gateways: Mapping[str, Known] = field(default_factory=lambda: MappingProxyType({}))
    hosts: Mapping[str, Roll] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def gathered(self) -> bool:
        """Whether enough is known to give anything out."""
        return self.looked and not self.awaited

    @property
    def leased(self) -> dict[str, dict[str, int]]:
        """What hosts say that gateways hold, by gateway and node."""
        found: dict[str, dict[str, int]] = {}
        for lease in (lease for roll in self.hosts.values() for lease in roll.leases):
            holds = found.setdefault(lease.gateway, {})
            for node, held in lease.holds.items():
                holds[node] = max(held, holds.get(node, 0))
        return found

    def bound(self, gateway: str) -> Mapping[str, int]:
        """The most that a gateway may believe to hold."""
        known = self.gateways.get(gateway)
        return self.leased.get(gateway, {}) if known is None else known.bound

    def budgets(self) -> dict[str, int]:
        """What all gateways together may use of each node: where they differ, the least counts."""
        found: dict[str, int] = {}
        for known in self.gateways.values():
            for node, budget in known.beat.budgets.items():
                found[node] = min(budget, found.get(node, budget))
        return found


def step(books: Books, event: Event) -> tuple[Books, tuple[Order, ...]]:
    """Take note of *event*, and say what is to be done about it."""
    match event:
        case Heard(at_s=at_s, beat=beat):
            return _heard(books, beat, at_s)
        case Looked(at_s=at_s, rolls=rolls):
            return _looked(books, rolls, at_s)
        case Left(at_s=at_s, gateway=gateway):
            later = replace(
                books,
                gateways=_without(books.gateways, gateway),
                awaited=books.awaited - {gateway},
            )
            return later, () if later.gateways else (Finish(),)
    assert_never(event)


def standing(books: Books, at_s: float) -> Standing:
    """All of it, for people to read."""
    budgets = books.budgets()
    everybody = sorted({*books.gateways, *books.leased})
    hosts = sorted(books.hosts.items())
    return Standing(
        gathered=books.gathered,
        nodes=tuple(
            NodeRow(
                id=node,
                budget_bytes=budgets[node],
                held_bytes=sum(books.bound(name).get(node, 0) for name in everybody),
            )
            for node in sorted(budgets)
        ),
        gateways=tuple(
            GatewayRow(id=name, address=known.beat.address, heard_ago_s=max(0.0, at_s - known.at_s))
            for name, known in sorted(books.gateways.items())
        ),
        shares=tuple(
            ShareRow(
                gateway=name,
                node=node,
                used_bytes=need.used_bytes,
                idle_bytes=need.idle_bytes,
                held_bytes=held,
            )
            for name, known in sorted(books.gateways.items())
            for node, held in sorted(known.bound.items())
            for need in (known.beat.needs.get(node, _NOTHING),)
        ),
        hosts=tuple(_host(name, roll) for name, roll in hosts),
        instances=tuple(
            InstanceRow(
                name=each.name, host=name, gateway=each.gateway, private_bytes=each.private_bytes
            )
            for name, roll in hosts
            for each in roll.instances
        ),
    )


def _host(name: str, roll: Roll) -> HostRow:
    return HostRow(
        name=name,
        node=roll.node,
        kind=roll.kind,
        pid=roll.process.pid,
        gateways=tuple(sorted({lease.gateway for lease in roll.leases})),
    )


def _heard(books: Books, beat: Beat, at_s: float) -> tuple[Books, tuple[Order, ...]]:
    me = beat.gateway
    known = Known(at_s=at_s, beat=beat, bound={})
    books = replace(
        books, gateways={**books.gateways, me: known}, awaited=books.awaited - {me}, quiet_s=None
    )
    books = _bind(books, me, {})
    if not books.gathered:
        return books, (Grant(shares=beat.holds),)
    shares, budgets = _shares(books, me), books.budgets()
    others = {*books.gateways, *books.leased} - {me}
    for node, share in shares.items():
        taken = sum(books.bound(name).get(node, 0) for name in others)
        shares[node] = max(0, min(share, budgets[node] - taken))
    return _bind(books, me, shares), (Grant(shares=shares),)


def _bind(books: Books, gateway: str, shares: Mapping[str, int]) -> Books:
    """It may believe to hold what it is told, and what it said before."""
    known = books.gateways[gateway]
    holds, needs = known.beat.holds, known.beat.needs
    bound = {
        node: max(shares.get(node, 0), holds.get(node, 0), needs.get(node, _NOTHING).used_bytes)
        for node in {*shares, *holds, *needs}
    }
    return replace(books, gateways={**books.gateways, gateway: replace(known, bound=bound)})


def _shares(books: Books, gateway: str) -> dict[str, int]:
    """What a gateway should have of each node where it has a host."""
    budgets, beats = books.budgets(), [known.beat for known in books.gateways.values()]
    busy = {
        (beat.gateway, node): max(0, need.used_bytes - need.idle_bytes)
        for beat in beats
        for node, need in beat.needs.items()
    }
    waits = _placed(beats, budgets, busy)
    found = {}
    for node in next(beat for beat in beats if beat.gateway == gateway).budgets:
        claims = {
            beat.gateway: Claim(
                busy=busy.get((beat.gateway, node), 0),
                waits=waits.get((beat.gateway, node), 0),
                idle=beat.needs.get(node, _NOTHING).idle_bytes,
            )
            for beat in beats
            if node in beat.budgets or node in beat.needs
        }
        found[node] = divide(budgets[node], claims)[gateway]
    return found


def _placed(
    beats: Iterable[Beat], budgets: Mapping[str, int], busy: Mapping[tuple[str, str], int]
) -> dict[tuple[str, str], int]:
    """Which node each gateway's waiting starts are meant for: the one with most that is not busy.

    They would do with any.
    """
    room = {
        node: budget - sum(bytes_ for (_, at), bytes_ in busy.items() if at == node)
        for node, budget in budgets.items()
    }
    placed = {}
    for beat in sorted(beats, key=lambda beat: beat.gateway):
        if not beat.waits_bytes or not beat.budgets:
            continue
        node = max(sorted(beat.budgets), key=lambda name: room[name])
        placed[beat.gateway, node] = beat.waits_bytes
        room[node] -= beat.waits_bytes
    return placed


def _looked(
    books: Books, rolls: Mapping[str, Roll | None], at_s: float
) -> tuple[Books, tuple[Order, ...]]:
    hosts = {
        name: now
        for name, roll in rolls.items()
        if (now := roll or books.hosts.get(name)) is not None
    }
    named = {lease.gateway for roll in hosts.values() for lease in roll.leases}
    gone = [
        name
        for name, known in books.gateways.items()
        if at_s - known.at_s > LAPSE_S and name not in named
    ]
    awaited = books.awaited if books.looked else frozenset(named - set(books.gateways))
    awaited &= named
    if at_s - books.began_s > LAPSE_S:
        awaited = frozenset()
    gateways = {name: known for name, known in books.gateways.items() if name not in gone}
    quiet_s = None
    if not gateways and not named:
        quiet_s = at_s if books.quiet_s is None else books.quiet_s
    blind = any(roll is None and name not in hosts for name, roll in rolls.items())
    looked = books.looked or not blind or at_s - books.began_s > LAPSE_S
    later = replace(
        books, looked=looked, awaited=awaited, gateways=gateways, hosts=hosts, quiet_s=quiet_s
    )
    orders: list[Order] = [Forgotten(gateway=name) for name in gone]
    if quiet_s is not None and at_s - quiet_s > _LONELY_S:
        orders.append(Finish())
    return later, tuple(orders)


def _without(gateways: Mapping[str, Known], gone: str) -> dict[str, Known]:
    return {name: known for name, known in gateways.items() if name != gone}
