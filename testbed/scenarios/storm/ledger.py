"""What became of each call. Pure: no clock, no socket."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from protos.timing import Timing

Kind = Literal["right", "wrong", "refused", "unclear"]

VAGUE = frozenset({"the server failed: its log says why", "unknown error", ""})
"""Sentences that do not tell a caller what happened."""

VAGUE_STATUSES = frozenset({"UNKNOWN", "CANCELLED", "UNIMPLEMENTED", "DATA_LOSS"})
"""What gRPC says where the server's code has said nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One outcome of one call. ``timing`` is None where there was no answer.

    ``reason`` is a refusal's status and sentence without names and numbers, so that equal ones can
    be counted, or what is wrong with an answer.
    """

    kind: Kind
    total_s: float
    reason: str = ""
    cold: bool = False
    timing: Timing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """The ledger at its end: *outcomes* of each function, and calls that had none, or several.

    ``strays`` are outcomes of calls that nobody made.
    """

    outcomes: Mapping[int, Sequence[Outcome]]
    lost: Mapping[int, int]
    doubled: Mapping[int, int]
    strays: int


@dataclass(slots=True)
class Ledger:
    """Takes down every call and every outcome; each call must have exactly one."""

    _asked: dict[str, int] = field(default_factory=dict)
    _outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    _strays: int = 0
    _waiting: int = 0

    def ask(self, id_: str, function: int) -> None:
        """Take a call down.

        Raises:
            ValueError: the id was used before.
        """
        if id_ in self._asked:
            raise ValueError(f"id {id_} was used before")
        self._asked[id_] = function
        self._outcomes[id_] = []
        self._waiting += 1

    def settle(self, id_: str, outcome: Outcome) -> None:
        """Take an outcome down, whoever it is for."""
        if id_ not in self._outcomes:
            self._strays += 1
            return
        self._waiting -= not self._outcomes[id_]
        self._outcomes[id_].append(outcome)

    @property
    def waiting(self) -> int:
        """How many calls have no outcome yet."""
        return self._waiting

    def tally(self) -> Counter[str]:
        """How many first outcomes of each kind there are so far, and how many calls: ``asked``."""
        kinds = Counter[str](each[0].kind for each in self._outcomes.values() if each)
        kinds["asked"] = len(self._asked)
        return kinds

    def close(self) -> Books:
        """Balance: the first outcome of each call counts, a second is one too many."""
        outcomes: dict[int, list[Outcome]] = {}
        lost, doubled = Counter[int](), Counter[int]()
        for id_, function in self._asked.items():
            found = self._outcomes[id_]
            outcomes.setdefault(function, []).extend(found[:1])
            lost[function] += not found
            doubled[function] += len(found) > 1
        return Books(outcomes=outcomes, lost=lost, doubled=doubled, strays=self._strays)


def refusal(status: str, sentence: str, total_s: float) -> Outcome:
    """A call that was told no. *status* is gRPC's name, or ``stream`` where a stream said it."""
    vague = sentence in VAGUE or status in VAGUE_STATUSES
    return Outcome(
        kind="unclear" if vague else "refused",
        total_s=total_s,
        reason=f"{status}: {general(sentence)}",
    )


def general(sentence: str) -> str:
    """*sentence* up to what to do about it, with functions and numbers made alike."""
    clause = sentence.partition(": ")[0]
    clause = re.sub(r"\b[\w.-]+:\d+\b", "FUNCTION", clause)
    return re.sub(r"\b\d+(\.\d+)?\b", "N", clause)
