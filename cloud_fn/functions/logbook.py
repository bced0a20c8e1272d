"""When each function was asked, kept by the minute: what policies are chosen from.

One document, ``arrivals.json`` below the registry's root, to which every gateway of the registry
adds what it was asked. A killed one loses a minute of that.
"""

import fcntl
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from cloud_fn.functions.scaling import Log
from protos.documents import DocumentError, read_json, write_json

log = logging.getLogger(__name__)

FILE = "arrivals.json"
MINUTE_S = 60.0
KEPT_MINUTES = 14 * 24 * 60
"""Two weeks: habits of the week are in it twice."""

MOST_FUNCTIONS = 10_000
USUAL_BYTES = 32 << 20

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Minute = Annotated[int, msgspec.Meta(ge=0)]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One function: in which minutes since 1970 it was asked, oldest first, and how often.

    ``size_bytes`` is what an instance of it was last seen to take.
    """

    minutes: tuple[tuple[_Minute, _Count], ...]
    size_bytes: _Count = USUAL_BYTES


class Arrivals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All functions, from minute ``since`` on."""

    schema: Literal["isthmus.arrivals/1"] = "isthmus.arrivals/1"
    since: _Minute
    functions: dict[str, Asked]

    def logs(self, minute: int) -> tuple[Log, ...]:
        """Each function's past as it was known at *minute*."""
        logs = []
        for asked in self.functions.values():
            at = [each for each, _ in asked.minutes if each <= minute]
            if at:
                idles = tuple(
                    (later - earlier) * MINUTE_S for earlier, later in itertools.pairwise(at)
                )
                open_s = (minute - at[-1]) * MINUTE_S
                logs.append(Log(size_bytes=asked.size_bytes, idles_s=idles, open_s=open_s))
        return tuple(logs)

    def span_s(self, minute: int) -> float:
        """How long the log is at *minute*."""
        return max(0, minute - self.since) * MINUTE_S


class Logbook:
    """Takes down requests and writes the document; safe to use from many threads."""

    def __init__(self, root: Path, *, wall: Callable[[], float] = time.time) -> None:
        """Go on with what *root* has; one that makes no sense is put aside, not overwritten.

        Args:
            root: the registry's.
            wall: seconds since 1970; it may be set back, which costs no more than some order.
        """
        self._path = root / FILE
        self._wall = wall
        self._lock = threading.Lock()
        self._minutes: dict[str, dict[int, int]] = {}
        self._fresh: dict[str, dict[int, int]] = {}  # of those, what the document lacks
        self._sizes: dict[str, int] = {}
        self._failing = False
        self._stamp: tuple[int, int, int] | None = None
        self._since = self.minute()
        self._take_over()

    def minute(self) -> int:
        """The minute that it is."""
        return max(0, int(self._wall() // MINUTE_S))

    def asked(self, name: str) -> None:
        """A request came for the function *name*."""
        minute = self.minute()
        with self._lock:
            if name not in self._minutes and len(self._minutes) >= MOST_FUNCTIONS:
                return
            for book in (self._minutes, self._fresh):
                counts = book.setdefault(name, {})
                counts[minute] = counts.get(minute, 0) + 1

    def arrivals(self) -> Arrivals:
        """All that is known, without what is older than two weeks."""
        oldest = self.minute() - KEPT_MINUTES
        with self._lock:
            for name in list(self._minutes):
                kept = {at: count for at, count in self._minutes[name].items() if at >= oldest}
                if kept:
                    self._minutes[name] = kept
                else:
                    del self._minutes[name]
            return Arrivals(
                since=max(self._since, oldest, 0),
                functions={
                    name: Asked(
                        minutes=tuple(sorted(counts.items())),
                        size_bytes=self._sizes.get(name, USUAL_BYTES),
                    )
                    for name, counts in self._minutes.items()
                },
            )

    def save(self, sizes: Mapping[str, int]) -> None:
        """Write the document if anything is new; a disk that takes nothing is told of once.

        Args:
            sizes: what instances were last seen to take, by function, in bytes.
        """
        with self._lock:
            self._sizes.update(sizes)
            if not self._fresh:
                return
            fresh, self._fresh = self._fresh, {}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._take_in_others(fresh)
                write_json(self._path, self.arrivals())
                self._stamp = _stamp(self._path)
        except OSError as error:
            if not self._failing:
                log.error("arrivals not kept: file=%s error=%s", self._path, error.strerror)
            with self._lock:
                _add(self._fresh, fresh)
                self._failing = True
        else:
            self._failing = False

    def _take_in_others(self, fresh: Mapping[str, Mapping[int, int]]) -> None:
        """Begin with what others have written since, and add what is *fresh*, and fresher still."""
        if (now := _stamp(self._path)) is None or now == self._stamp:
            return
        try:
            found = read_arrivals(self._path)
        except (FileNotFoundError, DocumentError):
            return
        minutes = {name: dict(asked.minutes) for name, asked in found.functions.items()}
        with self._lock:
            for book in (fresh, self._fresh):
                _add(minutes, book)
            self._minutes = minutes
            self._since = min(self._since, found.since)
            for name, asked in found.functions.items():
                self._sizes.setdefault(name, asked.size_bytes)

    def _take_over(self) -> None:
        stamp = _stamp(self._path)
        try:
            found = read_arrivals(self._path)
        except FileNotFoundError:
            return
        except DocumentError as error:
            aside = self._path.with_suffix(".broken.json")
            log.error("arrivals begun anew, the old ones are in %s: error=%s", aside, error)
            self._path.replace(aside)
            return
        self._since = min(self._since, found.since)
        self._stamp = stamp
        for name, asked in found.functions.items():
            self._minutes[name] = dict(asked.minutes)
            self._sizes[name] = asked.size_bytes


def _add(to: dict[str, dict[int, int]], more: Mapping[str, Mapping[int, int]]) -> None:
    for name, counts in more.items():
        kept = to.setdefault(name, {})
        for minute, count in counts.items():
            kept[minute] = kept.get(minute, 0) + count


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def read_arrivals(path: Path) -> Arrivals:
    """Read the document.

    Raises:
        FileNotFoundError: there is none.
        DocumentError: it cannot be read or makes no sense.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    return read_json(path, Arrivals, what="log of arrivals")
