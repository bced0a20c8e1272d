"""Logs of functions: when each was asked, in the form of the Azure Functions trace of 2019."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cloud_fn.errors import CloudError
from cloud_fn.functions.logbook import FILE, read_arrivals

MINUTE_S = 60.0
DEFAULT_BYTES = 170_000_000
"""Where a trace does not say what its instances take: the median application of the Azure Functions
trace of 2019 (Shahrad et al., ATC 2020, figure 8)."""

_KEYS = ("HashOwner", "HashApp", "HashFunction")
_MEMORY = "AverageAllocatedMb"

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class TraceError(CloudError):
    """A trace that cannot be read, or that says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """When functions were asked, over ``span_s``; execution takes no time.

    ``at_s`` holds all moments, function after function and within one in order, and ``of`` says of
    which function each is, and ``counts`` how many invocations it stands for: those of one minute
    are one moment. ``sizes_bytes`` has one entry for each function.
    """

    name: str
    sizes_bytes: Floats
    at_s: Floats
    of: Ints
    counts: Ints
    span_s: float

    @property
    def functions(self) -> int:
        return len(self.sizes_bytes)

    @property
    def invocations(self) -> Ints:
        """Of each function."""
        total: Ints = np.bincount(self.of, weights=self.counts, minlength=self.functions).astype(
            np.int64
        )
        return total

    @property
    def last(self) -> npt.NDArray[np.bool_]:
        """Which moments are their function's last."""
        last = np.ones(len(self.of), dtype=bool)
        last[:-1] = self.of[1:] != self.of[:-1]
        return last

    @property
    def lasted_s(self) -> Floats:
        """How long it was idle after each moment: to the next, or to the end of the trace."""
        following = np.append(self.at_s[1:], self.span_s)
        lasted: Floats = np.where(self.last, self.span_s, following) - self.at_s
        return lasted

    def all_alike(self) -> "Trace":
        """The same with instances that all take the mean of the sizes."""
        same = np.full(self.functions, float(self.sizes_bytes.mean()))
        return replace(self, sizes_bytes=same)

    def before(self, now_s: float) -> "Trace":
        """The part of it before *now_s*, with all its functions."""
        kept = self.at_s < now_s
        return replace(
            self, at_s=self.at_s[kept], of=self.of[kept], counts=self.counts[kept], span_s=now_s
        )

    def spread(self, seed: int) -> "Trace":
        """The same with each minute's invocations somewhere within it.

        They are drawn evenly. Of those of one minute the first and the last are kept: between them
        no policy unloads.
        """
        rng = np.random.default_rng(seed)
        drawn = rng.uniform(0, MINUTE_S, (len(self.at_s), 2))
        first, last = drawn.min(axis=1), drawn.max(axis=1)
        many = self.counts > 1
        kept = np.stack((np.ones_like(many), many), axis=1).ravel()
        at_s = self.at_s[:, None] + np.stack((np.where(many, first, drawn[:, 0]), last), axis=1)
        counts = np.stack((np.ones_like(self.counts), self.counts - 1), axis=1)
        return replace(
            self,
            name=f"{self.name}, within minutes",
            at_s=at_s.ravel()[kept],
            of=np.repeat(self.of, 2)[kept],
            counts=counts.ravel()[kept],
        )


def trace_of(name: str, counts: npt.NDArray[np.int64], sizes_bytes: Sequence[float]) -> Trace:
    """A trace of *counts* of invocations, shape ``(functions, minutes)``.

    Functions that were never asked are left out.

    Raises:
        TraceError: nothing was ever asked.
    """
    asked = counts.sum(axis=1) > 0
    if not asked.any():
        raise TraceError(f"{name} holds no invocation: give a trace in which functions are asked")
    counts = counts[asked]
    of, minute = np.nonzero(counts)
    return Trace(
        name=name,
        sizes_bytes=np.asarray(sizes_bytes, dtype=float)[asked],
        at_s=minute.astype(np.float64) * MINUTE_S,
        of=of,
        counts=counts[of, minute],
        span_s=counts.shape[1] * MINUTE_S,
    )


