"""What a benchmark was to reach, and whether it did."""

from typing import Literal

import msgspec
from rich.console import Console

WIDTH = 150


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A figure beside what it should be: at most or at least ``target``, as the name says."""

    name: str
    value: float
    unit: str
    target: float
    met: bool


def target(
    name: str, value: float, which: Literal["at most", "at least"], bound: float, unit: str = "x"
) -> Target:
    """*value* against *bound*."""
    met = value <= bound if which == "at most" else value >= bound
    return Target(name=f"{name}, {which}", value=round(value, 4), unit=unit, target=bound, met=met)


def at_most(name: str, value: float, bound: float, unit: str = "") -> Target:
    return target(name, value, "at most", bound, unit)


def at_least(name: str, value: float, bound: float, unit: str = "") -> Target:
    return target(name, value, "at least", bound, unit)


def show_targets(console: Console, targets: tuple[Target, ...]) -> None:
    """One line each."""
    for each in targets:
        met = "met" if each.met else "MISSED"
        console.print(f"{each.name} {each.target:g}{each.unit}: {each.value:.4g}{each.unit} {met}")


def console() -> Console:
    """For stdout, as wide as the tables need where it is no terminal."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)
