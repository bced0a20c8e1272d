"""What was accepted and not yet answered, and the answers of the last five minutes.

A request is on disk before the broker is told that we have it. Its key is the requester's
correlation id; the same request again gets the same answer and is not run twice. After a crash what
is pending is run again. The size is bounded: the oldest answers make room for new requests, and
where pending ones alone fill it, new ones are refused.

Answers are written with the next request, or a tenth of a second later: that halves the commits. A
crash in between has a request run and answered twice, as one before the answer would.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from edge_agent.errors import OutboxFull
from edge_agent.journal import Changes, Journal, Line, Settlement
from edge_agent.packets import Message, Publication
from edge_agent.worker import Worker

log = logging.getLogger(__name__)

WINDOW_S = 300.0
"""How long an answer is kept for a duplicate of its request."""

ENTRY_BYTES = 512
"""Counted for an entry besides its payload."""

SETTLE_WITHIN_S = 0.1
STOP_LIMIT_S = 5.0


class Known(Enum):
    """What the outbox knows of a key."""

    NOTHING = "nothing"
    PENDING = "pending"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A request that was accepted before a crash and has no answer; *age_s* since then.

    It is found so for the *starts*-th time.
    """

    key: str
    message: Message
    age_s: float
    starts: int = 1


@dataclass(slots=True)
class _Entry:
    nbytes: int
    settled_unix_s: float | None = None


class Outbox:
    """The journal, its index in memory, and the thread that writes it.

    *now* is the wall clock, which goes on while the agent is down.
    """

    def __init__(self, path: Path, *, max_bytes: int, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._now = now
        self._disk = Worker("agent.disk")
        self._journal: Journal | None = None
        self._index: dict[str, _Entry] = {}
        self._nbytes = 0
        self._unwritten: dict[str, Settlement] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> tuple[Pending, ...]:
        """Open the journal, and give what a crash left behind, the oldest first.

        Raises:
            OutboxError: it can't be opened.
        """
        self._disk.start()
        self._journal = journal = await self._disk.call(lambda: Journal.open(self._path))
        lines = await self._disk.call(journal.begin)
        for line in lines:
            self._note(line)
        await self._forget(tuple(k for k, entry in self._index.items() if self._is_old(entry)))
        pending = []
        for line in lines:
            if line.settled_unix_s is None:
                message = await self._disk.call(partial(journal.request, line.key))
                if message is not None:
                    age_s = max(0.0, self._now() - line.accepted_unix_s)
                    pending.append(
                        Pending(key=line.key, message=message, age_s=age_s, starts=line.starts)
                    )
        return tuple(pending)

    def known(self, key: str) -> Known:
        """Look a key up."""
        entry = self._index.get(key)
        if entry is None or self._is_old(entry):
            return Known.NOTHING
        return Known.PENDING if entry.settled_unix_s is None else Known.ANSWERED

    def accept(self, key: str, message: Message, done: Callable[[Exception | None], None]) -> None:
        """Take a request in at once; *done* is called when it is on disk, or with OutboxError.

        Raises:
            OutboxFull: there is no room.
        """
        size = len(message.payload) + ENTRY_BYTES
        stale = self._make_room(size)
        self._index[key] = _Entry(size)
        self._nbytes += size
        changes = self._changes(forget=stale)
        self._disk.submit(
            partial(self._opened.accept, key, message, changes), lambda _none, error: done(error)
        )

    def settle(self, key: str, answer: Publication) -> None:
        """Keep the answer instead of the request."""
        size, now = len(answer.payload) + ENTRY_BYTES, self._now()
        entry = self._index.pop(key)
        self._nbytes += size - entry.nbytes
        self._index[key] = _Entry(size, now)  # at the end: the oldest answer comes first
        self._unwritten[key] = Settlement(key=key, answer=answer, unix_s=now)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SETTLE_WITHIN_S, self._write_answers)

    async def answer(self, key: str) -> Publication | None:
        """Give the answer kept under *key*.

        Raises:
            OutboxError: it can't be read.
        """
        if (unwritten := self._unwritten.get(key)) is not None:
            return unwritten.answer
        return await self._disk.call(partial(self._opened.answer, key))

    async def drop(self, key: str) -> None:
        """Forget an entry.

        Raises:
            OutboxError: the journal can't be written.
        """
        await self._forget((key,))

    async def close(self) -> None:
        """Finish writing and close the journal."""
        if self._journal is not None:
            self._write_answers()
            self._disk.submit(self._journal.close, _log_failure)
        await self._disk.stop(STOP_LIMIT_S)

    @property
    def _opened(self) -> Journal:
        assert self._journal is not None
        return self._journal

    def _note(self, line: Line) -> None:
        size = line.nbytes + ENTRY_BYTES
        self._index[line.key] = _Entry(size, line.settled_unix_s)
        self._nbytes += size

    def _is_old(self, entry: _Entry) -> bool:
        settled = entry.settled_unix_s
        return settled is not None and self._now() - settled > WINDOW_S

    def _make_room(self, size: int) -> tuple[str, ...]:
        """Drop old answers from the index, and further ones as far as *size* needs it."""
        stale = []
        needed = self._nbytes + size - self._max_bytes
        for key, entry in self._index.items():
            if entry.settled_unix_s is None:
                continue
            if needed <= 0 and not self._is_old(entry):
                break  # answers are in the order of their time
            stale.append(key)
            needed -= entry.nbytes
        if needed > 0:
            raise OutboxFull(
                f"the outbox holds {self._nbytes} bytes that are not answered yet and may hold "
                f"{self._max_bytes}: try again later"
            )
        for key in stale:
            self._nbytes -= self._index.pop(key).nbytes
        return tuple(stale)

    def _changes(self, *, forget: tuple[str, ...] = ()) -> Changes:
        """Take what is to be written, with *forget*."""
        settle, self._unwritten = tuple(self._unwritten.values()), {}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return Changes(settle=settle, forget=forget)

    def _write_answers(self) -> None:
        changes = self._changes()
        if changes.settle:
            self._disk.submit(partial(self._opened.change, changes), _log_failure)

    async def _forget(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            self._nbytes -= self._index.pop(key).nbytes
        if keys:
            await self._disk.call(partial(self._opened.change, Changes(forget=keys)))


def _log_failure(_none: None, error: Exception | None) -> None:
    if error is not None:
        log.error("outbox not written: reason=%s", error)