def read_trace(path: Path) -> Trace:
    """Read ``invocations.csv``, or a folder with it and, if it is there, ``memory.csv``.

    Each line of the first is a function: its owner, application and name, what triggers it, and how
    often it was asked in each minute. The second gives the MB that it takes.

    Raises:
        TraceError: a file cannot be read or is not as it should be.
    """
    file = path / "invocations.csv" if path.is_dir() else path
    keys, counts = _counts(file)
    memory = path / "memory.csv"
    known = _memory(memory) if path.is_dir() and memory.exists() else {}
    found = [known[key] for key in keys if key in known]
    usual = float(np.mean(found)) if found else float(DEFAULT_BYTES)
    return trace_of(path.name or str(path), counts, [known.get(key, usual) for key in keys])


def own_log(root: Path) -> Trace:
    """What the gateway took down of the functions of the registry at *root*.

    Raises:
        TraceError: it took down nothing yet.
        DocumentError: its log cannot be read.
    """
    path = root / FILE
    try:
        found = read_arrivals(path)
    except FileNotFoundError as error:
        raise TraceError(
            f"there is no log at {path} yet: serve requests for a while, or give --trace"
        ) from error
    asked = [each for each in found.functions.values() if each.minutes]
    minutes = [np.array(each.minutes, dtype=np.int64) for each in asked]
    if not minutes:
        raise TraceError(f"{path} holds no invocation: serve requests first, or give --trace")
    last = max(int(each[-1, 0]) for each in minutes)
    since = min(found.since, *(int(each[0, 0]) for each in minutes))
    at = np.concatenate([each[:, 0] for each in minutes]) - since
    return Trace(
        name=str(path),
        sizes_bytes=np.array([float(each.size_bytes) for each in asked]),
        at_s=at.astype(np.float64) * MINUTE_S,
        of=np.repeat(np.arange(len(minutes)), [len(each) for each in minutes]),
        counts=np.concatenate([each[:, 1] for each in minutes]),
        span_s=(last + 1 - since) * MINUTE_S,
    )


def _counts(file: Path) -> tuple[list[tuple[str, ...]], npt.NDArray[np.int64]]:
    lines = _lines(file)
    _, head = next(lines, (1, []))
    at = [_column(file, head, name) for name in _KEYS]
    minutes = [i for i, name in enumerate(head) if name.strip().isdecimal()]
    if not minutes:
        raise TraceError(f"{file} has no column for a minute: their names are numbers, in order")
    keys: dict[tuple[str, ...], int] = {}
    rows: list[list[int]] = []
    for number, line in lines:
        if len(line) != len(head):
            raise TraceError(
                f"{file} line {number} has {len(line)} fields where its first line has {len(head)}:"
                " is it cut off?"
            )
        key = tuple(line[i] for i in at)
        if key in keys:
            raise TraceError(f"{file} line {number} is the same function as line {keys[key]}")
        keys[key] = number
        rows.append([_count(file, number, head[i], line[i]) for i in minutes])
    if not rows:
        raise TraceError(f"{file} holds no function: each is a line after the first")
    return list(keys), np.array(rows, dtype=np.int64)


def _memory(file: Path) -> dict[tuple[str, ...], float]:
    lines = _lines(file)
    _, head = next(lines, (1, []))
    at = [_column(file, head, name) for name in _KEYS]
    size_at = _column(file, head, _MEMORY)
    found: dict[tuple[str, ...], float] = {}
    for number, line in lines:
        try:
            size = float(line[size_at])
            key = tuple(line[i] for i in at)
        except (ValueError, IndexError) as error:
            raise TraceError(f"{file} line {number} has no number of MB") from error
        if not 0 < size < 1e9:
            raise TraceError(f"{file} line {number} says {line[size_at]} MB: give more than 0")
        found[key] = size * 1e6
    return found


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            yield from enumerate(csv.reader(opened, strict=True), start=1)
    except FileNotFoundError as error:
        raise TraceError(f"{file} does not exist: check the path") from error
    except OSError as error:
        raise TraceError(f"{file} cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise TraceError(f"{file} is not a CSV file: {error}") from error


def _column(file: Path, head: Sequence[str], name: str) -> int:
    try:
        return list(head).index(name)
    except ValueError as error:
        raise TraceError(f"{file} has no column {name}: name it in its first line") from error


def _count(file: Path, number: int, minute: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 12:
        raise TraceError(
            f"{file} line {number} minute {minute} says {text[:20]!r}: write how often it was "
            "asked, 0 or more"
        )
    return int(text)
