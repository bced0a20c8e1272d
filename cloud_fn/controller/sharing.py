"""How a node's memory is divided among gateways. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one gateway has or wants on a node, in bytes.

    ``busy`` are instances that run requests or start, ``waits`` what starts lack for which requests
    may wait, and ``idle`` instances that could be ended.
    """

    busy: int = 0
    waits: int = 0
    idle: int = 0


def divide(budget_bytes: int, claims: Mapping[str, Claim]) -> dict[str, int]:
    """Each gateway's share of a node; together they are the budget, or less than it by rounding.

    What is busy comes first, for it cannot be taken away; then what requests wait for; then what
    idles, which may be asked for again; and the rest in equal parts, for the next request may come
    to any of them, and one that has room need not ask. Where there is not enough for one of these,
    the smallest claims are met first (max-min fairness), so that no gateway can starve another by
    claiming more. The exception: where the busy ones alone exceed a budget that was lowered, each
    keeps what it has.
    """
    shares = {name: claim.busy for name, claim in claims.items()}
    left = max(0, budget_bytes - sum(shares.values()))
    for wanted in (
        {name: claim.waits for name, claim in claims.items()},
        {name: claim.idle for name, claim in claims.items()},
        dict.fromkeys(claims, left),
    ):
        for name, given in fill(left, wanted).items():
            shares[name] += given
            left -= given
    return shares


def fill(room: int, wanted: Mapping[str, int]) -> dict[str, int]:
    """Give from *room* what is *wanted*, the smallest first, and equal parts where it is short."""
    given = {}
    names = sorted(wanted, key=lambda name: (wanted[name], name))
    for number, name in enumerate(names):
        given[name] = min(wanted[name], room // (len(names) - number))
        room -= given[name]
    return given
