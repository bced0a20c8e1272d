"""What has an instance load the tails of deployed cuts, beside the requests that it runs.

So that a device that changes its plan finds the tail there. A load goes over a connection of its
own and takes no request's place; it never holds up who asked for it.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol

from cloud_fn.errors import FunctionFailed, InvalidRequest
from cloud_fn.functions.channel import Connection
from cloud_fn.functions.cuts import Cut, CutsReport
from cloud_fn.functions.slot import Live, Slot
from cloud_fn.functions.spec import Function
from protos.errors import WireError

log = logging.getLogger(__name__)


class Owner(Protocol):
    """Whose instances they are: :class:`cloud_fn.functions.pool.Pool`."""

    def slot(self, function: Function) -> Slot:
        """The function's place, made if there is none, under the limits of now."""

    def known(self, function: Function) -> Slot | None:
        """The function's place as it is, None if there is none."""

    def end(
        self,
        slot: Slot,
        live: Live,
        why: str,
        *,
        replace: bool = False,
        by_itself: bool = False,
    ) -> str | None:
        """Take an instance out of service and end it; gives what is known of its end."""


class Warming:
    """Loads what is deployed and missing, in a thread for each instance that lacks some."""

    def __init__(self, owner: Owner, *, done: Callable[[Slot], None]) -> None:
        """Prepare.

        Args:
            owner: whose instances they are.
            done: called when an instance has loaded what it could, and may have grown by it.
        """
        self._owner = owner
        self._done = done

    def deploy(self, function: Function, cuts: Sequence[Cut]) -> CutsReport:
        """Have *cuts* loaded wherever *function* runs, now and later; starts no instance.

        Returns:
            What is warm already; the rest is loaded while others go on.
        """
        slot = self._owner.slot(function)
        with slot.changed:
            slot.deployed.deploy(cuts)
        self.look(slot)
        return _report(slot)

    def report(self, function: Function) -> CutsReport:
        """What is warm now."""
        slot = self._owner.known(function)
        return CutsReport() if slot is None else _report(slot)

    def used(self, function: Function, instance: str, cut: Cut) -> None:
        """A request has found the tail after *cut* in *instance*, or had it loaded."""
        slot = self._owner.known(function)
        if slot is None:
            return
        with slot.changed:
            slot.deployed.refused.pop(cut, None)
            for live in slot.lives:
                if live.running.name == instance:
                    live.warm.name(cut)

    def look(self, slot: Slot) -> None:
        """Begin to load what is missing, where that may be."""
        with slot.changed:
            due = [live for live in slot.lives if slot.may_warm(live)]
            for live in due:
                live.warming = True
        for live in due:
            name = f"pool.warm {live.running.name}"
            threading.Thread(target=self._warm, args=(slot, live), name=name, daemon=True).start()

    def _warm(self, slot: Slot, live: Live) -> None:
        try:
            try:
                connection = Connection(live.running.address)
            except OSError:
                return  # its next request finds out that it is gone
            with closing(connection):
                while (cut := _next(slot, live)) is not None:
                    if not self._load(slot, live, connection, cut):
                        break
        finally:
            with slot.changed:
                live.warming = False
                live.size_bytes = None
        self._done(slot)

    def _load(self, slot: Slot, live: Live, connection: Connection, cut: Cut) -> bool:
        """Have one tail loaded; gives whether the connection may carry another.

        A tail that cannot be loaded costs its cut and nothing else, unless the instance ends of it.
        One that takes longer than a request may is left alone: what else is held up by it ends by
        the limit of its own.
        """
        limit_s = slot.limits.max_execution_s
        try:
            load_s = connection.warm(cut, timeout_s=limit_s)
        except (InvalidRequest, FunctionFailed) as error:
            _refuse(slot, cut, str(error))
            return True
        except TimeoutError:
            _refuse(slot, cut, f"loading it took longer than {limit_s:g} s (max_execution_s)")
            return False
        except (OSError, WireError):
            with slot.changed:
                ours = not live.over and live in slot.lives
            if ours:  # else it was ended for another reason
                why = self._owner.end(slot, live, "died", replace=True, by_itself=True)
                _refuse(slot, cut, f"an instance ended while it loaded it: {why or 'see the log'}")
            return False
        with slot.changed:
            live.warm.name(cut)
        log.info(
            "cut loaded: instance=%s tensors=%s load_s=%.4f",
            live.running.name,
            ",".join(cut)[:200],
            load_s,
        )
        return True


def _next(slot: Slot, live: Live) -> Cut | None:
    with slot.changed:
        gone = live.over or live.stale or live not in slot.lives
        return None if gone else next(iter(slot.deployed.missing(live.warm)), None)


def _refuse(slot: Slot, cut: Cut, why: str) -> None:
    log.warning(
        "cut not loaded: function=%s tensors=%s reason=%s",
        slot.function.key,
        ",".join(cut)[:200],
        why,
    )
    with slot.changed:
        slot.deployed.refuse(cut, why)


def _report(slot: Slot) -> CutsReport:
    with slot.changed:
        fresh = [live for live in slot.lives if not live.stale]
        first = fresh[0].warm.all() if fresh else ()
        warm = tuple(sorted(cut for cut in first if all(cut in live.warm for live in fresh)))
        return CutsReport(warm=warm, refused=dict(slot.deployed.refused))
