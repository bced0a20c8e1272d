"""What a benchmark aims at, and whether it got there."""

import msgspec


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A figure and its line; ``most`` says on which side of the line it should be."""

    name: str
    value: float
    unit: str
    target: float
    met: bool
    most: bool = True

    def __str__(self) -> str:
        side = "at most" if self.most else "at least"
        verdict = "met" if self.met else "MISSED"
        return f"{self.name}: {self.value:.4g} {self.unit} ({side} {self.target:g}) {verdict}"


def at_most(name: str, value: float, target: float, unit: str = "") -> Target:
    return Target(name=name, value=value, unit=unit, target=target, met=value <= target)


def at_least(name: str, value: float, target: float, unit: str = "") -> Target:
    return Target(name=name, value=value, unit=unit, target=target, met=value >= target, most=False)
