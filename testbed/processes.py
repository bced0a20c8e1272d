"""Processes of ours: started with a log, waited for, and ended with all their descendants."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

import psutil

from testbed.errors import NotInstalled, ProcessDied

log = logging.getLogger(__name__)

KILLED_LIMIT_S = 5.0

T = TypeVar("T")

POLL_S = 0.02
READY_LIMIT_S = 30.0
GRACE_S = 5.0
LAST_LINE_BYTES = 8192

MARK = "_ISTHMUS_RUN"
"""An environment variable that every descendant inherits, so that one which left its process group
is found too. Its name keeps clear of the settings, which begin with ISTHMUS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A process that outlived its run."""

    pid: int
    command: str


def write_ready(path: Path, facts: Mapping[str, object]) -> None:
    """Say that this process is ready: *facts* and its pid as JSON, there at once or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"pid": os.getpid(), **facts}) + "\n")
    draft.replace(path)


class Child:
    """A running command, leader of its own process group; see :meth:`Processes.start`."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], log_path: Path, mark: str
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._process = process
        self._mark = mark

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, limit_s: float | None = None) -> int:
        """The exit code, negative for a signal.

        Raises:
            TimeoutError: it still runs after *limit_s*.
        """
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self.name} still runs after {limit_s} s") from error

    def last_line(self) -> str:
        """The last line of its log that is not empty, or an empty string."""
        with self.log_path.open("rb") as file:
            file.seek(max(0, self.log_path.stat().st_size - LAST_LINE_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def wait_for(self, probe: Callable[[], T | None], limit_s: float = READY_LIMIT_S) -> T:
        """Ask *probe* until it has something other than None.

        Raises:
            ProcessDied: the process ended first, or *limit_s* passed.
        """
        deadline_s = time.monotonic() + limit_s
        while True:
            running = self.running  # before the probe, so that a last success still counts
            if (found := probe()) is not None:
                return found
            if not running:
                code = self._process.returncode
                how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
                raise ProcessDied(f"{self.name} ended with {how} before it was ready{self._said()}")
            if time.monotonic() > deadline_s:
                raise ProcessDied(f"{self.name} was not ready within {limit_s:g} s{self._said()}")
            time.sleep(POLL_S)

    def wait_ready(self, ready_file: Path, limit_s: float = READY_LIMIT_S) -> dict[str, Any]:
        """What it wrote in its ready file.

        Raises:
            ProcessDied: the process ended first, or *limit_s* passed.
        """
        return self.wait_for(lambda: _read_ready(ready_file), limit_s)

    def stop(self, grace_s: float = GRACE_S) -> int:
        """End its whole process group: SIGTERM, *grace_s* to obey, then SIGKILL.

        Returns:
            The exit code of the command itself, negative for a signal.
        """
        deadline_s = time.monotonic() + grace_s
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        while self._members() and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        if alive := self._signal(signal.SIGKILL):
            log.warning("killed: name=%s pids=%s grace_s=%g", self.name, alive, grace_s)
        code = self._process.wait()
        deadline_s = time.monotonic() + KILLED_LIMIT_S
        while self._members() and time.monotonic() < deadline_s:
            time.sleep(POLL_S)  # a kill is not yet a death on a busy machine
        return code

    def _signal(self, number: signal.Signals) -> list[int]:
        """Signal the group, if it is still ours: the number of one that is gone is used again."""
        members = self._members()
        if members or self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
        return members

    def _members(self) -> list[int]:
        return [
            leftover.pid for leftover in _marked(self._mark) if _group(leftover.pid) == self.pid
        ]

    def _said(self) -> str:
        line = self.last_line()
        return f": {line}" if line else f"; its log {self.log_path} is empty"


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


class Processes:
    """The processes of one run; as a context manager it leaves none behind.

    Not after SIGTERM either: where the program has no handler of its own, that ends it as an exit
    with status 143 does. Logs and ready files go into *folder*. Safe to use from several threads.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = uuid.uuid4().hex
        self._children: list[Child] = []
        self._lock = threading.Lock()
        self._caught = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _exit)
            self._caught = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._caught:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.stop()
        for leftover in self.left_running():
            log.warning("killed a leftover: pid=%d command=%s", leftover.pid, leftover.command)
            with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                killed = psutil.Process(leftover.pid)
                killed.kill()
                killed.wait(KILLED_LIMIT_S)  # a kill is not yet a death on a busy machine

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        """Start *argv* in a process group of its own.

        Its output goes to ``NAME.log`` in the folder. *environ* is added to ours.

        Raises:
            NotInstalled: there is no such program, or it may not be run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        log_path = self.folder / f"{name}.log"
        with self._lock, log_path.open("ab") as output:
            try:
                process = subprocess.Popen(
                    [os.fspath(word) for word in argv],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(environ or {}), MARK: self._mark},
                    cwd=cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise NotInstalled(
                    f"{argv[0]} cannot be started ({error.strerror}): install it, or put it in PATH"
                ) from error
            child = Child(name, process, log_path, self._mark)
            self._children.append(child)
        log.info("started: name=%s pid=%d log=%s", name, child.pid, log_path)
        return child

    def start_ready(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        limit_s: float = READY_LIMIT_S,
    ) -> tuple[Child, dict[str, Any]]:
        """Start one of our own long-running commands and wait until it is ready.

        ``--ready-file PATH`` is added to *argv*. Returns the child and what it wrote there.

        Raises:
            NotInstalled: see :meth:`start`.
            ProcessDied: it ended first, or *limit_s* passed; it is stopped then.
        """
        ready_file = self.folder / f"{name}.ready"
        ready_file.unlink(missing_ok=True)
        child = self.start(name, [*argv, "--ready-file", ready_file], environ=environ, cwd=cwd)
        try:
            return child, child.wait_ready(ready_file, limit_s)
        except ProcessDied:
            child.stop()
            raise

    def stop(self, grace_s: float = GRACE_S) -> None:
        """End all of them, the newest first."""
        with self._lock:
            children = tuple(reversed(self._children))
        for child in children:
            child.stop(grace_s)

    def left_running(self) -> tuple[Leftover, ...]:
        """Every process of this run that still runs, whatever group it is in by now."""
        return tuple(_marked(self._mark))


def _marked(mark: str) -> Iterator[Leftover]:
    """The living processes that inherited *mark*, by pid; the dead but uncollected are left out."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield Leftover(pid=process.pid, command=" ".join(process.cmdline()))
        except psutil.Error:
            continue  # it has just ended, or is another user's


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _read_ready(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None
