"""A host, as its gateway sees it: what may be asked of it, over a Unix socket of its own."""

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from pathlib import Path

import msgspec
import psutil

from cloud_fn import processes
from cloud_fn.errors import InstanceLost
from cloud_fn.functions import host_calls
from cloud_fn.functions.brood import Brood
from cloud_fn.functions.held import Held
from cloud_fn.functions.host_calls import (
    Close,
    Done,
    End,
    Leave,
    Ping,
    Reason,
    Refused,
    Reply,
    Request,
    Start,
    Started,
    Weigh,
    Weighed,
    Well,
    Why,
)
from cloud_fn.functions.host_settings import HostSettings
from cloud_fn.functions.leases import Leases, Member, Roll
from cloud_fn.functions.listener import listening, peer_of
from cloud_fn.functions.spare import Order, Told
from cloud_fn.processes import Mark
from cloud_fn.runtime_dir import HostFolder
from protos.errors import WireError

log = logging.getLogger(__name__)

_TRIES = 3
_END_S = 5.0
_NOTICED_S = 1.0
_LATER_S = 0.1


class Host:
    """Starts instances, ends them and says how they are. Ray only keeps the process alive."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings
        self._files = HostFolder(Path(settings.folder))
        self._brood = Brood(settings)
        self._leases = Leases()
        self._is_unconfined = False

    def run(self) -> None:
        """Serve until told to close or the gateway is gone; see :meth:`Brood.run`.

        Raises:
            InstanceLost | OSError: it cannot be a host; the gateway hears of it, too.
        """
        try:
            self._brood.run(self._listen)
        except (InstanceLost, OSError) as error:
            self._files.complain(" ".join(str(error).split()))
            raise

    def start(self, request: Start, function: bytes) -> Started:
        """Make an instance of a spare.

        Raises:
            InstanceLost: none came up within the request's time, or each one ended on the way.
            ConnectionResetError: the lease that it is asked for under is over.
        """
        until_s = time.monotonic() + request.timeout_s
        order = Order(
            function=msgspec.Raw(function),
            confinement=request.confinement,
        )
        for _ in range(_TRIES):
            held = self._brood.take(request.label, until_s, request.lease)
            held.max_memory_bytes = request.confinement.max_memory_bytes
            told = _give(held, order, until_s)
            if told is None:
                continue
            if told.error is not None:
                held.dismissed = True
                held.kill()
                raise InstanceLost(f"no instance of {request.label} could start: {told.error}")
            if not told.confined and not self._is_unconfined:
                self._is_unconfined = True
                self._brood.say("functions can write outside their folders: no Landlock here")
            if request.lease and request.lease not in self._leases:  # it ended on the way
                _dismiss(held)
                raise ConnectionResetError("the gateway has left")
            return Started(name=held.name, process=held.fork.mark, socket=str(held.fork.socket))
        why, _ = self._brood.fate(held.name)
        raise InstanceLost(f"{_TRIES} instances of {request.label} ended before they served: {why}")

    def end(self, name: str) -> None:
        """End an instance at once, with all that it started, and what it left on disk.

        Raises:
            InstanceLost: it is still there after 5 s.
        """
        held = self._brood.find(name)
        if held is None:
            return
        _dismiss(held)
        if not held.gone.wait(_END_S):
            raise InstanceLost(f"instance {name} cannot be ended: it hangs in the system")

    def leave(self, lease: str) -> None:
        """A gateway has no use for the host any more; without any, the host ends.

        Raises:
            InstanceLost: something of the gateway's is still there after 5 s.
        """
        owned = self._brood.owned(lease)
        self._part(lease)
        for held in owned:
            if not held.gone.wait(_END_S):
                raise InstanceLost(f"instance {held.name} cannot be ended: it hangs in the system")
        if self._leases.close_if_none():
            self._brood.close(_END_S)

    def why_ended(self, name: str) -> tuple[str | None, bytes]:
        """Why an instance ended by itself, None if it did not, and the last that it printed."""
        held = self._brood.find(name)
        if held is not None:
            held.ended.wait(_NOTICED_S)  # whoever asks may have seen it go before our loop did
        return self._brood.fate(name)

    def weigh(self, name: str) -> Weighed:
        """What an instance takes, with all that it has started."""
        held = self._brood.find(name)
        return Weighed(private_bytes=0 if held is None else _weight(held))

    def roll(self, *, node: str, kind: str) -> Roll:
        """Whom the host works for and what it has, to whoever keeps the books."""
        leases, members = self._leases.all(), self._brood.owned()
        gateways = {lease.id: lease.gateway for lease in leases}
        return Roll(
            node=node,
            kind=kind,
            process=_self(),
            memory_bytes=psutil.virtual_memory().total,
            spares=self._brood.counts()[0],
            leases=leases,
            instances=tuple(
                Member(
                    name=held.name,
                    gateway=gateways.get(held.owner, ""),
                    private_bytes=_weight(held),
                )
                for held in members
            ),
        )

    def well(self, lease: str = "") -> Well:
        """How the host is; takes the lines that instances under the *lease* have printed."""
        spares, instances = self._brood.counts()
        return Well(
            host=_self(),
            busy_s=self._brood.busy_s(),
            spares=spares,
            instances=instances,
            memory_bytes=psutil.virtual_memory().total,
            printed=self._brood.printed(lease),
        )

    def _listen(self) -> None:
        niceness = os.getpriority(os.PRIO_PROCESS, 0)
        if niceness > 0:
            self._brood.say(
                f"instances run at niceness {niceness}: start the Ray that was joined with "
                "RAY_worker_niceness=0"
            )
        sock = listening(self._files.socket)
        threading.Thread(target=self._let_in, args=(sock,), name="host.accept", daemon=True).start()

    def _let_in(self, sock: socket.socket) -> None:
        while True:
            try:
                connection, _ = sock.accept()
            except OSError as error:  # too many files are open: some will be closed
                log.error("nobody let in: error=%s", error)
                time.sleep(_LATER_S)
                continue
            if peer_of(connection) != self._settings.gateway.pid:
                connection.close()  # an instance, say, that would end another
                continue
            threading.Thread(
                target=self._serve, args=(connection,), name="host.serve", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        leases: set[str] = set()
        try:
            with connection, contextlib.suppress(WireError, OSError):
                while True:
                    request, body = host_calls.receive(connection)
                    if isinstance(request, Ping) and request.lease:
                        leases.add(request.lease)
                        if not self._leases.renew(request):
                            return  # it is ending: whoever came has another host placed
                        connection.settimeout(self._settings.silence_s)
                    self._reply(connection, request, bytes(body))
        finally:
            for lease in leases:
                self._part(lease)

    def _reply(self, connection: socket.socket, request: Request, body: bytes) -> None:
        try:
            reply, rest = self._answer(request, body)
        except InstanceLost as error:
            reply, rest = Refused(reason=str(error)), b""
        try:
            host_calls.send(connection, reply, rest)
        except OSError:
            if isinstance(reply, Started):  # nobody knows of it
                self.end(reply.name)
            raise

    def _part(self, lease: str) -> None:
        """A lease is over: all that was started under it ends."""
        if self._leases.drop(lease):
            for held in self._brood.owned(lease):
                _dismiss(held)
            self._brood.forget(lease)

    def _answer(self, request: Request, body: bytes) -> tuple[Reply, bytes]:
        reply: Reply = Done()
        rest = b""
        match request:
            case Start():
                reply = self.start(request, body)
            case End(name=name):
                self.end(name)
            case Why(name=name):
                why, rest = self.why_ended(name)
                reply = Reason(why=why)
            case Weigh(name=name):
                reply = self.weigh(name)
            case Ping(lease=lease):
                reply = self.well(lease)
            case Leave(lease=lease):
                self.leave(lease)
            case Close():
                self._brood.close(_END_S)
        return reply, rest


def _dismiss(held: Held) -> None:
    """End it at once; one that has ended by itself before keeps its reason."""
    held.dismissed = processes.alive(held.fork.mark)
    held.kill()


def _weight(held: Held) -> int:
    return processes.private_bytes(processes.tree(held.pid))


def _give(held: Held, order: Order, until_s: float) -> Told | None:
    """What a spare makes of its order; None when it ended.

    Raises:
        InstanceLost: it says nothing in time.
    """
    control = held.fork.control
    try:
        control.send_bytes(msgspec.json.encode(order))
        if not control.poll(max(0.0, until_s - time.monotonic())):
            held.dismissed = True
            held.kill()
            raise InstanceLost(
                f"{held.name} was ended because it took too long to start "
                "(instance.start_timeout_s)"
            )
        return msgspec.json.decode(control.recv_bytes(), type=Told)
    except (EOFError, OSError):
        return None


def _self() -> Mark:
    mark = processes.mark(os.getpid())
    assert mark is not None
    return mark


def main(settings: str) -> None:
    """Be a host: the whole process is one until it ends.

    Args:
        settings: :class:`HostSettings` as JSON.
    """
    Host(msgspec.json.decode(settings, type=HostSettings)).run()


if __name__ == "__main__":
    main(sys.argv[1])
