"""Figures with their units, as people write them on a command line."""

import math
import re
from collections.abc import Mapping

from planner.errors import PlannerError

SECONDS: Mapping[str, float] = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
BYTES: Mapping[str, float] = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20}
JOULES: Mapping[str, float] = {"mJ": 1e-3, "J": 1.0}
WATTS: Mapping[str, float] = {"mW": 1e-3, "W": 1.0}

_FORM = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([A-Za-z]+)\s*")


def quantity(text: str, units: Mapping[str, float], what: str) -> float:
    """Read a number above 0 with one of *units*.

    Raises:
        PlannerError: the text is none; the message says how it is written.
    """
    found = _FORM.fullmatch(text)
    if found is not None and found[2] in units:
        value = float(found[1]) * units[found[2]]
        if 0 < value < math.inf:
            return value
    raise PlannerError(
        f"{text[:40]!r} is no {what} above 0: write a number and one of {', '.join(units)}, "
        f"such as 100{list(units)[1]}"
    )
