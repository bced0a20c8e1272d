"""When which function is called: a recorded trace in quick motion, or bursts that are made up.

A minute of the trace takes a second here, so that minutes of bursts and hours of silence fit into a
storm. Only the pattern is the trace's: each function's mean rate is what this machine carries.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from testbed.errors import TestbedError

Counts = npt.NDArray[np.float64]
"""Calls by function and second, shape ``(functions, seconds)``."""

NOT_MINUTES = 4
"""Columns of the trace before its minutes: owner, application, function, trigger."""

LEAST_ACTIVE, LEAST_VARIATION = 0.1, 1.0
"""A function's calls come in bursts if it has some in a tenth of the minutes, and their number
varies by as much as its mean (standard deviation over mean)."""

BURST_S, SILENCE_S = 3.0, 9.0
"""Mean lengths of what is made up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One call: *at_s* into the storm, of function number *function*, with input *variant*."""

    at_s: float
    function: int
    variant: int
    streamed: bool


def read_counts(path: Path, functions: int, seconds: float, seed: int) -> Counts:
    """Draw functions that are called in bursts from a trace, and a stretch of it.

    Args:
        path: a CSV file with one row a function and one column a minute, after four others (the
            format of the Azure Functions trace 2019, Shahrad et al., USENIX ATC 2020).
        functions: how many.
        seconds: how many minutes of it; a trace that is shorter repeats.
        seed: of the draw.

    Raises:
        TestbedError: it cannot be read, is no such trace, or has too few such functions.
    """
    minutes = _read(path)
    bins, random = math.ceil(seconds), np.random.default_rng(seed)
    first = int(random.integers(minutes.shape[1]))
    stretch = np.take(minutes, np.arange(first, first + bins), axis=1, mode="wrap")
    mean = stretch.mean(axis=1)
    active = (stretch > 0).mean(axis=1) >= LEAST_ACTIVE
    bursty = np.flatnonzero(active & (stretch.std(axis=1) >= LEAST_VARIATION * mean))
    if bursty.size < functions:
        raise TestbedError(
            f"{path} has {bursty.size} functions that are called in bursts from minute {first + 1} "
            f"on: ask for fewer than {functions}, or give another --seed"
        )
    drawn: Counts = stretch[random.permutation(bursty)[:functions]]
    return drawn


def made_up_counts(functions: int, seconds: float, seed: int) -> Counts:
    """Make up bursts and silences of exponential length, all bursts equally strong."""
    random, bins = np.random.default_rng(seed), math.ceil(seconds)
    counts = np.zeros((functions, bins))
    for row in counts:
        at_s = float(random.uniform(0, SILENCE_S))
        while at_s < bins:
            end_s = at_s + float(random.exponential(BURST_S))
            row[int(at_s) : math.ceil(end_s)] = 1.0
            at_s = end_s + float(random.exponential(SILENCE_S))
        if not row.any():
            row[int(random.integers(bins))] = 1.0
    return counts


def arrivals(
    counts: Counts, rates_per_s: Sequence[float], *, seconds: float, variants: int, seed: int
) -> tuple[Arrival, ...]:
    """Calls at random whose density follows *counts*, in order of time; half of them streamed.

    Args:
        counts: the pattern of each function; only its shape counts.
        rates_per_s: each function's mean rate over the whole storm.
        seconds: its length; nothing arrives later.
        variants: how many inputs there are to choose from.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    found = []
    for function, (row, rate_per_s) in enumerate(zip(counts, rates_per_s, strict=True)):
        expected = row / row.sum() * rate_per_s * seconds
        for second, number in enumerate(random.poisson(expected)):
            found += [
                Arrival(
                    at_s=float(at_s),
                    function=function,
                    variant=int(random.integers(variants)),
                    streamed=bool(random.integers(2)),
                )
                for at_s in second + random.uniform(0, 1, size=number)
                if at_s < seconds
            ]
    return tuple(sorted(found, key=lambda each: each.at_s))


def _read(path: Path) -> Counts:
    wrong = f"{path} is no trace: each row needs four words and the calls of each minute"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
    except OSError as error:
        raise TestbedError(f"trace {path} cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise TestbedError(wrong) from error
    try:
        minutes = np.array([row[NOT_MINUTES:] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise TestbedError(wrong) from error
    if minutes.ndim != 2 or not minutes.size or not (np.isfinite(minutes) & (minutes >= 0)).all():
        raise TestbedError(wrong)
    return minutes
