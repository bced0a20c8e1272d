"""The forked processes of a host: one loop forks, watches, feeds their limits and buries them.

The thread that runs the loop must live as long as the process: the kernel ends the fork server
together with the thread that started it.
"""

import contextlib
import logging
import os
import queue
import resource
import secrets
import selectors
import shutil
import signal
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path

from cloud_fn import processes
from cloud_fn.errors import InstanceLost
from cloud_fn.functions import prctl
from cloud_fn.functions.forks import Forks, because
from cloud_fn.functions.held import Held, of_memory
from cloud_fn.functions.host_settings import HostSettings
from cloud_fn.runtime_dir import HostFolder

log = logging.getLogger(__name__)

_LOOK_S = 0.25
_REFILL_S = 0.1
"""How long after a start a new spare is forked, lest it take the instance's first moments."""
_AFTER_FAILURE_S = 1.0
_END_S = 5.0
_COLLECTED_S = 0.005
_KEPT_FATES = 1000
_KEPT_LINES = 200
_CHUNK_BYTES = 1 << 16


class Brood:
    """:meth:`run` is the loop; the other public methods may be called from any other thread."""

    def __init__(self, settings: HostSettings) -> None:
        """Prepare; nothing is started."""
        self._files = HostFolder(Path(settings.folder))
        self._gateway = settings.gateway
        self._wanted = settings.spares
        self._forks = Forks(settings)
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = threading.Event()
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._held: dict[str, Held] = {}  # by token; guarded by _changed, as all down to the blank
        self._spares: deque[Held] = deque()
        self._waiting = 0
        self._fates: OrderedDict[str, tuple[str | None, bytes]] = OrderedDict()
        self._printed: deque[tuple[str, str, str]] = deque(maxlen=_KEPT_LINES)

        self._cleaning: queue.SimpleQueue[Held | None] = queue.SimpleQueue()
        self._trouble = ""
        self._fork_at_s = self._look_at_s = 0.0
        self._busy_since_s: float | None = None
        self._adopts = self._forked = False
        self._changes = False

    def run(self, opened: Callable[[], None] = lambda: None) -> None:
        """Keep the processes until :meth:`close`, or until the gateway is gone; then end them all.

        Args:
            opened: called once, when the first spares are there.
        """
        cleaner = threading.Thread(target=self._clean, name="host.clean", daemon=True)
        cleaner.start()
        try:
            self._open()
            while not self._closing.is_set() and len(self._spares) < self._wanted:
                self._turn()
            opened()
            while not self._closing.is_set():
                self._turn()
        finally:
            self._shut()
            self._cleaning.put(None)
            cleaner.join(_END_S)
            self._files.remove()
            self._closed.set()

    def close(self, wait_s: float = 0.0) -> None:
        """Have :meth:`run` end, and wait up to *wait_s* until it has."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._rouse()
        self._closed.wait(wait_s)

    def take(self, label: str, until_s: float, owner: str = "") -> Held:
        """A spare, named after *label* from now on; forked on demand if there is none.

        Where it has an *owner*, it is one of :meth:`owned`.

        Raises:
            InstanceLost: there was none until *until_s*, on ``time.monotonic``.
        """
        with self._changed:
            self._waiting += 1
            self._rouse()
            try:
                while not self._spares:
                    left_s = until_s - time.monotonic()
                    if self._closing.is_set() or not self._changed.wait(max(0.0, left_s)):
                        why = self._trouble or "its host does not fork fast enough"
                        raise InstanceLost(f"no instance could be started in time: {why}")
                self._fork_at_s = time.monotonic() + _REFILL_S
                self._trouble = ""
                held = self._spares.popleft()
                held.name, held.owner = f"{label}-{held.fork.token}", owner
                return held
            finally:
                self._waiting -= 1

    def find(self, name: str) -> Held | None:
        """The instance of that name, if it runs."""
        with self._changed:
            return next((held for held in self._held.values() if held.name == name), None)

    def owned(self, owner: str | None = None) -> tuple[Held, ...]:
        """The instances of one owner, or all that run."""
        with self._changed:
            return tuple(
                held for held in self._held.values() if held.name and owner in (None, held.owner)
            )

    def fate(self, name: str) -> tuple[str | None, bytes]:
        """Why an instance ended by itself, None if it did not, and the last that it printed."""
        with self._changed:
            return self._fates.get(name, (None, b""))

    def counts(self) -> tuple[int, int]:
        """How many spares there are, and how many instances."""
        with self._changed:
            return len(self._spares), sum(bool(held.name) for held in self._held.values())

    def busy_s(self) -> float:
        """For how long the loop has been at one turn."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def printed(self, owner: str = "") -> tuple[tuple[str, str], ...]:
        """Take what was printed since the last time, as pairs of who and a line.

        An *owner* is given what its own instances printed, and what is nobody's.
        """
        with self._changed:
            for held in self._held.values():
                self._gather(held)
            lines = tuple(self._printed)
            self._printed.clear()
            others = [line for line in lines if owner and line[0] not in ("", owner)]
            self._printed.extend(others)
            return tuple(line[1:] for line in lines if line not in others)

    def forget(self, owner: str) -> None:
        """Nobody asks any more for what this owner's instances printed."""
        with self._changed:
            lines = [line for line in self._printed if line[0] != owner]
            self._printed.clear()
            self._printed.extend(lines)

    def say(self, line: str) -> None:
        """Have a line of the host's own passed on with what instances print."""
        with self._changed:
            self._printed.append(("", "host", line))

    def _gather(self, held: Held) -> None:
        name = held.name or "spare"
        self._printed.extend((held.owner, name, line) for line in held.log.take())

    def _rouse(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    # What follows is the loop's alone.

    def _open(self) -> None:
        self._files.take()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # four for each process
        prctl.adopt_orphans()  # those that a fork server leaves behind which is killed
        self._selector.register(self._wake, selectors.EVENT_READ, self._woken)
        with contextlib.suppress(ProcessLookupError):
            gateway = os.pidfd_open(self._gateway.pid)
            if processes.alive(self._gateway):  # and not another of the same number
                self._selector.register(gateway, selectors.EVENT_READ, self._closing.set)
                self._start_forks()
                return
        self._closing.set()

    def _start_forks(self) -> None:
        server = self._forks.start()
        watch = os.pidfd_open(server.pid)

        def lost() -> None:
            self._selector.unregister(watch)
            os.close(watch)
            self._lost_forks()

        self._selector.register(watch, selectors.EVENT_READ, lost)
        self._forked = False
        self._changes = True

    def _lost_forks(self) -> None:
        """The kernel has killed all instances with it; nothing else may stay."""
        if not self._forked:
            raise InstanceLost(f"the fork server ended before it forked: {self._forks.fate()}")
        self.say("the fork server ended, and its instances with it: starting another")
        self._adopts = True
        self._fork_at_s, self._trouble = 0.0, ""
        for held in tuple(self._held.values()):
            self._bury(held)
        self._start_forks()

    def _turn(self) -> None:
        now_s = time.monotonic()
        self._busy_since_s = None
        events = self._selector.select(self._patience_s(now_s))
        self._busy_since_s = now_s = time.monotonic()
        for key, _ in events:
            key.data()
        if self._wants_fork(now_s):
            self._fork()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_S
            self._look()
        if self._changes:
            self._changes = False
            self._files.record(
                mark
                for mark in (self._forks.mark, *(held.fork.mark for held in self._held.values()))
                if mark is not None
            )

    def _patience_s(self, now_s: float) -> float:
        if self._wants_fork(now_s):
            return 0.0
        short = len(self._spares) < self._wanted
        until_s = min(self._look_at_s, self._fork_at_s) if short else self._look_at_s
        return max(0.0, until_s - now_s)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def _wants_fork(self, now_s: float) -> bool:
        with self._changed:
            if self._trouble and now_s < self._fork_at_s:
                return False
            short = len(self._spares) < self._wanted and now_s >= self._fork_at_s
            return short or self._waiting > len(self._spares)

    def _fork(self) -> None:
        try:
            fork = self._forks.fork(secrets.token_hex(4))
        except (OSError, EOFError) as error:
            self._fail(f"no process can be forked: {' '.join(str(error).split())}")
            return
        self._forked = True
        held = Held(fork)
        os.set_blocking(fork.output.fileno(), False)
        self._selector.register(fork.output, selectors.EVENT_READ, lambda: self._read(held))
        self._selector.register(fork.sentinel, selectors.EVENT_READ, lambda: self._bury(held))
        self._changes = True
        with self._changed:
            self._held[fork.token] = held
            self._spares.append(held)
            self._changed.notify()

    def _read(self, held: Held) -> bool:
        """Take what was printed; says whether there may be more."""
        if held.ended.is_set():
            return False
        try:
            data = os.read(held.fork.output.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._forget(held.fork.output)
            return False
        with self._changed:
            held.log.write(data, time.monotonic())
        return True

    def _forget(self, watched: Connection) -> None:
        with contextlib.suppress(KeyError):  # it was closed at the other end before
            self._selector.unregister(watched)

    def _bury(self, held: Held) -> None:
        """Find out why a process ended, and end what it leaves behind."""
        if held.ended.is_set():
            return
        self._selector.unregister(held.fork.sentinel)
        fate = because(held.fork.collect())
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(held.pid, signal.SIGKILL)  # all at once: none of them forks past it
        self._end(processes.in_sessions([held.pid]))
        for _ in range(_KEPT_LINES):
            if not self._read(held):
                break
        self._forget(held.fork.output)
        with self._changed:
            held.ended.set()
            del self._held[held.fork.token]
            with contextlib.suppress(ValueError):
                self._spares.remove(held)
            self._gather(held)
            self._remember(held, fate)
        held.fork.close()
        self._sweep()
        self._changes = True
        self._cleaning.put(held)

    def _remember(self, held: Held, fate: str) -> None:
        if held.name:
            why = None if held.dismissed else held.fate or fate
            self._fates[held.name] = (why, held.log.tail())
            while len(self._fates) > _KEPT_FATES:
                self._fates.popitem(last=False)
        elif not self._closing.is_set():
            self._fail(f"a process ended before it had a function: {fate}")

    def _fail(self, why: str) -> None:
        """Nothing is forked for a while, and whoever waits too long is told *why*."""
        self._fork_at_s = time.monotonic() + _AFTER_FAILURE_S
        self._trouble = why
        self._files.complain(why)
        log.error("no spare: error=%s", why)

    def _look(self) -> None:
        for held in tuple(self._held.values()):
            limit_bytes = held.max_memory_bytes
            if limit_bytes is None or held.fate is not None:
                continue
            if processes.private_bytes(processes.tree(held.pid), above=limit_bytes) > limit_bytes:
                held.fate = of_memory(limit_bytes)
                held.kill()
        self._sweep()

    def _sweep(self) -> None:
        """End what left its instance's session and lost its parent, or outlived its instance."""
        known = {held.pid for held in self._held.values()}
        orphans = set[int]()
        if self._forks.mark is not None:
            orphans |= processes.children(self._forks.mark.pid)
        if self._adopts:
            own = processes.session_of(os.getpid())
            mine = processes.children(os.getpid()) - {self._forks.mark and self._forks.mark.pid}
            orphans |= {pid for pid in mine if processes.session_of(pid) != own}
        self._end(pid for pid in orphans - known if processes.session_of(pid) not in known)

    def _end(self, pids: Iterable[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # one that we have adopted
                os.waitpid(pid, os.WNOHANG)

    def _clean(self) -> None:
        """Remove what ended processes left on disk, beside the loop: it may be much."""
        while (held := self._cleaning.get()) is not None:
            shutil.rmtree(held.fork.home, ignore_errors=True)
            held.fork.socket.unlink(missing_ok=True)
            held.gone.set()

    def _shut(self) -> None:
        self.close()
        held = tuple(self._held.values())
        for each in held:
            each.dismissed = True
            each.kill()
        until_s = time.monotonic() + _END_S
        while self._held and time.monotonic() < until_s:
            for key, _ in self._selector.select(_LOOK_S):
                key.data()
        server = self._forks.mark
        while server is not None and processes.children(server.pid) and time.monotonic() < until_s:
            self._sweep()  # one ends, and those that it had started become orphans
            time.sleep(_COLLECTED_S)
        self._forks.stop()
