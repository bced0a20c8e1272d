"""What the cloud's share of a request costs in money."""

import math
import re
from dataclasses import dataclass

from planner.errors import PlannerError
from planner.rates import Rates

_PART = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*/\s*(s|M|GB)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """US dollars per second of a function, per request, and per byte that the device sends."""

    usd_per_s: float
    usd_per_request: float
    usd_per_byte: float = 0.0

    def rates(self) -> Rates:
        return Rates(cloud=self.usd_per_s, up=self.usd_per_byte, trip=self.usd_per_request)


LAMBDA_1_GB = Tariff(usd_per_s=0.0000166667, usd_per_request=0.20e-6)
"""AWS Lambda's list price for x86 with 1 GB of memory: per second, and 0.20 dollars a million."""


def parse_tariff(text: str) -> Tariff:
    """Read ``0.0000166667/s,0.20/M,0.09/GB``: dollars a second, a million requests, a GB sent up.

    Raises:
        PlannerError: the text is none, or a price is not a number of 0 or more.
    """
    prices = {"s": 0.0, "M": 0.0, "GB": 0.0}
    for part in text.split(","):
        found = _PART.fullmatch(part)
        try:
            value = float(found[1]) if found else math.nan
        except ValueError:
            value = math.nan
        if found is None or not 0 <= value < math.inf:
            raise PlannerError(
                f"tariff {text[:60]!r} is none: write dollars as 0.0000166667/s,0.20/M,0.09/GB "
                "(a second, a million requests, a gigabyte sent)"
            )
        prices[found[2]] = value
    return Tariff(
        usd_per_s=prices["s"],
        usd_per_request=prices["M"] / 1e6,
        usd_per_byte=prices["GB"] / 1e9,
    )
