"""Which host the next instance comes from: one of each kind on each node, placed when wanted."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cloud_fn.errors import InstanceLost
from cloud_fn.functions.heartbeat import Heartbeat, Pulse, Tenant
from cloud_fn.functions.nodes import Node, Resources, choose
from cloud_fn.functions.reach import Address
from cloud_fn.functions.stations import Station

_AGAIN_S = 0.02
_AVOID_S = 3.0
"""For how long a node is tried last on which a start just failed; its heartbeat needs less than 2 s
to find out what is the matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """A host that was there, and where it listened then: the next one may listen elsewhere.

    ``lease`` is the one that we had there, empty where hosts are one gateway's own.
    """

    node: str
    heart: Heartbeat
    address: Address
    lease: str = ""


class Placing:
    """Keeps the hosts' heartbeats, from any thread, until :meth:`close`."""

    def __init__(
        self,
        nodes: Callable[[], tuple[Node, ...]],
        *,
        own: str,
        kinds: Mapping[str, Resources],
        station: Callable[[Node, str], Station],
        pulse: Pulse = Pulse(),  # noqa: B008  frozen
        tenant: Tenant | None = None,
    ) -> None:
        """Prepare; nothing is placed.

        Args:
            nodes: those that are alive now.
            own: the gateway's node.
            kinds: the hosts that there may be, and what each needs of its node.
            station: where a host of a kind on a node is to be.
            pulse: how hosts are watched.
            tenant: who we are to hosts that work for others, too.
        """
        self._nodes = nodes
        self._own = own
        self._kinds = kinds
        self._station = station
        self._pulse = pulse
        self._tenant = tenant
        self._lock = threading.Lock()
        self._hearts: dict[tuple[str, str], Heartbeat] = {}
        self._counts: Counter[str] = Counter()
        self._avoided_s: dict[str, float] = {}
        self._memory: dict[str, int] = {}
        self._closed = False

    def pick(
        self, kind: str, until_s: float, *, fits: Callable[[str], bool] = lambda _: True
    ) -> Picked:
        """The host for one more instance, which is counted as running there from now on.

        A host that has yet to come is not waited for while another can do; it takes its share once
        it is there. They are placed one at a time, as instances are wanted. A node that the
        instance does not *fit* is passed by.

        Raises:
            InstanceLost: there is no such kind, or no host of it until *until_s*.
        """
        while True:
            with self._lock:
                order = self._order(kind)
                picked = self._walk(order, kind, fits)
                first = self._hearts.get((order[0].id, kind)) if order else None
            if picked is not None:
                return picked
            if first is None:
                raise InstanceLost(
                    f"no node has what a host of {kind} instances needs ([ray] in the "
                    "configuration says what that is)"
                )
            if time.monotonic() + _AGAIN_S > until_s:
                first.reach(until_s)
                raise InstanceLost(
                    "no node whose host is there has memory for it (memory_budget_bytes): "
                    "try again later, or raise it"
                )
            time.sleep(_AGAIN_S)

    def memory(self) -> dict[str, int]:
        """What each node has that is there and where a host was once, in bytes."""
        with self._lock:
            for (node, _), heart in self._hearts.items():
                if (there := heart.there) is not None:
                    self._memory[node] = there.memory_bytes
            return dict(self._memory)

    def hosts(self) -> tuple[tuple[str, str, int], ...]:
        """The hosts that are there now: of which node and kind, and the process's number."""
        with self._lock:
            found = tuple((*key, heart.there) for key, heart in self._hearts.items())
        return tuple((node, kind, there.pid) for node, kind, there in found if there is not None)

    def find(self, node: str, kind: str) -> Heartbeat | None:
        """The heartbeat of a host; None where its node is gone."""
        with self._lock:
            return self._hearts.get((node, kind))

    def count(self, node: str, by: int) -> None:
        """So many instances more run on *node*."""
        with self._lock:
            self._counts[node] += by

    def avoid(self, node: str) -> None:
        """A start on *node* failed: others come first for a while."""
        with self._lock:
            self._avoided_s[node] = time.monotonic() + _AVOID_S

    def lose(self, node: Node) -> None:
        """A node is gone, and so are its hosts."""
        with self._lock:
            gone = [self._hearts.pop(key) for key in tuple(self._hearts) if key[0] == node.id]
            self._memory.pop(node.id, None)
        for heart in gone:
            heart.give_up()

    def close(self) -> None:
        """End all hosts, and all that they have."""
        with self._lock:
            self._closed = True
            hearts = tuple(self._hearts.values())
        closers = [threading.Thread(target=heart.close) for heart in hearts]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()

    def _order(self, kind: str) -> tuple[Node, ...]:
        if self._closed or kind not in self._kinds:
            raise InstanceLost(
                f"there is no host of kind {kind!r}: this server has "
                + (", ".join(sorted(self._kinds)) if not self._closed else "none")
            )
        now_s = time.monotonic()
        avoid = [node for node, until_s in self._avoided_s.items() if until_s > now_s]
        return choose(
            self._nodes(), self._counts, own=self._own, needs=self._kinds[kind], avoid=avoid
        )

    def _walk(
        self, order: tuple[Node, ...], kind: str, fits: Callable[[str], bool]
    ) -> Picked | None:
        """The first host that is there; one that nobody has asked for yet is placed on the way."""
        hearts = [self._hearts.get((node.id, kind)) for node in order]
        may_place = not any(heart is not None and heart.is_coming for heart in hearts)
        for node, heart in zip(order, hearts, strict=True):
            if heart is None:
                if may_place:
                    may_place = False
                    self._place(node, kind)
            elif (there := heart.there) is not None and fits(node.id):
                self._counts[node.id] += 1
                return Picked(node=node.id, heart=heart, address=there.address, lease=there.lease)
        return None

    def _place(self, node: Node, kind: str) -> None:
        name = kind if node.id == self._own else f"{kind}@{node.short_id}"
        station = self._station(node, kind)
        heart = Heartbeat(name, station, pulse=self._pulse, tenant=self._tenant)
        self._hearts[node.id, kind] = heart
        heart.start()
