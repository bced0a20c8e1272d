"""Which gateways a host works for: each under a lease, with which all that it started ends."""

import threading

import msgspec

from cloud_fn.functions.host_calls import Ping
from cloud_fn.processes import Mark


class Lease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gateway's hold on a host.

    Attributes:
        id: what the gateway calls it; each of its connections to the host has another.
        gateway: who it is.
        holds: what it may use of each node's memory, in bytes, as it said last.
    """

    id: str
    gateway: str
    holds: dict[str, int]


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An instance, whose it is, and the memory that it takes and that cannot be taken back."""

    name: str
    gateway: str
    private_bytes: int


class Roll(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a host says of itself to whoever keeps the books; ``memory_bytes`` is its node's."""

    node: str
    kind: str
    process: Mark
    memory_bytes: int
    spares: int
    leases: tuple[Lease, ...] = ()
    instances: tuple[Member, ...] = ()


class Leases:
    """The leases of one host. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Lease] = {}
        self._closed = False

    def renew(self, ping: Ping) -> bool:
        """A gateway speaks under its lease; says whether the host still takes any."""
        with self._lock:
            if not self._closed:
                self._held[ping.lease] = Lease(
                    id=ping.lease, gateway=ping.gateway, holds=ping.holds
                )
            return not self._closed

    def drop(self, lease: str) -> bool:
        """It is over; says whether it was not before."""
        with self._lock:
            return self._held.pop(lease, None) is not None

    def close_if_none(self) -> bool:
        """Take no more if there is none now; says whether that is so."""
        with self._lock:
            self._closed = self._closed or not self._held
            return self._closed

    def __contains__(self, lease: str) -> bool:
        with self._lock:
            return lease in self._held

    def all(self) -> tuple[Lease, ...]:
        """Those that hold now, the oldest first."""
        with self._lock:
            return tuple(self._held.values())
