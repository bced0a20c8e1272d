"""What all instances together may take of the machine's memory, and who goes to make room."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from cloud_fn.errors import InstanceLost
from cloud_fn.functions.scaling import Idle, victims
from cloud_fn.functions.slot import Live, Slot

log = logging.getLogger(__name__)

UNMEASURED_BYTES = 32 << 20
"""What an instance is taken for until it has been looked at once."""


class Budget:
    """Keeps count, and has idle instances ended by greedy-dual where another needs their room.

    Safe to use from many threads; no slot's lock may be held by who calls :meth:`room`.
    """

    def __init__(
        self,
        budget_bytes: int | None,
        *,
        slots: Callable[[], Iterable[Slot]],
        end: Callable[[Slot, Live, str], object],
    ) -> None:
        """Prepare.

        Args:
            budget_bytes: for all instances; None is no bound.
            slots: every function's place.
            end: takes an instance out of service.
        """
        self._budget_bytes = budget_bytes
        self._slots = slots
        self._end = end
        self._changed = threading.Condition()
        self._reserved_bytes = 0
        self._clock = 0.0

    @property
    def clock(self) -> float:
        """What :func:`cloud_fn.functions.scaling.victims` counts age by."""
        return self._clock

    def freed(self) -> None:
        """An instance is idle or gone: who waits for room may look again."""
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def room(self, slot: Slot, timeout_s: float) -> Iterator[None]:
        """Hold room for one more instance of *slot* while it starts.

        Raises:
            InstanceLost: there is none, and none became free within *timeout_s*.
        """
        if self._budget_bytes is None:
            yield
            return
        need_bytes = slot.size_bytes or UNMEASURED_BYTES
        with self._changed:
            if not self._changed.wait_for(lambda: self._fits(need_bytes), timeout_s):
                raise InstanceLost(
                    f"there is no memory for an instance of {slot.function.key}: others that are "
                    f"busy take {self._used_bytes() >> 20} of {self._budget_bytes >> 20} MiB "
                    "(memory_budget_bytes): try again later, or raise it"
                )
            self._reserved_bytes += need_bytes
        try:
            yield
        finally:
            with self._changed:
                self._reserved_bytes -= need_bytes

    def _fits(self, need_bytes: int) -> bool:
        """Whether there is room now; idle instances are ended for it."""
        assert self._budget_bytes is not None
        lacking = self._used_bytes() + self._reserved_bytes + need_bytes - self._budget_bytes
        if lacking <= 0:
            return True
        idle: dict[str, tuple[Slot, Live]] = {}
        for slot in self._slots():
            with slot.changed:
                spare = len(slot.lives) - slot.limits.min_instances
                for live in [each for each in slot.lives if not each.in_use][: max(0, spare)]:
                    idle[live.running.name] = (slot, live)
        chosen = victims(
            [_as_idle(name, slot, live) for name, (slot, live) in idle.items()],
            lacking,
            clock=self._clock,
        )
        if chosen.freed_bytes < lacking:
            return False
        self._clock = chosen.clock
        for name in chosen.names:
            slot, live = idle[name]
            with slot.changed:
                if live.in_use or live not in slot.lives:
                    return self._fits(need_bytes)  # somebody was quicker
                slot.lives.remove(live)
                live.close()
            self._end(slot, live, "room for another")
        return True

    def _used_bytes(self) -> int:
        return sum(
            live.size_bytes or slot.size_bytes or UNMEASURED_BYTES
            for slot in self._slots()
            for live in tuple(slot.lives)
        )


def _as_idle(name: str, slot: Slot, live: Live) -> Idle:
    return Idle(
        name=name,
        clock=live.clock,
        frequency=max(1, slot.calls),
        cost_s=slot.last_start_s + slot.last_load_s,
        size_bytes=live.size_bytes or slot.size_bytes or UNMEASURED_BYTES,
    )
