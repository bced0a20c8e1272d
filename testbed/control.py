"""The link's control socket: one JSON line a command, one JSON line an answer.

Commands, which may be combined in one line and are carried out in this order::

    {"set": {"link": "3G"}}                        a named link, figures or a trace
    {"set": {"up_bps": 1e6, "rtt_s": 0.08}}        bytes per second and seconds; the rest stays
    {"outage": true}                               or false
    {"reset": true}                                reset every open connection
    {"stats": true}                                nothing else; every answer holds the stats
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec

from planner.links import parse_link
from protos.documents import decode_json
from protos.errors import IsthmusError
from testbed.conditions import Conditions
from testbed.errors import TestbedError
from testbed.link import LinkEmulator, Stats

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 64 * 1024
ANSWER_LIMIT_S = 5.0


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New conditions; what is None stays as it is. ``link`` comes first, the figures over it."""

    link: str | None = None
    up_bps: float | None = None
    down_bps: float | None = None
    rtt_s: float | None = None
    jitter_s: float | None = None


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line to the socket."""

    set: Change | None = None
    outage: bool | None = None
    reset: bool = False
    stats: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line from the socket; ``error`` says why nothing was changed."""

    error: str | None = None
    outage: bool = False
    stats: Stats = Stats()


def changed(conditions: Conditions, command: Command) -> Conditions:
    """The conditions after *command*.

    Raises:
        LinkError: no such link.
        TestbedError: a figure is zero, negative or not finite.
    """
    if (change := command.set) is not None:
        if change.link is not None:
            conditions = replace(Conditions.of(parse_link(change.link)), outage=conditions.outage)
        try:
            conditions = replace(
                conditions,
                up=conditions.up if change.up_bps is None else change.up_bps,
                down=conditions.down if change.down_bps is None else change.down_bps,
                delay_s=conditions.delay_s if change.rtt_s is None else change.rtt_s / 2,
                jitter_s=conditions.jitter_s if change.jitter_s is None else change.jitter_s,
            )
        except ValueError as error:
            raise TestbedError(f"the link cannot be set so: {error}") from error
    if command.outage is not None:
        conditions = replace(conditions, outage=command.outage)
    return conditions


def obey(link: LinkEmulator, line: bytes) -> Answer:
    """Carry out one command line; a bad one changes nothing."""
    try:
        command = decode_json(line, Command, what="link command")
        conditions = changed(link.conditions, command)
    except IsthmusError as error:
        return Answer(error=str(error), outage=link.conditions.outage, stats=link.stats)
    if conditions != link.conditions:
        link.set(conditions)
        log.info("link changed: command=%s", line.decode().strip())
    if command.reset:
        link.reset()
    return Answer(outage=conditions.outage, stats=link.stats)


@contextlib.asynccontextmanager
async def serve_control(link: LinkEmulator, path: Path) -> AsyncIterator[None]:
    """Answer commands for *link* on the Unix socket *path*, for this user only.

    Raises:
        TestbedError: the socket cannot be made there.
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while line := await reader.readline():
                writer.write(msgspec.json.encode(obey(link, line)) + b"\n")
                await writer.drain()

    async def talk_bounded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ValueError:  # asyncio's way to say that the line is too long
            log.warning("link control dropped: a line is over %d bytes", MAX_LINE_BYTES)

    try:
        server = await asyncio.start_unix_server(talk_bounded, path, limit=MAX_LINE_BYTES)
    except OSError as error:
        raise TestbedError(
            f"the control socket {path} cannot be made ({error.strerror or error}): "
            "give a short path in a folder of yours"
        ) from error
    try:
        os.chmod(path, 0o600)  # noqa: PTH101 - a millisecond's work, not worth a thread
        yield
    finally:
        server.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108


class LinkControl:
    """A link in another process, by its control socket; each call waits for the answer.

    All raise :class:`TestbedError` when the link refuses or does not answer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self, link: str | None = None, **figures: float) -> Stats:
        """Change to a named link, figures or a trace, and single figures (see :class:`Change`)."""
        return self._ask(Command(set=Change(link=link, **figures)))

    def outage(self, *, on: bool) -> Stats:
        """Stop or restore the link."""
        return self._ask(Command(outage=on))

    def reset(self) -> Stats:
        """Reset every open connection."""
        return self._ask(Command(reset=True))

    def stats(self) -> Stats:
        return self._ask(Command(stats=True))

    def _ask(self, command: Command) -> Stats:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(ANSWER_LIMIT_S)
                sock.connect(os.fspath(self._path))
                with sock.makefile("rwb") as stream:
                    stream.write(msgspec.json.encode(command) + b"\n")
                    stream.flush()
                    line = stream.readline(MAX_LINE_BYTES)
        except OSError as error:
            raise TestbedError(
                f"the link at {self._path} does not answer ({error}): is its process running?"
            ) from error
        answer = decode_json(line, Answer, what="link answer")
        if answer.error is not None:
            raise TestbedError(answer.error)
        return answer.stats
