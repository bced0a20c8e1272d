"""The instances of all functions: from zero on the first request, and back when idle."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotReady
from dataclasses import dataclass, field

from cloud_fn.errors import DeadlinePassed, FunctionFailed, InstanceLost, InvalidRequest, Stopping
from cloud_fn.functions.channel import Connection, Exchanged
from cloud_fn.functions.launch import Launcher, Running
from cloud_fn.functions.slot import Lease, Live, Slot
from cloud_fn.functions.spec import Function
from protos.errors import WireError
from protos.tensors import Buffer

log = logging.getLogger(__name__)

_CLOSE_S = 5.0  # then whoever placed the instance ends it with all the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one instance may do; see :class:`cloud_fn.config.Instance`."""

    concurrency: int = 4
    keep_alive_s: float = 600.0
    max_execution_s: float = 30.0
    start_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply and where its time went; ``handed_s`` is when the instance was handed the request."""

    body: Buffer
    instance: str
    handed_s: float
    init_s: float
    load_s: float
    infer_s: float

    @property
    def cold(self) -> bool:
        """Whether it waited for an instance or a model."""
        return self.init_s > 0 or self.load_s > 0


@dataclass(slots=True)
class _Lost(Exception):
    """The instance took nothing of the request, which may therefore go to another."""

    reason: Exception = field()


class Pool:
    """At most one instance per function; :meth:`call` may be used from many threads.

    An instance that died or had to be ended is replaced at once.
    """

    def __init__(
        self,
        launcher: Launcher,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._launcher = launcher
        self._limits = limits
        self._clock = clock
        self._slots: dict[str, Slot] = {}
        self._slots_lock = threading.Lock()
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="pool.keeper", daemon=True)

    def start(self) -> None:
        """Begin to send idle instances away."""
        self._keeper.start()

    def running(self) -> tuple[Running, ...]:
        """The instances that take requests now."""
        return tuple(live.running for slot in self._all() if (live := slot.live) is not None)

    def call(self, function: Function, body: Buffer, *, deadline_s: float | None = None) -> Answer:
        """Run one encoded request.

        Args:
            function: what to run; an instance is started if there is none.
            body: the request's bytes, handed on unread.
            deadline_s: when the caller gives up, on this pool's clock.

        Raises:
            InvalidRequest | FunctionFailed: what the instance says of the request.
            DeadlinePassed: the caller's deadline, or ``max_execution_s``, passed first.
            InstanceLost: no instance could be started, or it ended while it ran the request.
            Stopping: the pool closes.
        """
        init_s = 0.0
        for last in (False, True):
            lease = self._lease(function, deadline_s)
            init_s += lease.init_s
            try:
                return self._run(lease, body, deadline_s, init_s)
            except _Lost as lost:
                self._drop(lease.slot, lease.live, "gone")
                if last:
                    raise InstanceLost(
                        f"the instance of {function.key} ended before it took the request: "
                        "try again"
                    ) from lost.reason
        raise AssertionError("the second attempt returns or raises")

    def close(self) -> None:
        """Take nothing more, and end every instance."""
        self._closing.set()
        for slot in self._all():
            with slot.changed:
                starting, live = slot.starting, slot.live
                slot.changed.notify_all()
            if starting is not None:
                with contextlib.suppress(Exception):
                    starting.result(_CLOSE_S)
                live = slot.live
            if live is not None:
                self._drop(slot, live, "stopped")
        if self._keeper.ident is not None:
            self._keeper.join()

    def _slot(self, function: Function) -> Slot:
        with self._slots_lock:
            return self._slots.setdefault(function.key, Slot(function))

    def _all(self) -> list[Slot]:
        with self._slots_lock:
            return list(self._slots.values())

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise Stopping("the server is stopping: send the request again later")

    def _lease(self, function: Function, deadline_s: float | None) -> Lease:
        """Wait for the right to run one request, having an instance started if there is none."""
        slot = self._slot(function)
        patience_s = self._limits.start_timeout_s + self._limits.max_execution_s
        until = _earlier(self._clock() + patience_s, deadline_s)
        init_s = 0.0
        while True:
            with slot.changed:
                self._check_open()
                live = slot.live
                if live is not None and live.in_use < self._limits.concurrency:
                    live.in_use += 1
                    return Lease(slot=slot, live=live, init_s=init_s)
                if live is not None:
                    if not slot.changed.wait(max(0.0, until - self._clock())):
                        raise DeadlinePassed(
                            f"all {self._limits.concurrency} places of {function.key} stayed "
                            "taken until the deadline: send fewer requests at once"
                        )
                    continue
                starting = slot.starting or self._begin(slot)
            began = self._clock()
            try:
                starting.result(max(0.0, until - began))
            except NotReady as error:
                raise DeadlinePassed(
                    f"the deadline passed while an instance of {function.key} was starting"
                ) from error
            init_s += self._clock() - began

    def _run(self, lease: Lease, body: Buffer, deadline_s: float | None, init_s: float) -> Answer:
        connection = self._connect(lease)
        handed_s = self._clock()
        hard_s = handed_s + self._limits.max_execution_s
        try:
            # Not cut short by the caller's deadline: a request half sent would cost the instance.
            connection.send(body, timeout_s=self._limits.max_execution_s)
        except TimeoutError as error:
            connection.close()
            raise self._hung(lease) from error
        except OSError as error:
            connection.close()
            raise _Lost(error) from error
        until = _earlier(hard_s, deadline_s)
        if not connection.wait(until - self._clock()):
            if until == hard_s:
                connection.close()
                raise self._hung(lease)
            threading.Thread(
                target=self._settle, args=(lease, connection, hard_s), name="pool.late", daemon=True
            ).start()
            raise DeadlinePassed(
                f"{lease.slot.function.key} did not answer before the request's deadline"
            )
        exchanged = self._take(lease, connection, hard_s)
        return Answer(
            body=exchanged.body,
            instance=lease.live.running.name,
            handed_s=handed_s,
            init_s=init_s,
            load_s=exchanged.load_s,
            infer_s=exchanged.infer_s,
        )

    def _connect(self, lease: Lease) -> Connection:
        """A connection that waits for a request, else a new one."""
        while True:
            with lease.slot.changed:
                waiting = lease.live.idle.pop() if lease.live.idle else None
            if waiting is None:
                try:
                    return Connection(lease.live.running.socket_path)
                except OSError as error:
                    raise _Lost(error) from error
            if waiting.is_idle:
                return waiting
            waiting.close()

    def _take(self, lease: Lease, connection: Connection, hard_s: float) -> Exchanged:
        """Receive the answer, and give the place and the connection back."""
        try:
            exchanged = connection.receive(timeout_s=max(0.1, hard_s - self._clock()))
        except (InvalidRequest, FunctionFailed):
            self._release(lease, connection)
            raise
        except TimeoutError as error:
            connection.close()
            raise self._hung(lease) from error
        except (OSError, WireError) as error:
            connection.close()
            self._drop(lease.slot, lease.live, "died")
            self._check_open()
            raise InstanceLost(
                f"the instance of {lease.slot.function.key} ended while it ran the request: "
                "try again, or lower what one request needs"
            ) from error
        self._release(lease, connection)
        return exchanged

    def _settle(self, lease: Lease, connection: Connection, hard_s: float) -> None:
        """Await the answer that nobody wants any more, so that its place becomes free."""
        with contextlib.suppress(InvalidRequest, FunctionFailed, InstanceLost, DeadlinePassed):
            if not connection.wait(hard_s - self._clock()):
                connection.close()
                raise self._hung(lease)
            self._take(lease, connection, hard_s)

    def _hung(self, lease: Lease) -> DeadlinePassed:
        """End an instance that ran too long; gives what to tell the caller."""
        self._drop(lease.slot, lease.live, "hung")
        return DeadlinePassed(
            f"{lease.slot.function.key} ran longer than {self._limits.max_execution_s:g} s "
            "(instance.max_execution_s): its instance was replaced"
        )

    def _release(self, lease: Lease, connection: Connection | None) -> None:
        with lease.slot.changed:
            lease.live.in_use -= 1
            lease.live.last_used_s = self._clock()
            if connection is not None:
                if lease.slot.live is lease.live:
                    lease.live.idle.append(connection)
                else:
                    connection.close()
            lease.slot.changed.notify()

    def _begin(self, slot: Slot) -> Future[None]:
        """Have an instance started; the caller holds ``slot.changed``."""
        starting: Future[None] = Future()
        slot.starting = starting
        threading.Thread(
            target=self._start, args=(slot, starting), name=f"pool.start {slot.function.key}"
        ).start()
        return starting

    def _start(self, slot: Slot, starting: Future[None]) -> None:
        began = self._clock()
        try:
            running = self._launcher.start(slot.function, timeout_s=self._limits.start_timeout_s)
        except Exception as error:  # noqa: BLE001  whoever waits for the start is told
            log.error("instance not started: function=%s error=%s", slot.function.key, error)
            with slot.changed:
                slot.starting = None
                slot.changed.notify_all()
            starting.set_exception(
                error
                if isinstance(error, InstanceLost)
                else InstanceLost(f"no instance of {slot.function.key} could be started: {error}")
            )
            return
        now = self._clock()
        log.info("instance started: instance=%s init_s=%.3f", running.name, now - began)
        with slot.changed:
            slot.live, slot.starting = Live(running, last_used_s=now), None
            slot.changed.notify_all()
        starting.set_result(None)

    def _drop(self, slot: Slot, live: Live, why: str) -> None:
        """Take *live* out of service and end it, once, whoever notices first."""
        with slot.changed:
            if slot.live is not live:
                return
            slot.live = None
            live.close()
            if not self._closing.is_set() and slot.starting is None:
                self._begin(slot)
            slot.changed.notify_all()
        log.info("instance ended: instance=%s why=%s", live.running.name, why)
        self._launcher.end(live.running)

    def _keep(self) -> None:
        """Send instances away that were idle for ``keep_alive_s``."""
        wait_s = self._limits.keep_alive_s
        while not self._closing.wait(wait_s):
            # Whatever becomes idle after this look stays for at least keep_alive_s from now.
            wait_s = self._limits.keep_alive_s
            for slot in self._all():
                with slot.changed:
                    live = slot.live
                    if live is None or live.in_use:
                        continue
                    left_s = live.last_used_s + self._limits.keep_alive_s - self._clock()
                    if left_s > 0:
                        wait_s = min(wait_s, left_s)
                        continue
                    slot.live = None
                    live.close()
                log.info("instance ended: instance=%s why=idle", live.running.name)
                self._launcher.end(live.running)


def _earlier(limit_s: float, deadline_s: float | None) -> float:
    return limit_s if deadline_s is None else min(limit_s, deadline_s)
