"""What all instances together may take of memory, and who goes to make room."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cloud_fn.errors import InstanceLost
from cloud_fn.functions.scaling import Idle, victims
from cloud_fn.functions.shares import Shares
from cloud_fn.functions.slot import Live, Slot

log = logging.getLogger(__name__)

UNMEASURED_BYTES = 32 << 20
"""What an instance is taken for until it has been looked at once."""

_ALL = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What is taken on one node, what of that idles and could go, in bytes."""

    used_bytes: int = 0
    idle_bytes: int = 0


class Room:
    """Room for one instance that starts: on any node at first, and where its host is then."""

    def __init__(self, need_bytes: int, bind: Callable[["Room", str], bool]) -> None:
        self.need_bytes = need_bytes
        self.node: str | None = None
        self._bind = bind

    def fits(self, node: str) -> bool:
        """Whether there is room on *node*; if so, it is held there from now on."""
        return self._bind(self, node)


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
        shares: Shares | None = None,
    ) -> None:
        """Prepare.

        Args:
            budget_bytes: for all instances, wherever they are; None is no bound.
            slots: every function's place.
            end: takes an instance out of service.
            shares: bounds by node, in the place of *budget_bytes*.
        """
        self._budget_bytes = budget_bytes
        self._shares = shares
        self._slots = slots
        self._end = end
        self._changed = threading.Condition()
        self._rooms: list[Room] = []
        self._waiting: list[int] = []
        self._clock = 0.0
        self.lacks: Callable[[], None] = lambda: None

    @property
    def clock(self) -> float:
        """What :func:`cloud_fn.functions.scaling.victims` counts age by."""
        return self._clock

    def freed(self) -> None:
        """An instance is idle or gone: who waits for room may look again."""
        with self._changed:
            self._changed.notify_all()

    def uses(self) -> tuple[dict[str, Use], int]:
        """What is taken on each node, starts included, and what those lack that wait for room."""
        with self._changed:
            return self._uses(), sum(self._waiting)

    def adopt(self, shares: Mapping[str, int]) -> None:
        """Keep to these shares of nodes from now on.

        Idle instances beyond them go; what is busy beyond them is kept, and counted as held.
        """
        assert self._shares is not None
        with self._changed:
            held = self._shares.now()
            for node in {*held, *shares}:
                lacking = self._used_bytes(node) - shares.get(node, 0)
                if lacking > 0:
                    self._evict(node, lacking, at_least=0)
            used = self._uses()
            kept = {
                node: min(held[node], used[node].used_bytes)
                for node in held
                if node in used and used[node].used_bytes > shares.get(node, 0)
            }
            self._shares.replace({**shares, **kept})
            self._changed.notify_all()

    @contextmanager
    def room(self, slot: Slot, timeout_s: float) -> Iterator[Room]:
        """Hold room for one more instance of *slot* while it starts.

        Raises:
            InstanceLost: there is none, and none became free within *timeout_s*.
        """
        room = Room(slot.size_bytes or UNMEASURED_BYTES, self._bind)
        if self._budget_bytes is None and self._shares is None:
            yield room
            return
        with self._changed:
            if not self._fits(room.need_bytes):
                self._await(room.need_bytes, slot, timeout_s)
            self._rooms.append(room)
        try:
            yield room
        finally:
            with self._changed:
                self._rooms.remove(room)
                self._changed.notify_all()

    def _await(self, need_bytes: int, slot: Slot, timeout_s: float) -> None:
        self._waiting.append(need_bytes)
        self.lacks()
        try:
            if not self._changed.wait_for(lambda: self._fits(need_bytes), timeout_s):
                used = sum(self._used_bytes(node) for node in self._limits())
                limit = sum(self._limits().values())
                raise InstanceLost(
                    f"there is no memory for an instance of {slot.function.key}: others that are "
                    f"busy take {used >> 20} of {limit >> 20} MiB "
                    "(memory_budget_bytes): try again later, or raise it"
                )
        finally:
            self._waiting.remove(need_bytes)

    def _bind(self, room: Room, node: str) -> bool:
        if self._shares is None:
            return True
        with self._changed:
            before, room.node = room.node, node
            if self._used_bytes(node) > self._shares.now().get(node, 0):
                room.node = before
                return False
            if before is None:
                self._changed.notify_all()  # it is held on one node now, and not on each
            return True

    def _limits(self) -> Mapping[str, int]:
        if self._shares is not None:
            return self._shares.now()
        assert self._budget_bytes is not None
        return {_ALL: self._budget_bytes}

    def _fits(self, need_bytes: int) -> bool:
        """Whether there is room on some node; if on none, idle instances are ended for it."""
        lacking = {
            node: self._used_bytes(node) + need_bytes - limit
            for node, limit in self._limits().items()
        }
        if any(each <= 0 for each in lacking.values()):
            return True
        order = sorted(lacking, key=lambda node: (lacking[node], node))
        return any(self._evict(node, lacking[node], at_least=lacking[node]) for node in order)

    def _evict(self, node: str, lacking: int, *, at_least: int) -> bool:
        """End idle instances on *node* until so much is free, none if that is less than this."""
        idle = {live.running.name: (slot, live) for slot, live in self._idle(node)}
        chosen = victims(
            [_as_idle(name, slot, live) for name, (slot, live) in idle.items()],
            lacking,
            clock=self._clock,
        )
        if chosen.freed_bytes < at_least:
            return False
        self._clock = chosen.clock
        freed = 0
        for name in chosen.names:
            slot, live = idle[name]
            with slot.changed:
                if live.in_use or live not in slot.lives:
                    continue  # somebody was quicker
                slot.lives.remove(live)
                live.close()
            freed += _size(slot, live)
            self._end(slot, live, "room for another")
        if freed < min(chosen.freed_bytes, lacking):
            return self._evict(node, lacking - freed, at_least=max(0, at_least - freed))
        return True

    def _idle(self, node: str) -> Iterator[tuple[Slot, Live]]:
        """The instances there that could go."""
        for slot in self._slots():
            with slot.changed:
                spare = len(slot.lives) - slot.limits.min_instances
                found = [each for each in slot.lives if not each.in_use][: max(0, spare)]
            yield from ((slot, live) for live in found if self._is_on(live, node))

    def _uses(self) -> dict[str, Use]:
        nodes = {live.running.node for slot in self._slots() for live in tuple(slot.lives)}
        nodes |= {room.node for room in self._rooms if room.node is not None}
        nodes |= set(self._shares.now() if self._shares is not None else ())
        return {
            node: Use(
                used_bytes=self._used_bytes(node),
                idle_bytes=sum(_size(slot, live) for slot, live in self._idle(node)),
            )
            for node in nodes
        }

    def _used_bytes(self, node: str) -> int:
        """What instances there take, and those that start there, or may."""
        lives = sum(
            _size(slot, live)
            for slot in self._slots()
            for live in tuple(slot.lives)
            if self._is_on(live, node)
        )
        return lives + sum(
            room.need_bytes for room in self._rooms if node == _ALL or room.node in (None, node)
        )

    def _is_on(self, live: Live, node: str) -> bool:
        return node in (_ALL, live.running.node)


def _size(slot: Slot, live: Live) -> int:
    return live.size_bytes or slot.size_bytes or UNMEASURED_BYTES


def _as_idle(name: str, slot: Slot, live: Live) -> Idle:
    return Idle(
        name=name,
        clock=live.clock,
        frequency=max(1, slot.calls),
        cost_s=slot.last_start_s + slot.last_load_s,
        size_bytes=_size(slot, live),
    )
