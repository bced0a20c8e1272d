"""Requests and their answers on disk, in SQLite. Synchronous; used from one thread.

Every commit is on the disk when it returns (WAL, synchronous=FULL). What a client sent is bound as
a value, never written into a statement or a path.
"""

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from edge_agent.errors import OutboxError
from edge_agent.packets import Message, Publication

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS entry (
    key TEXT PRIMARY KEY,
    accepted_unix_s REAL NOT NULL,
    starts INTEGER NOT NULL DEFAULT 0,
    settled_unix_s REAL,
    head BLOB NOT NULL,
    body BLOB NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
"""


class _RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    topic: str
    content_type: str
    response_topic: str | None
    correlation: bytes | None
    user: tuple[tuple[str, str], ...]


class _AnswerHead(msgspec.Struct, frozen=True, kw_only=True):
    topic: str
    content_type: str
    correlation: bytes | None
    user: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry without its contents; *settled_unix_s* is None while no answer is there.

    *starts* counts the starts of an agent that found it without an answer.
    """

    key: str
    nbytes: int
    accepted_unix_s: float
    settled_unix_s: float | None
    starts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much is in a journal."""

    pending: int
    settled: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """An entry's answer, which takes the place of its request."""

    key: str
    answer: Publication
    unix_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Answers to be kept, then entries to be deleted."""

    settle: tuple[Settlement, ...] = ()
    forget: tuple[str, ...] = ()


NO_CHANGES = Changes()


class Journal:
    """An open journal; :meth:`open` makes one."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database = database
        self._path = path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the journal at *path*, new if need be.

        A file that is corrupt or of another version is moved aside, said so and replaced: what it
        held is lost, but the device goes on.

        Raises:
            OutboxError: the file can't be made or opened at all.
        """
        try:
            return cls(_opened(path), path)
        except sqlite3.OperationalError as error:
            raise OutboxError(f"the outbox {path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            aside = _move_aside(path)
            log.error("outbox corrupt: moved_to=%s reason=%s", aside, error)
        try:
            return cls(_opened(path), path)
        except sqlite3.Error as error:
            raise OutboxError(f"the outbox {path} cannot be made: {error}") from error

    def accept(self, key: str, message: Message, changes: Changes = NO_CHANGES) -> None:
        """Have the request on disk, and *changes* with it.

        Raises:
            OutboxError: it could not be written.
        """
        head = _RequestHead(
            topic=message.topic,
            content_type=message.content_type,
            response_topic=message.response_topic,
            correlation=message.correlation,
            user=message.user,
        )
        values = (key, time.time(), msgspec.json.encode(head), message.payload)
        with self._transaction() as database:
            _change(database, changes)
            database.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, 0, NULL, ?, ?)", values)

    def change(self, changes: Changes) -> None:
        """Make *changes*, all or none.

        Raises:
            OutboxError: they could not be written.
        """
        with self._transaction() as database:
            _change(database, changes)

    def answer(self, key: str) -> Publication | None:
        """Give the answer of a settled entry."""
        row = self._one(
            "SELECT head, body FROM entry WHERE key = ? AND settled_unix_s NOTNULL", key
        )
        if row is None:
            return None
        head = msgspec.json.decode(row[0], type=_AnswerHead)
        return Publication(
            topic=head.topic,
            payload=row[1],
            content_type=head.content_type,
            correlation=head.correlation,
            user=head.user,
        )

    def request(self, key: str) -> Message | None:
        """Give the request of a pending entry."""
        row = self._one("SELECT head, body FROM entry WHERE key = ? AND settled_unix_s ISNULL", key)
        if row is None:
            return None
        head = msgspec.json.decode(row[0], type=_RequestHead)
        return Message(
            topic=head.topic,
            payload=row[1],
            content_type=head.content_type,
            response_topic=head.response_topic,
            correlation=head.correlation,
            user=head.user,
        )

    def begin(self) -> tuple[Line, ...]:
        """Count a start for every entry without an answer, and give all entries, oldest first.

        Raises:
            OutboxError: the journal can't be read or written.
        """
        with self._transaction() as database:
            database.execute("UPDATE entry SET starts = starts + 1 WHERE settled_unix_s ISNULL")
            rows = database.execute(
                "SELECT key, length(body), accepted_unix_s, settled_unix_s, starts FROM entry"
                " ORDER BY accepted_unix_s"
            ).fetchall()
        return tuple(
            Line(
                key=row[0],
                nbytes=row[1],
                accepted_unix_s=row[2],
                settled_unix_s=row[3],
                starts=row[4],
            )
            for row in rows
        )

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        self._database.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _as_outbox_error(self._path):
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:  # commits, or rolls back
                yield self._database

    def _one(self, statement: str, key: str) -> tuple[bytes, bytes] | None:
        with _as_outbox_error(self._path):
            row: tuple[bytes, bytes] | None = self._database.execute(statement, (key,)).fetchone()
            return row


def count(path: Path) -> Counts | None:
    """Look into the journal of an agent that may be running; None where there is none.

    Raises:
        OutboxError: the file is there but can't be read.
    """
    if not path.is_file():
        return None
    with (
        _as_outbox_error(path),
        contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        pending, settled, nbytes = db.execute(
            "SELECT count(*) - count(settled_unix_s), count(settled_unix_s),"
            " total(length(body)) FROM entry"
        ).fetchone()
    return Counts(pending=pending, settled=settled, nbytes=int(nbytes))


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        _check(database)
        database.executescript(_SCHEMA)
    except BaseException:
        database.close()
        raise
    return database


def _check(database: sqlite3.Connection) -> None:
    verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version not in {0, SCHEMA_VERSION}:
        raise sqlite3.DatabaseError(f"it is of version {version}, not {SCHEMA_VERSION}")


def _change(database: sqlite3.Connection, changes: Changes) -> None:
    for each in changes.settle:
        answer = each.answer
        head = _AnswerHead(
            topic=answer.topic,
            content_type=answer.content_type,
            correlation=answer.correlation,
            user=answer.user,
        )
        database.execute(
            "UPDATE entry SET settled_unix_s = ?, head = ?, body = ? WHERE key = ?",
            (each.unix_s, msgspec.json.encode(head), answer.payload, each.key),
        )
    for key in changes.forget:
        database.execute("DELETE FROM entry WHERE key = ?", (key,))


def _move_aside(path: Path) -> Path:
    """Keep the latest bad file only, so that a failing disk does not fill itself."""
    aside = path.with_name(f"{path.name}.corrupt")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside


@contextlib.contextmanager
def _as_outbox_error(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutboxError(f"the outbox {path} failed: {error}") from error
