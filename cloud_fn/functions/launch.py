"""The seam between the pool and whatever starts instances."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.reach import Address, Near
from cloud_fn.functions.spec import Function
from cloud_fn.processes import Mark

CPU = "cpu"
"""The kind of host that needs no accelerator."""
CUDA = "cuda"
"""The kind whose instances share GPUs."""

HOST_ENDED = "its host ended"
NODE_LOST = "its node was lost"
BLAMELESS = frozenset({HOST_ENDED, NODE_LOST})
"""Reasons for an instance's end that lie with where it ran, and not with what it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An instance that listens: its name in replies and logs, its process, address and host.

    ``process`` means something on the node where the instance is, and ``node`` is which one; it is
    empty where there is only one.
    """

    name: str
    process: Mark
    address: Address
    kind: str = CPU
    node: str = ""

    @property
    def is_near(self) -> bool:
        """Whether it is on this node, so that ``process`` is one of ours to look at."""
        return isinstance(self.address, Near)


class Launcher(Protocol):
    """Starts and ends instances; called from several threads."""

    def start(
        self,
        function: Function,
        *,
        timeout_s: float,
        confinement: Confinement | None = None,
        kind: str = CPU,
        fits: Callable[[str], bool] = lambda _: True,
    ) -> Running:
        """Start an instance and wait until it listens.

        Args:
            function: what it runs.
            timeout_s: how long it may take, a host that has to come up first included.
            confinement: its limits; None is the launcher's defaults.
            kind: on a host of which kind.
            fits: whether there is memory for it on a node; asked of the one that it is to be on.

        Raises:
            InstanceLost: it did not within *timeout_s*, or died on the way.
        """

    def end(self, running: Running) -> None:
        """End an instance at once, whatever state it is in, and what it left on disk."""

    def why_ended(self, running: Running) -> str | None:
        """Why an instance ended by itself, as a clause such as ``it was killed by SIGSEGV``.

        None when it runs, was told to end, or nobody knows.
        """
