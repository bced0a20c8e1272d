"""A forked process as its host holds it, and why it ended."""

import os
import signal
import threading
from dataclasses import dataclass, field

from cloud_fn.functions.bounded_log import BoundedLog
from cloud_fn.functions.forks import Fork

_MiB = 1 << 20


@dataclass(slots=True, eq=False)
class Held:
    """A spare, or an instance once it has a ``name``.

    Where its host has several gateways it ends with the lease ``owner``. ``ended`` is set when the
    process is gone, ``gone`` when its files are too.
    """

    fork: Fork
    log: BoundedLog = field(default_factory=BoundedLog)
    name: str = ""
    owner: str = ""
    max_memory_bytes: int | None = None
    dismissed: bool = False
    fate: str | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def pid(self) -> int:
        return self.fork.mark.pid

    def kill(self) -> None:
        """End it and its process group at once, so that nothing in it forks past the end."""
        if self.ended.is_set():
            return
        for end in (os.killpg, os.kill):  # it has no group of its own for its first moments
            try:
                end(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue


def of_memory(max_memory_bytes: int) -> str:
    """A clause that says that a process had to be ended because of its memory."""
    return f"it used more than its {max_memory_bytes // _MiB} MiB of memory (max_memory_bytes)"
