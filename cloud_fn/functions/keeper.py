"""What sends idle instances away in time, and has others back ahead of demand."""

import heapq
import itertools
import math
import threading
from collections.abc import Callable
from typing import Protocol

from cloud_fn.functions.launch import Running
from cloud_fn.functions.slot import Live, Slot

SETTLE_S = 0.2
"""How long after a request its function is looked at: once, however many there were meanwhile. A
policy's forecast may take milliseconds, which no request should wait for."""


class Kept(Protocol):
    """Whose instances they are: :class:`cloud_fn.functions.pool.Pool`."""

    def end(self, slot: Slot, live: Live, why: str) -> str | None:
        """Take an instance out of service and end it."""

    def prepare(self, slot: Slot) -> None:
        """Have one started ahead of demand; ``slot.changed`` is held."""

    def warm(self, slot: Slot) -> None:
        """Have its instances load what devices may come to ask for."""


class Keeper:
    """A thread that sleeps until the next instance is due to leave or to come."""

    def __init__(
        self,
        kept: Kept,
        clock: Callable[[], float],
        size_of: Callable[[Running], int | None],
    ) -> None:
        self._kept = kept
        self._clock = clock
        self._size_of = size_of
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._touched: set[Slot] = set()
        self._due: list[tuple[float, int, Slot]] = []
        self._soonest: dict[Slot, float] = {}
        self._order = itertools.count()
        self._thread = threading.Thread(target=self._run, name="pool.keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look(self, slot: Slot) -> None:
        """Something happened to *slot*: what is due next may have changed."""
        self._touched.add(slot)
        if not self._wake.is_set():
            self._wake.set()

    def stop(self) -> None:
        """End the thread, if it was started, and wait until it has."""
        self._stopped.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            due_s = self._due[0][0] if self._due else math.inf
            if self._wake.wait(min(max(0.0, due_s - self._clock()), threading.TIMEOUT_MAX)):
                self._stopped.wait(SETTLE_S)
                self._wake.clear()
            touched = {self._touched.pop() for _ in range(len(self._touched))}
            now_s = self._clock()
            while self._due and self._due[0][0] <= now_s:
                slot = heapq.heappop(self._due)[2]
                self._soonest.pop(slot, None)
                touched.add(slot)
            for slot in () if self._stopped.is_set() else touched:
                again_s = self._see_to(slot)
                if again_s < self._soonest.get(slot, math.inf):
                    self._soonest[slot] = again_s
                    heapq.heappush(self._due, (again_s, next(self._order), slot))

    def _see_to(self, slot: Slot) -> float:
        """Do what is due for one function; gives when to look at it again."""
        with slot.changed:
            history = slot.history
        window = slot.limits.policy.window(history)
        now_s = self._clock()
        with slot.changed:
            slot.plan(window)
            due, again_s = slot.idlers(now_s)
            for live in due:
                slot.lives.remove(live)  # at once, so that no request is given to it
                live.close()
            if slot.back_s is not None and slot.back_s <= now_s:
                slot.back_s = None
                if not slot.lives and not slot.starting:
                    self._kept.prepare(slot)
            back_s = math.inf if slot.back_s is None else slot.back_s
            unseen = [live for live in slot.lives if live.size_bytes is None and not live.in_use]
        for live in due:
            self._kept.end(slot, live, "idle")
        for live in unseen:
            live.size_bytes = slot.size_bytes = self._size_of(live.running)
        self._kept.warm(slot)
        return min(again_s, back_s)
