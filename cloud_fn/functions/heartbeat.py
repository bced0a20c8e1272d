"""The gateway's hold on one host: it feels its pulse, and has a dead or hung one replaced."""

import contextlib
import logging
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cloud_fn.errors import InstanceLost
from cloud_fn.functions.host_calls import Close, HostClient, Ping, Reply, Request, Well
from cloud_fn.functions.reach import Near
from cloud_fn.processes import Mark
from cloud_fn.runtime_dir import HostFolder
from protos.errors import WireError
from protos.tensors import Buffer

log = logging.getLogger(__name__)

_LOOK_S = 0.02
_CONNECT_S = 1.0
_END_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How often a host is asked, and when it is given up.

    A hung one is noticed after ``every_s + patience_s`` at most, a dead one at once. Its loop may
    be at one thing for ``busy_s``: a fork server needs 0.6 s for its imports, 3 s on a machine that
    has other things to do (2 cores, 2026-11). One that was placed has ``place_s`` to come up.
    """

    every_s: float = 0.5
    patience_s: float = 1.2
    busy_s: float = 15.0
    place_s: float = 30.0


class Heartbeat:
    """One host, kept there from :meth:`start` to :meth:`close`."""

    def __init__(
        self,
        kind: str,
        files: HostFolder,
        place: Callable[[], None],
        *,
        pulse: Pulse = Pulse(),
    ) -> None:
        """Prepare; nothing is started.

        Args:
            kind: what the host is called in logs.
            files: its folder, where its socket appears when it is ready.
            place: have a host started, or started again where the last one does not come back.
            pulse: how it is watched.
        """
        self.kind = kind
        self._files = files
        self._place = place
        self._pulse = pulse
        self._changed = threading.Condition()
        self._host: Mark | None = None
        self._why = ""
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"host.{kind}", daemon=True)

    def start(self) -> None:
        """Have the host placed, and keep it there."""
        self._keeper.start()

    def reach(self, until_s: float) -> Mark:
        """Wait until the host is there.

        Raises:
            InstanceLost: it was not until *until_s*, on ``time.monotonic``.
        """
        with self._changed:
            while self._host is None:
                left_s = until_s - time.monotonic()
                if self._closing.is_set() or not self._changed.wait(max(0.0, left_s)):
                    why = self._why or "the log says why"
                    raise InstanceLost(
                        f"the host of {self.kind} instances did not come up in time: {why}"
                    )
            return self._host

    def ask(self, request: Request, body: Buffer = b"", *, timeout_s: float) -> tuple[Reply, bytes]:
        """Ask the host that is there now, on a connection of its own.

        Raises:
            InstanceLost: it says why it will not.
            OSError | WireError: it is gone, or says nothing in time.
        """
        client = HostClient(Near(self._files.socket), timeout_s=_CONNECT_S)
        with contextlib.closing(client):
            return client.ask(request, body, timeout_s=timeout_s)

    def close(self) -> None:
        """Have the host end all that it has, and let it go; its process may live on."""
        with self._changed:
            host, self._host = self._host, None
            self._closing.set()
            self._changed.notify_all()
        if host is not None:
            with contextlib.suppress(OSError, WireError, InstanceLost):
                self.ask(Close(), timeout_s=_END_S)
        if self._keeper.ident is not None:
            self._keeper.join(self._pulse.place_s)

    def _keep(self) -> None:
        while not self._closing.is_set():
            try:
                self._place()
            except Exception as error:  # noqa: BLE001  Ray's errors are many, and it may recover
                log.error("host not placed: kind=%s error=%s", self.kind, _sentence(error))
            while (client := self._await()) is not None:
                with contextlib.closing(client):
                    why = self._watch(client)
                if self._closing.is_set():
                    return
                self._bury(why)

    def _await(self) -> HostClient | None:
        """The host that comes up; None if none does."""
        until_s = time.monotonic() + self._pulse.place_s
        while time.monotonic() < until_s and not self._closing.wait(_LOOK_S):
            if (why := self._files.complaint()) is not None:
                log.error("host in trouble: kind=%s why=%s", self.kind, why)
                self._why = why
            with contextlib.suppress(OSError, WireError):
                client = HostClient(Near(self._files.socket), timeout_s=_CONNECT_S)
                try:
                    well = self._feel(client)
                except BaseException:
                    client.close()
                    raise
                with self._changed:
                    self._why = ""
                    self._host = well.host
                    self._changed.notify_all()
                log.info("host is there: kind=%s pid=%d", self.kind, well.host.pid)
                return client
        if not self._closing.is_set():
            log.error("host did not come up: kind=%s s=%g", self.kind, self._pulse.place_s)
        return None

    def _watch(self, client: HostClient) -> str:
        """Feel the host's pulse for as long as it has one; says why it has none any more."""
        poll = select.poll()
        poll.register(client.socket, select.POLLIN)
        while not self._closing.is_set():
            if poll.poll(self._pulse.every_s * 1e3):  # nothing was asked: it has closed
                return "died"
            try:
                well = self._feel(client)
            except (OSError, WireError) as error:
                return "hung" if isinstance(error, TimeoutError) else "died"
            if well.busy_s > self._pulse.busy_s:
                return "stuck"
        return "closed"

    def _feel(self, client: HostClient) -> Well:
        reply, _ = client.ask(Ping(), timeout_s=self._pulse.patience_s)
        if not isinstance(reply, Well):
            raise WireError(f"a host answered {reply!r} to a ping: its code is of another version")
        for name, line in reply.printed:
            log.info("printed: by=%s line=%s", name, line)
        return reply

    def _bury(self, why: str) -> None:
        with self._changed:
            host, self._host = self._host, None
        log.warning("host lost: kind=%s pid=%s why=%s", self.kind, host and host.pid, why)
        self._files.end()  # not its files: the next one may have begun to put its own there


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
