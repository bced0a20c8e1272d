"""Which cuts of a function devices may follow, and which an instance has the tails of. Pure.

A cut is written by its boundary tensors, in order of name. What is remembered is bounded, and what
was named longest ago goes first: an instance keeps no more pieces than that either.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from cloud_fn.errors import InvalidRequest
from protos.deployments import MAX_CUTS, MAX_NAME_CHARS, MAX_TENSORS

Cut: TypeAlias = tuple[str, ...]


def cut_of(tensors: Iterable[str]) -> Cut:
    """The cut that these boundary tensors write, in whatever order they come.

    Raises:
        InvalidRequest: there are none or too many, or a name is empty or too long.
    """
    names = tuple(sorted(set(tensors)))
    if not 1 <= len(names) <= MAX_TENSORS:
        raise InvalidRequest(
            f"a cut has {len(names)} boundary tensors: name 1 to {MAX_TENSORS} of them"
        )
    for name in names:
        if not 1 <= len(name) <= MAX_NAME_CHARS:
            raise InvalidRequest(
                f"a boundary tensor's name has {len(name)} characters: use 1 to {MAX_NAME_CHARS}"
            )
    return names


def cuts_of(many: Iterable[Iterable[str]]) -> tuple[Cut, ...]:
    """The cuts of one deployment, each once.

    Raises:
        InvalidRequest: as :func:`cut_of`, or there are too many.
    """
    cuts = tuple(dict.fromkeys(map(cut_of, many)))
    if len(cuts) > MAX_CUTS:
        raise InvalidRequest(f"{len(cuts)} cuts are to be deployed: send at most {MAX_CUTS}")
    return cuts


@dataclass(slots=True, eq=False)
class Known:
    """The last MAX_CUTS cuts, the one named last at the end."""

    _cuts: dict[Cut, None] = field(default_factory=dict)

    def name(self, cut: Cut) -> None:
        """Remember *cut*, at the expense of the one named longest ago."""
        self._cuts.pop(cut, None)
        self._cuts[cut] = None
        if len(self._cuts) > MAX_CUTS:
            del self._cuts[next(iter(self._cuts))]

    def __contains__(self, cut: Cut) -> bool:
        return cut in self._cuts

    def __bool__(self) -> bool:
        return bool(self._cuts)

    def all(self) -> tuple[Cut, ...]:
        return tuple(self._cuts)


@dataclass(slots=True, eq=False)
class Deployed:
    """What devices have said of one function, and which of it no instance could load, and why."""

    cuts: Known = field(default_factory=Known)
    refused: dict[Cut, str] = field(default_factory=dict)

    def deploy(self, cuts: Iterable[Cut]) -> None:
        """Take in a deployment. What failed before is not tried again for it."""
        for cut in cuts:
            self.cuts.name(cut)
        self.refused = {cut: why for cut, why in self.refused.items() if cut in self.cuts}

    def refuse(self, cut: Cut, why: str) -> None:
        """An instance could not load the tail after *cut*: no other is asked to."""
        if cut in self.cuts:
            self.refused[cut] = why

    def missing(self, warm: Known) -> tuple[Cut, ...]:
        """What is still to be loaded where *warm* is there; the oldest first."""
        if not self.cuts:
            return ()
        return tuple(c for c in self.cuts.all() if c not in warm and c not in self.refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutsReport:
    """The cuts whose tails are in every instance that runs, and those that none could load."""

    warm: tuple[Cut, ...] = ()
    refused: Mapping[Cut, str] = field(default_factory=dict)
