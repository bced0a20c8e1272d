"""One function's place in the pool: no instance, one that starts, or one that lives."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from cloud_fn.functions.channel import Connection
from cloud_fn.functions.launch import Running
from cloud_fn.functions.spec import Function


@dataclass(slots=True)
class Live:
    """An instance that takes requests. Guarded by its slot's ``changed``."""

    running: Running
    last_used_s: float
    in_use: int = 0
    idle: list[Connection] = field(default_factory=list)

    def close(self) -> None:
        """Close the connections that wait for a request; those in use close on release."""
        while self.idle:
            self.idle.pop().close()


@dataclass(slots=True)
class Slot:
    """Guarded by ``changed``, which is notified whenever a request may go on or must give up."""

    function: Function
    changed: threading.Condition = field(default_factory=threading.Condition)
    live: Live | None = None
    starting: Future[None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to run one request on an instance; ``init_s`` was spent waiting for its start."""

    slot: Slot
    live: Live
    init_s: float
