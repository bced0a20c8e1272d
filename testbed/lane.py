"""One direction of an emulated link: queues, one transmitter, then a delay. No clock, no sockets.

Whoever holds a lane tells it the time with every call, and it answers with what has arrived by
then. All figures come from the schedule and none from the moment of the call, so a caller that is
late delivers late but never slows the link down.
"""

import math
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from testbed.capacity import Capacity, average_bps, capacity
from testbed.conditions import Pace

P = TypeVar("P")

QUANTUM_S = 0.004
"""A turn of the transmitter. It bounds how long a small message waits for each busy neighbour and
how late a change of bandwidth is felt, and it sets the wake-ups per second: 250."""
MIN_QUANTUM_BYTES = 1500
MAX_QUANTUM_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel(Generic[P]):
    """A few bytes of one flow, or a signal of no size, that travel together."""

    flow: int
    size: int
    payload: P
    offered_s: float


@dataclass(slots=True)
class _Sending(Generic[P]):
    """The parcel in the transmitter; its last byte is out at ``until_s``."""

    parcel: Parcel[P]
    left_bytes: float
    from_bytes: float
    until_s: float


class Lane(Generic[P]):
    """Flows take turns at one transmitter, parcel by parcel; each flow keeps its order.

    *random* draws the jitter. Times passed in must not go back.
    """

    def __init__(self, pace: Pace, now_s: float, random: Random) -> None:
        self._pace = pace
        self._random = random
        self._capacity: Capacity = capacity(pace.rate, now_s)
        self._used_bytes = 0.0
        self._free_s = now_s
        self._frozen_s = now_s if pace.outage else None
        self._queues: dict[int, deque[Parcel[P]]] = {}
        self._backlog: dict[int, int] = {}
        self._sending: _Sending[P] | None = None
        self._flying: deque[tuple[float, Parcel[P]]] = deque()
        self.sent_bytes = 0

    @property
    def quantum_bytes(self) -> int:
        """The size to cut messages into, so that flows share the transmitter fairly."""
        quantum = int(average_bps(self._pace.rate) * QUANTUM_S)
        return min(max(quantum, MIN_QUANTUM_BYTES), MAX_QUANTUM_BYTES)

    @property
    def next_s(self) -> float | None:
        """When :meth:`advance` will next have something to do; None in an outage or when idle."""
        if self._frozen_s is not None:
            return None
        sent_s = self._sending.until_s if self._sending else math.inf
        arrives_s = self._flying[0][0] if self._flying else math.inf
        next_s = min(sent_s, arrives_s)
        return next_s if next_s < math.inf else None

    def backlog(self, flow: int) -> int:
        """Bytes of *flow* whose transmission has not ended."""
        return self._backlog.get(flow, 0)

    def offer(self, now_s: float, flow: int, size: int, payload: P) -> None:
        """Queue *size* bytes of *flow*."""
        self._transmit(now_s)
        parcel = Parcel(flow=flow, size=size, payload=payload, offered_s=now_s)
        self._queues.setdefault(flow, deque()).append(parcel)
        self._backlog[flow] = self._backlog.get(flow, 0) + size
        self._transmit(now_s)

    def drop(self, flow: int) -> None:
        """Forget what *flow* has queued and in flight, all but the parcel in the transmitter."""
        self._queues.pop(flow, None)
        self._backlog.pop(flow, None)
        self._flying = deque(item for item in self._flying if item[1].flow != flow)

    def advance(self, now_s: float) -> list[Parcel[P]]:
        """The parcels that have arrived by *now_s*, in order."""
        self._transmit(now_s)
        arrived = []
        while self._frozen_s is None and self._flying and self._flying[0][0] <= now_s:
            arrived.append(self._flying.popleft()[1])
        return arrived

    def set(self, now_s: float, pace: Pace) -> None:
        """Change the conditions from *now_s* on, for the rest of what is being sent too.

        What has left the transmitter keeps its time of arrival, but for the length of an outage.
        A trace begins when it is set and runs on through outages and changes of delay.
        """
        self._transmit(now_s)
        self._interrupt(now_s)
        if pace.rate != self._pace.rate:
            self._capacity, self._used_bytes = capacity(pace.rate, now_s), 0.0
        self._pace = pace
        if self._frozen_s is not None and not pace.outage:
            pause_s = now_s - self._frozen_s
            self._flying = deque((at_s + pause_s, parcel) for at_s, parcel in self._flying)
            self._frozen_s = None
        elif self._frozen_s is None and pace.outage:
            self._frozen_s = now_s
        self._free_s = now_s
        if self._sending is not None and self._frozen_s is None:
            self._resume(self._sending, now_s)
        self._transmit(now_s)

    def _transmit(self, now_s: float) -> None:
        """Carry on with the queues up to *now_s*."""
        while self._frozen_s is None:
            if self._sending is None:
                parcel = self._take()
                if parcel is None:
                    return
                # A signal takes a byte's place: it waits for an opportunity like the rest.
                self._sending = _Sending(parcel, float(max(parcel.size, 1)), 0.0, 0.0)
                self._resume(self._sending, max(parcel.offered_s, self._free_s))
            if self._sending.until_s > now_s:
                return
            self._launch(self._sending)
            self._sending = None

    def _take(self) -> Parcel[P] | None:
        """The next parcel; its flow goes to the end of the line."""
        if not self._queues:
            return None
        flow = next(iter(self._queues))
        queue = self._queues.pop(flow)
        parcel = queue.popleft()
        if queue:
            self._queues[flow] = queue
        return parcel

    def _resume(self, sending: _Sending[P], from_s: float) -> None:
        """Take up *sending* at *from_s*: capacity that nobody used before is lost."""
        sending.from_bytes = max(self._used_bytes, self._capacity.before(from_s))
        self._used_bytes = sending.from_bytes + sending.left_bytes
        sending.until_s = max(from_s, self._capacity.when(self._used_bytes))

    def _interrupt(self, now_s: float) -> None:
        """Settle how much of the parcel in the transmitter is out."""
        if self._sending is None or self._frozen_s is not None:
            return
        sending = self._sending
        done = min(max(self._capacity.before(now_s) - sending.from_bytes, 0.0), sending.left_bytes)
        sending.left_bytes -= done
        self._used_bytes = sending.from_bytes + done

    def _launch(self, sending: _Sending[P]) -> None:
        """The last byte is out: it arrives after the delay, and not before those ahead of it."""
        parcel, self._free_s = sending.parcel, sending.until_s
        self.sent_bytes += parcel.size
        if parcel.flow in self._backlog:
            self._backlog[parcel.flow] -= parcel.size
            if not self._backlog[parcel.flow] and parcel.flow not in self._queues:
                del self._backlog[parcel.flow]
        at_s = sending.until_s + self._pace.delay_s
        if self._pace.jitter_s:
            at_s += self._random.random() * self._pace.jitter_s
        if self._flying:
            at_s = max(at_s, self._flying[-1][0])
        self._flying.append((at_s, parcel))
