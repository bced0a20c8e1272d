"""The gateway's hold on one host: it feels its pulse, and has a dead or hung one replaced."""

import contextlib
import logging
import secrets
import select
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cloud_fn.errors import InstanceLost
from cloud_fn.functions.host_calls import Close, HostClient, Leave, Ping, Reply, Request, Well
from cloud_fn.functions.reach import Address, NotThere
from cloud_fn.functions.stations import Hopeless, Station
from cloud_fn.processes import Mark
from protos.errors import WireError
from protos.tensors import Buffer

log = logging.getLogger(__name__)

_LOOK_S = 0.02
_CONNECT_S = 1.0
_END_S = 5.0
_LEAVE_S = 3.0
"""Then the keeper waits for a Ray that is gone. A shared host that it may yet place ends by itself,
for nobody speaks to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How often a host is asked, and when it is given up.

    A hung one is noticed after ``every_s + patience_s`` at most, a dead one at once. Its loop may
    be at one thing for ``busy_s``: a fork server needs 0.6 s for its imports, 3 s on a machine that
    has other things to do (2 cores, 2026-11). One that was placed has ``place_s`` to come up, and
    one that cannot is placed again after ``again_s``.
    """

    every_s: float = 0.5
    patience_s: float = 1.2
    busy_s: float = 15.0
    place_s: float = 30.0
    again_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One of several gateways that share hosts: its name, and what it may use of nodes' memory."""

    gateway: str
    holds: Callable[[], Mapping[str, int]] = dict


@dataclass(frozen=True, slots=True, kw_only=True)
class There:
    """Where a host listens, its process, its node's memory, and the lease by which it works for us.

    The lease is empty where the host works for nobody else.
    """

    address: Address
    pid: int
    memory_bytes: int
    lease: str


class Heartbeat:
    """One host, kept there from :meth:`start` to :meth:`close`."""

    def __init__(
        self,
        name: str,
        station: Station,
        *,
        pulse: Pulse = Pulse(),
        tenant: Tenant | None = None,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            name: what the host is called in logs.
            station: where it is to be.
            pulse: how it is watched.
            tenant: who we are to a host that works for others, too.
        """
        self.name = name
        self._station = station
        self._pulse = pulse
        self._tenant = tenant
        self._there: There | None = None
        self._lease = ""
        self._changed = threading.Condition()
        self._host: Mark | None = None
        self._address: Address | None = None
        self._failed = False
        self._why = ""
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"host.{name}", daemon=True)

    def start(self) -> None:
        """Have the host placed, and keep it there."""
        self._keeper.start()

    @property
    def address(self) -> Address | None:
        """Where the host listens; None while it is not there."""
        there = self.there
        return None if there is None else there.address

    @property
    def there(self) -> There | None:
        """How to use the host; None while it is not there."""
        with self._changed:
            return None if self._host is None else self._there

    @property
    def is_coming(self) -> bool:
        """Whether the host is not there, and nothing speaks against its coming soon."""
        with self._changed:
            return self._host is None and not self._failed and not self._closing.is_set()

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
                        f"the host of {self.name} instances did not come up in time: {why}"
                    )
            return self._host

    def ask(
        self,
        request: Request,
        body: Buffer = b"",
        *,
        timeout_s: float,
        at: Address | None = None,
    ) -> tuple[Reply, bytes]:
        """Ask the host at *at*, else the one that was there last, on a connection of its own.

        Raises:
            InstanceLost: it says why it will not.
            OSError | WireError: it is gone, or says nothing in time.
        """
        address = at or self._address
        if address is None:
            raise ConnectionRefusedError(f"the host of {self.name} instances has yet to come up")
        with contextlib.closing(HostClient(address, timeout_s=_CONNECT_S)) as client:
            return client.ask(request, body, timeout_s=timeout_s)

    def close(self) -> None:
        """Have the host end all that it has, and let it go."""
        with self._changed:
            host, self._host = self._host, None
            self._closing.set()
            self._changed.notify_all()
        if host is not None:
            with contextlib.suppress(OSError, WireError, InstanceLost):
                lease = self._lease
                self.ask(Leave(lease=lease) if lease else Close(), timeout_s=_END_S)
        if self._keeper.ident is not None:
            self._keeper.join(self._pulse.place_s if self._tenant is None else _LEAVE_S)
        self._station.give_up()

    def give_up(self) -> None:
        """Its node is gone: whoever waits for the host, or for an instance of it, is told so."""
        with self._changed:
            self._host = None
            self._why = "its node was lost"
            self._closing.set()
            self._changed.notify_all()
        self._station.give_up()

    def _keep(self) -> None:
        while not self._closing.is_set():
            try:
                self._station.place()
            except Exception as error:  # noqa: BLE001  Ray's errors are many, and it may recover
                log.error("host not placed: kind=%s error=%s", self.name, _sentence(error))
            while (client := self._await()) is not None:
                with contextlib.closing(client):
                    why = self._watch(client)
                if self._closing.is_set():
                    return
                self._bury(why)
                if not self._station.comes_back:
                    break

    def _await(self) -> HostClient | None:
        """The host that comes up; None if none does."""
        until_s = time.monotonic() + self._pulse.place_s
        while time.monotonic() < until_s and not self._closing.wait(_LOOK_S):
            if (why := self._station.complaint()) is not None:
                self._complain(why)
            try:
                address = self._station.address()
                client = HostClient(address, timeout_s=_CONNECT_S)
            except Hopeless as error:
                self._complain(str(error))
                self._closing.wait(self._pulse.again_s)
                return None
            except OSError as error:
                if isinstance(error, NotThere) and error.complaint is not None:
                    self._complain(error.complaint)
                continue
            with contextlib.suppress(OSError, WireError):
                try:
                    self._lease = "" if self._tenant is None else secrets.token_hex(8)
                    well = self._feel(client)
                except BaseException:
                    client.close()
                    raise
                with self._changed:
                    self._why, self._failed = "", False
                    self._host, self._address = well.host, address
                    self._there = There(
                        address=address,
                        pid=well.host.pid,
                        memory_bytes=well.memory_bytes,
                        lease=self._lease,
                    )
                    self._changed.notify_all()
                log.info("host is there: kind=%s pid=%d", self.name, well.host.pid)
                return client
        if not self._closing.is_set():
            self._failed = True
            log.error("host did not come up: kind=%s s=%g", self.name, self._pulse.place_s)
        return None

    def _complain(self, why: str) -> None:
        log.error("host in trouble: kind=%s why=%s", self.name, why)
        with self._changed:
            self._why, self._failed = why, True

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
        ping = Ping()
        if self._tenant is not None:
            holds = dict(self._tenant.holds())
            ping = Ping(lease=self._lease, gateway=self._tenant.gateway, holds=holds)
        reply, _ = client.ask(ping, timeout_s=self._pulse.patience_s)
        if not isinstance(reply, Well):
            raise WireError(f"a host answered {reply!r} to a ping: its code is of another version")
        for name, line in reply.printed:
            log.info("printed: by=%s line=%s", name, line)
        return reply

    def _bury(self, why: str) -> None:
        with self._changed:
            host, self._host = self._host, None
        log.warning("host lost: kind=%s pid=%s why=%s", self.name, host and host.pid, why)
        self._station.end()  # not its files: the next one may have begun to put its own there


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
