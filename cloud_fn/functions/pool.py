"""The instances of all functions: from zero on the first request, more while requests wait."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cloud_fn.errors import DeadlinePassed, HostLost, InstanceLost, Stopping
from cloud_fn.functions.budget import Budget
from cloud_fn.functions.channel import Connection
from cloud_fn.functions.elsewhere import Tries
from cloud_fn.functions.exchange import Answer, Exchange, NotTaken
from cloud_fn.functions.keeper import Keeper
from cloud_fn.functions.launch import BLAMELESS, Launcher, Running
from cloud_fn.functions.scaling import decide
from cloud_fn.functions.shares import Shares
from cloud_fn.functions.slot import Lease, Limits, Live, Slot
from cloud_fn.functions.spec import Function
from cloud_fn.functions.warming import Warming
from protos.tensors import Buffer

log = logging.getLogger(__name__)

_ENDERS = 8
_CLOSE_S = 5.0  # then whoever placed the instance ends it with all the rest
_AFTER_FAILURE_S = 1.0
_AGAIN_S = 0.02
"""How soon a waiting request asks anew whether another instance would pay."""


class Pool:
    """Every function's instances; :meth:`call` may be used from many threads.

    An instance that died or had to be ended is replaced at once.
    """

    def __init__(
        self,
        launcher: Launcher,
        limits_of: Callable[[Function], Limits],
        *,
        memory_budget_bytes: int | None = None,
        shares: Shares | None = None,
        size_of: Callable[[Running], int | None] = lambda _: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            launcher: what starts instances.
            limits_of: what a function may use now; asked at each of its requests.
            memory_budget_bytes: what all instances may take together; None is no bound.
            shares: what they may take of each node, in the place of that.
            size_of: the memory of an instance, None where it cannot be told.
            clock: seconds, never going back.
        """
        self._launcher = launcher
        self._limits_of = limits_of
        self._clock = clock
        self._slots: dict[str, Slot] = {}
        self._slots_lock = threading.Lock()
        self._closing = threading.Event()
        self._exchange = Exchange(self, self.now)
        self.budget = Budget(memory_budget_bytes, slots=self.slots, end=self.end, shares=shares)
        self._keeper = Keeper(self, self.now, size_of)
        self.cuts = Warming(self, done=self._keeper.look)

    def start(self) -> None:
        """Begin to send idle instances away, and to have others back ahead of demand."""
        self._keeper.start()

    def deploy(self, function: Function) -> None:
        """Let the pool know *function*, so that its ``min_instances`` run before it is asked."""
        slot = self.slot(function)
        with slot.changed:
            self._scale(slot)

    def expect(self, function: Function) -> None:
        """A request for *function* is about to come: have an instance started if there is none."""
        slot = self.slot(function)
        with slot.changed:
            if not slot.lives and not slot.starting and not self._closing.is_set():
                self._begin(slot)

    def running(self) -> tuple[Running, ...]:
        """The instances that take requests now."""
        return tuple(live.running for slot in self.slots() for live in tuple(slot.lives))

    def sizes(self) -> dict[str, int]:
        """What an instance of each function was last seen to take, in bytes, by its name."""
        return {slot.function.name: size for slot in self.slots() if (size := slot.size_bytes)}

    def call(self, function: Function, body: Buffer, *, deadline_s: float | None = None) -> Answer:
        """Run one encoded request.

        Args:
            function: what to run; an instance is started if there is none.
            body: the request's bytes, handed on unread.
            deadline_s: when the caller gives up, on this pool's clock.

        Raises:
            InvalidRequest | FunctionFailed: what the instance says of the request.
            DeadlinePassed: the caller's deadline, or ``max_execution_s``, passed first.
            InstanceLost: no instance could be started, or it ended while it ran the request, which
                is run again once where the host was lost, for then it is not to blame.
            Stopping: the pool closes.
        """
        came_s, init_s = self.now(), 0.0
        tries, again = Tries(), False
        while True:
            lease = self._lease(function, came_s, deadline_s, again=again)
            init_s += lease.init_s
            again = True
            try:
                answer = self._exchange.run(lease, body, deadline_s, init_s)
            except NotTaken as lost:
                why = self.drop(lease, "gone")
                later = tries.after_gone(blameless=why in BLAMELESS)
                if later is None:
                    raise InstanceLost(
                        f"the instance of {function.key} ended before it took the request: "
                        + (f"{why}; " if why else "")
                        + "try again"
                    ) from lost.reason
            except HostLost:
                later = tries.after_lost()
                if later is None:
                    raise
            else:
                if answer.load_s:
                    lease.slot.last_load_s = answer.load_s
                return answer
            tries = later

    def close(self) -> None:
        """Take nothing more, and end every instance."""
        self._closing.set()
        self._keeper.stop()
        until_s = self.now() + _CLOSE_S
        with ThreadPoolExecutor(_ENDERS, thread_name_prefix="pool.close") as enders:
            for slot in self.slots():
                with slot.changed:
                    slot.changed.notify_all()
                    while slot.starting and (left_s := until_s - self.now()) > 0:
                        slot.changed.wait(left_s)
                    lives = tuple(slot.lives)
                for live in lives:
                    enders.submit(self.end, slot, live, "stopped")

    def now(self) -> float:
        """Seconds on this pool's clock."""
        return self._clock()

    def check_open(self) -> None:
        """See :class:`cloud_fn.functions.exchange.Places`."""
        if self._closing.is_set():
            raise Stopping("the server is stopping: send the request again later")

    def release(self, lease: Lease, connection: Connection | None) -> None:
        """See :class:`cloud_fn.functions.exchange.Places`."""
        slot, live = lease.slot, lease.live
        with slot.changed:
            live.in_use -= 1
            live.used_s = self.now()
            live.clock = self.budget.clock
            if connection is not None:
                if live.over:
                    connection.close()
                else:
                    live.idle.append(connection)
            slot.left(live.used_s)
            slot.changed.notify()
            over = live.stale and not live.in_use
            lacks = slot.may_warm(live)
        if over:
            self.end(slot, live, "replaced")
        if lacks or not live.in_use:
            self._keeper.look(slot)
        if not live.in_use:
            self.budget.freed()

    def drop(self, lease: Lease, why: str) -> str | None:
        """End an instance that is of no use any more, once, whoever notices first."""
        slot, live = lease.slot, lease.live
        with slot.changed:
            live.in_use -= 1
            slot.left(self.now())
        return self.end(slot, live, why, replace=True, by_itself=why != "hung")

    def end(
        self,
        slot: Slot,
        live: Live,
        why: str,
        *,
        replace: bool = False,
        by_itself: bool = False,
    ) -> str | None:
        """Take *live* out of service and end it.

        Returns:
            Where it ended *by_itself*, what the launcher knows of that; it may take a second to.
        """
        with slot.changed:
            ours, live.over = not live.over, True
            if ours:
                if live in slot.lives:
                    slot.lives.remove(live)
                if not slot.lives:
                    slot.calls = 0
                live.close()
                if replace and not self._closing.is_set() and not slot.lives and not slot.starting:
                    self._begin(slot)
            slot.changed.notify_all()
        said = self._launcher.why_ended(live.running) if by_itself else None
        if ours:
            log.info("instance ended: instance=%s why=%s", live.running.name, said or why)
            self._launcher.end(live.running)
            self.budget.freed()
        return said

    def slots(self) -> list[Slot]:
        with self._slots_lock:
            return list(self._slots.values())

    def prepare(self, slot: Slot) -> None:
        """Have an instance started ahead of demand; the caller holds ``slot.changed``."""
        if not self._closing.is_set():
            self._begin(slot)

    def warm(self, slot: Slot) -> None:
        """See :class:`cloud_fn.functions.keeper.Kept`."""
        if not self._closing.is_set():
            self.cuts.look(slot)

    def known(self, function: Function) -> Slot | None:
        """See :class:`cloud_fn.functions.warming.Owner`."""
        with self._slots_lock:
            return self._slots.get(function.key)

    def slot(self, function: Function) -> Slot:
        """See :class:`cloud_fn.functions.warming.Owner`."""
        limits = self._limits_of(function)
        with self._slots_lock:
            slot = self._slots.get(function.key)
            if slot is None:
                slot = self._slots[function.key] = Slot(function, limits)
        if slot.limits is not limits or slot.function != function:
            self._change(slot, function, limits)
        return slot

    def _change(self, slot: Slot, function: Function, limits: Limits) -> None:
        """Other limits hold from now on; instances that were started under others are replaced."""
        with slot.changed:
            same = (slot.function, slot.limits.at_start) == (function, limits.at_start)
            slot.function, slot.limits = function, limits
            if not same:
                slot.deployed.refused.clear()
            for live in () if same else slot.lives:
                live.stale = True
            idle = [live for live in slot.lives if live.stale and not live.in_use]
        for live in idle:
            self.end(slot, live, "replaced")

    def _lease(
        self, function: Function, came_s: float, deadline_s: float | None, *, again: bool
    ) -> Lease:
        """Wait for the right to run one request, having an instance started where that pays."""
        slot = self.slot(function)
        patience_s = slot.limits.start_timeout_s + slot.limits.max_execution_s
        until = came_s + patience_s
        until = until if deadline_s is None else min(until, deadline_s)
        with slot.changed:
            failures, entered_s = slot.failures, self.now()
            slot.enter(entered_s, anew=not again)
            try:
                live = self._await(slot, until, failures)
            except BaseException:
                slot.waiting.remove(entered_s)
                slot.left(self.now())
                slot.changed.notify()  # what woke this one may have been meant for the next
                raise
            slot.waiting.remove(entered_s)
        init_s = max(0.0, live.ready_s - max(came_s, live.asked_s))
        return Lease(slot=slot, live=live, init_s=init_s)

    def _await(self, slot: Slot, until: float, failures: int) -> Live:
        while True:
            self.check_open()
            if (live := slot.take()) is not None:
                return live
            if slot.failures > failures and not slot.lives and not slot.starting:
                assert slot.failure is not None
                raise slot.failure
            self._scale(slot)
            left_s = until - self.now()
            if left_s <= 0:
                raise _late(slot)
            wants_more = len(slot.lives) + slot.starting < slot.limits.max_instances
            again_s = max(_AGAIN_S, slot.last_start_s) if wants_more else left_s
            slot.changed.wait(min(left_s, again_s))

    def _scale(self, slot: Slot) -> None:
        """Start what is wanted beyond what there is; the caller holds ``slot.changed``."""
        now_s = self.now()
        if slot.lives and now_s - slot.failed_s < _AFTER_FAILURE_S:
            return
        context = slot.context(now_s)
        for _ in range(decide(context).instances - context.instances):
            self._begin(slot)

    def _begin(self, slot: Slot) -> None:
        """Have an instance started; the caller holds ``slot.changed``."""
        slot.starting += 1
        threading.Thread(
            target=self._start, args=(slot,), name=f"pool.start {slot.function.key}"
        ).start()

    def _start(self, slot: Slot) -> None:
        began = self.now()
        function, limits = slot.function, slot.limits
        try:
            with self.budget.room(slot, limits.start_timeout_s) as room:
                running = self._launcher.start(
                    function,
                    timeout_s=limits.start_timeout_s,
                    confinement=limits.confinement,
                    kind=limits.kind,
                    fits=room.fits,
                )
                live = self._begun(slot, running, function, limits, began)
        except Exception as error:  # noqa: BLE001  whoever waits for the start is told
            log.error("instance not started: function=%s error=%s", function.key, error)
            with slot.changed:
                slot.starting -= 1
                slot.failures += 1
                slot.failed_s = self.now()
                slot.failure = (
                    error
                    if isinstance(error, InstanceLost)
                    else InstanceLost(f"no instance of {function.key} could be started: {error}")
                )
                slot.changed.notify_all()
            return
        if live.stale:
            self.end(slot, live, "replaced", replace=True)
        with contextlib.suppress(Stopping):
            self.check_open()
            self._keeper.look(slot)

    def _begun(
        self, slot: Slot, running: Running, function: Function, limits: Limits, began_s: float
    ) -> Live:
        """Let an instance take requests; it was started for what the function was then."""
        now_s = self.now()
        log.info("instance started: instance=%s init_s=%.4f", running.name, now_s - began_s)
        live = Live(running, asked_s=began_s, ready_s=now_s)
        with slot.changed:
            live.stale = (slot.function, slot.limits.at_start) != (function, limits.at_start)
            slot.lives.append(live)
            slot.starting -= 1
            slot.last_start_s = now_s - began_s
            slot.changed.notify(slot.limits.concurrency)
            if self._closing.is_set():
                slot.changed.notify_all()
        return live


def _late(slot: Slot) -> DeadlinePassed:
    if slot.starting and not slot.lives:
        return DeadlinePassed(
            f"the deadline passed while an instance of {slot.function.key} was starting"
        )
    places = slot.limits.concurrency * max(1, len(slot.lives))
    return DeadlinePassed(
        f"all {places} places of {slot.function.key} stayed taken until the deadline: "
        "send fewer requests at once"
    )
