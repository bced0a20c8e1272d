"""The seam between the pool and whatever starts instances."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cloud_fn.functions.spec import Function
from cloud_fn.processes import Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An instance that listens: its name in replies and logs, its process and its socket."""

    name: str
    process: Mark
    socket_path: Path


class Launcher(Protocol):
    """Starts and ends instances; called from several threads."""

    def start(self, function: Function, *, timeout_s: float) -> Running:
        """Start an instance and wait until it listens.

        Raises:
            InstanceLost: it did not within *timeout_s*, or died on the way.
        """

    def end(self, running: Running) -> None:
        """End an instance at once, whatever state it is in, and what it left on disk."""
