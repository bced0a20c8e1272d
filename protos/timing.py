"""The five terms of an invocation's time."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import Self

import msgspec

from protos.errors import WireError


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Where an invocation's time went, each in seconds.

    *trigger*: from receipt until an instance is chosen; *init*: until that instance runs; *load*:
    until it holds the model; *infer*: until it has the answer; *response*: until that is handed on.
    """

    trigger_s: float = 0.0
    init_s: float = 0.0
    load_s: float = 0.0
    infer_s: float = 0.0
    response_s: float = 0.0

    @property
    def wait_s(self) -> float:
        """What passed before the inference: trigger, init and load."""
        return self.trigger_s + self.init_s + self.load_s

    @property
    def total_s(self) -> float:
        """Sum of the five."""
        return self.trigger_s + self.init_s + self.load_s + self.infer_s + self.response_s

    def to_ms(self) -> dict[str, float]:
        """Give the five terms in ms, to the microsecond: ``{"trigger": 0.412, ...}``."""
        return {
            "trigger": round(self.trigger_s * 1e3, 3),
            "init": round(self.init_s * 1e3, 3),
            "load": round(self.load_s * 1e3, 3),
            "infer": round(self.infer_s * 1e3, 3),
            "response": round(self.response_s * 1e3, 3),
        }

    def to_json(self) -> str:
        """Write :meth:`to_ms` as JSON text."""
        return msgspec.json.encode(self.to_ms()).decode()

    @classmethod
    def from_ms(cls, terms: Mapping[str, object]) -> Self:
        """Read what :meth:`to_ms` gave; terms of newer versions are ignored.

        Raises:
            WireError: one of the five is missing or is no duration.
        """
        seconds: dict[str, float] = {}
        for term in TERMS:
            value = terms.get(term)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise WireError(f"timing has no number for {term!r}: send all five terms in ms")
            if not (isfinite(value) and value >= 0):
                raise WireError(f"timing says {term} took {value} ms: send a duration")
            seconds[f"{term}_s"] = value / 1e3
        return cls(**seconds)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` gave.

        Raises:
            WireError: not a JSON object, or as :meth:`from_ms`.
        """
        try:
            terms = msgspec.json.decode(text, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise WireError(f"timing is not a JSON object: {error}") from error
        return cls.from_ms(terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How a function's *requests* of the last minutes waited: what to expect of the next.

    *queue_s* is their mean wait for an instance; *cold_chance* is the share, 0 to 1, that had to
    have an instance or a piece of the model started, which took *cold_s* in the mean.
    """

    requests: int
    queue_s: float = 0.0
    cold_chance: float = 0.0
    cold_s: float = 0.0


TERMS = tuple(each.name.removesuffix("_s") for each in fields(Timing))
