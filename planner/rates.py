"""What a plan's use of device, link and cloud costs: every objective and every limit adds up."""

import math
from dataclasses import dataclass
from typing import Protocol, Self


class Use(Protocol):
    """What a plan uses per request: seconds, bytes, and whether it uses the link at all."""

    @property
    def busy_s(self) -> float: ...

    @property
    def served_s(self) -> float: ...

    @property
    def upload_bytes(self) -> int: ...

    @property
    def download_bytes(self) -> int: ...

    @property
    def remote(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """A price for each thing that a plan uses; together a linear function of the plan.

    ``device`` and ``cloud`` are per second of work there (codecs included), ``up`` and ``down``
    per byte on the link, ``trip`` once for a plan that uses the link, ``stay`` once for one that
    does not. In latency the first two are 1; in energy, watts; in money, dollars a second.
    """

    device: float = 0.0
    cloud: float = 0.0
    up: float = 0.0
    down: float = 0.0
    trip: float = 0.0
    stay: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"the rate {name} must be at least 0 and finite, got {value}")

    def __add__(self, other: Self) -> "Rates":
        return Rates(**{n: getattr(self, n) + getattr(other, n) for n in self.__slots__})

    def __mul__(self, factor: float) -> "Rates":
        return Rates(**{n: getattr(self, n) * factor for n in self.__slots__})

    def of(self, use: Use) -> float:
        """What *use* costs."""
        parts = (
            self.device * use.busy_s,
            self.cloud * use.served_s,
            self.up * use.upload_bytes,
            self.down * use.download_bytes,
            self.trip if use.remote else self.stay,
        )
        return math.fsum(parts)
