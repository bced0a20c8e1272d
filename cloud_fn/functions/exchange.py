"""One request on one instance: hand it over, wait, take the answer, or say what became of it."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cloud_fn.errors import (
    DeadlinePassed,
    FunctionFailed,
    HostLost,
    InstanceLost,
    InvalidRequest,
)
from cloud_fn.functions.channel import Connection, Exchanged
from cloud_fn.functions.launch import BLAMELESS
from cloud_fn.functions.slot import Lease
from protos.errors import WireError
from protos.tensors import Buffer


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
class NotTaken(Exception):
    """The instance took nothing of the request, which may therefore go to another."""

    reason: Exception = field()


class Places(Protocol):
    """Whoever lent the lease: :class:`cloud_fn.functions.pool.Pool`."""

    def release(self, lease: Lease, connection: Connection | None) -> None:
        """The request is over, and *connection* may carry another."""

    def drop(self, lease: Lease, why: str) -> str | None:
        """End the instance, which is of no use any more; gives what is known of its end."""

    def check_open(self) -> None:
        """Raise Stopping when it closes."""


class Exchange:
    """Runs requests on leased instances; each lease is given back or its instance dropped."""

    def __init__(self, places: Places, clock: Callable[[], float]) -> None:
        self._places = places
        self._clock = clock

    def run(self, lease: Lease, body: Buffer, deadline_s: float | None, init_s: float) -> Answer:
        """Run one request.

        Raises:
            NotTaken: the instance is gone and has run nothing; its lease still holds.
            HostLost: the instance went with its host, and may have begun to run the request.
            InvalidRequest | FunctionFailed | DeadlinePassed | InstanceLost | Stopping: as
                :meth:`cloud_fn.functions.pool.Pool.call`.
        """
        connection = self._connect(lease)
        handed_s = self._clock()
        limit_s = lease.slot.limits.max_execution_s
        hard_s = handed_s + limit_s
        try:
            # Not cut short by the caller's deadline: a request half sent would cost the instance.
            connection.send(body, timeout_s=limit_s)
        except TimeoutError as error:
            connection.close()
            raise self._hung(lease) from error
        except OSError as error:
            connection.close()
            raise NotTaken(error) from error
        until = hard_s if deadline_s is None else min(hard_s, deadline_s)
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
                    return Connection(lease.live.running.address)
                except OSError as error:
                    raise NotTaken(error) from error
            if waiting.is_idle:
                return waiting
            waiting.close()

    def _take(self, lease: Lease, connection: Connection, hard_s: float) -> Exchanged:
        """Receive the answer, and give the place and the connection back."""
        try:
            exchanged = connection.receive(timeout_s=max(0.1, hard_s - self._clock()))
        except (InvalidRequest, FunctionFailed):
            self._places.release(lease, connection)
            raise
        except TimeoutError as error:
            connection.close()
            raise self._hung(lease) from error
        except (OSError, WireError) as error:
            connection.close()
            why = self._places.drop(lease, "died")
            self._places.check_open()
            kind = HostLost if why in BLAMELESS else InstanceLost
            raise kind(
                f"the instance of {lease.slot.function.key} ended while it ran the request: "
                + (f"{why}; " if why else "")
                + "try again, or lower what one request needs"
            ) from error
        self._places.release(lease, connection)
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
        self._places.drop(lease, "hung")
        return DeadlinePassed(
            f"{lease.slot.function.key} ran longer than {lease.slot.limits.max_execution_s:g} s "
            "(max_execution_s): its instance was replaced"
        )
