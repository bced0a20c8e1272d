"""The nodes that hosts may be on, and which of them the next instance goes to."""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

_EVERY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What Ray sets aside for one host; ``gpus`` may be a fraction."""

    cpus: float = 0.1
    gpus: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One that is alive: Ray's name for it, its address, and what Ray may hand out there."""

    id: str
    address: str
    cpus: float
    gpus: float = 0.0

    @property
    def short_id(self) -> str:
        """What it is called in logs."""
        return self.id[:12]


def alive(table: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    """The nodes of ``ray.nodes()`` that are alive, by their names."""
    found = [
        Node(
            id=row["NodeID"],
            address=row["NodeManagerAddress"],
            cpus=float(row["Resources"].get("CPU", 0.0)),
            gpus=float(row["Resources"].get("GPU", 0.0)),
        )
        for row in table
        if row["Alive"]
    ]
    return tuple(sorted(found, key=lambda node: node.id))


def choose(
    nodes: Sequence[Node],
    counts: Mapping[str, int],
    *,
    own: str,
    needs: Resources = Resources(),
    avoid: Collection[str] = (),
) -> tuple[Node, ...]:
    """The nodes that can have a host, in the order in which to try them for one more instance.

    Least instances per CPU first; of equals the gateway's own node, to which the way is shortest.

    Args:
        nodes: those that are alive.
        counts: how many instances there are, by node; none where it says nothing.
        own: the gateway's node.
        needs: what Ray must be able to set aside for a host there.
        avoid: nodes that just failed: they come last, for they may be all that there is.
    """
    able = [node for node in nodes if node.cpus >= needs.cpus and node.gpus >= needs.gpus]

    def order(node: Node) -> tuple[bool, float, bool, str]:
        load = counts.get(node.id, 0) / max(node.cpus, 1.0)
        return node.id in avoid, load, node.id != own, node.id

    return tuple(sorted(able, key=order))


class Nodes:
    """Knows the nodes that are alive, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        read: Callable[[], tuple[Node, ...]],
        *,
        lost: Callable[[Node], None] = lambda _: None,
        every_s: float = _EVERY_S,
    ) -> None:
        """Read them for the first time.

        Args:
            read: asks for those that are alive; it may take long, and may fail.
            lost: told of each that is not there any more.
            every_s: how often to ask.
        """
        self._read = read
        self._lost = lost
        self._every_s = every_s
        self._now = read()
        self._wake = threading.Event()
        self._unknown = False  # and that was said
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="nodes", daemon=True)

    def now(self) -> tuple[Node, ...]:
        """Those that were alive when last asked."""
        return self._now

    def start(self) -> None:
        """Begin to look again and again."""
        self._thread.start()

    def look(self) -> None:
        """Something happened: look now."""
        self._wake.set()

    def stop(self) -> None:
        """End the looking; one look may still be under way."""
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._every_s)
            self._wake.clear()
            if self._stopped:
                return
            try:
                found = self._read()
            except Exception as error:  # noqa: BLE001  Ray's errors are many, and it may recover
                if not self._unknown:
                    log.warning("nodes unknown: error=%s", " ".join(str(error).split())[:200])
                self._unknown = True
                continue
            self._unknown = False
            self._see(found)

    def _see(self, found: tuple[Node, ...]) -> None:
        before, self._now = self._now, found
        ids, known = {node.id for node in found}, {node.id for node in before}
        for node in found:
            if node.id not in known:
                log.info("node joined: node=%s address=%s", node.short_id, node.address)
        for node in before:
            if node.id not in ids:
                log.warning("node lost: node=%s address=%s", node.short_id, node.address)
                self._lost(node)
