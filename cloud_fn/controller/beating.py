"""The gateway's side: it says what it has, and keeps to the shares that it is told."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from cloud_fn.controller.messages import BEAT_S, LAPSE_S, Beat, Need
from cloud_fn.errors import ServeError
from cloud_fn.functions.budget import Budget
from cloud_fn.functions.shares import Shares

log = logging.getLogger(__name__)

_STOP_S = 3.0
"""Then it waits for a Ray that is gone, which may take minutes, and ends with the process."""


class Unheard(Exception):
    """The controller did not answer; the message is a clause that says why."""


class Link(Protocol):
    """A way to the controller."""

    def beat(self, beat: Beat) -> Mapping[str, int]:
        """Say *beat*; gives what may be used of each node.

        Raises:
            Unheard: nobody answered.
        """


class Hosts(Protocol):
    """What hosts there are: :class:`cloud_fn.functions.ray_launcher.RayLauncher`."""

    def memory(self) -> Mapping[str, int]:
        """What each node has that is there and where a host was once, in bytes."""

    def hosts(self) -> Collection[object]:
        """The hosts that are there now."""


class Beating:
    """A thread that beats from :meth:`start` to :meth:`stop`. No request waits for it.

    While nobody answers, the gateway goes on with what it holds. Only one that has had no answer
    for long and has no host either, so that nobody can know of it, holds nothing any more.
    """

    def __init__(
        self,
        link: Link,
        hosts: Hosts,
        budget: Budget,
        shares: Shares,
        *,
        gateway: str,
        address: str,
        budget_bytes: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            link: to the controller.
            hosts: the gateway's.
            budget: what its instances take, and who adopts the shares.
            shares: those it has adopted.
            gateway: who it is.
            address: where it listens.
            budget_bytes: what all gateways may use of a node; None is half of what it has.
            clock: seconds, never going back.
        """
        self._link = link
        self._hosts = hosts
        self._budget = budget
        self._shares = shares
        self._gateway = gateway
        self._address = address
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._answered_s = clock()
        self._silent = False
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway.beat", daemon=True)
        budget.lacks = self._wake.set

    def join(self, timeout_s: float, *, stop: threading.Event) -> bool:
        """Beat until there is a share, and go on beating; False when *stop* was set before.

        Raises:
            ServeError: there was none within *timeout_s*.
        """
        until_s = self._clock() + timeout_s
        while not any(self._shares.now().values()):
            self.beat()
            if self._clock() > until_s:
                raise ServeError(
                    "this gateway got no share of any node's memory: "
                    + ("no controller answers" if self._silent else "others hold all of it")
                    + "; `isthmus controller show` at another gateway says who"
                )
            if stop.wait(BEAT_S / 10):
                return False
        self._thread.start()
        return True

    def beat(self) -> None:
        """Say once what there is, and adopt what is answered."""
        uses, waits_bytes = self._budget.uses()
        began_s = self._clock()
        beat = Beat(
            gateway=self._gateway,
            address=self._address,
            budgets={
                node: self._budget_bytes or has // 2 for node, has in self._hosts.memory().items()
            },
            needs={
                node: Need(used_bytes=use.used_bytes, idle_bytes=use.idle_bytes)
                for node, use in uses.items()
            },
            waits_bytes=waits_bytes,
            holds=dict(self._shares.now()),
        )
        try:
            shares = self._link.beat(beat)
        except Unheard as error:
            if not self._silent:
                log.warning("controller not heard, going on without: why=%s", error)
            self._silent = True
            if self._clock() - self._answered_s > LAPSE_S and not self._hosts.hosts():
                self._budget.adopt({})
            return
        if self._silent:
            log.info("controller is there")
        self._answered_s, self._silent = began_s, False
        self._budget.adopt(shares)

    def stop(self) -> None:
        """End the thread; the gateway still holds what it has."""
        self._stopped.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        while True:
            self._wake.wait(BEAT_S)
            if self._stopped.wait(BEAT_S / 20):  # those who lack something together ask together
                return
            self._wake.clear()
            try:
                self.beat()
            except Exception:
                log.exception("beat failed")
