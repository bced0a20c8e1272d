"""A host that several gateways share: its folder, the host itself, and the door before it."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cloud_fn import processes
from cloud_fn.errors import InstanceLost, ServeError
from cloud_fn.functions.far_door import Door
from cloud_fn.functions.host_calls import Close, HostClient
from cloud_fn.functions.host_settings import SILENCE_S, HostSettings
from cloud_fn.functions.leases import Roll
from cloud_fn.functions.proving import fresh_secret
from cloud_fn.functions.reach import Near
from cloud_fn.functions.spare import ENGINE
from cloud_fn.processes import Mark
from cloud_fn.runtime_dir import HostFolder, RuntimeDir
from protos.errors import WireError

if TYPE_CHECKING:
    from cloud_fn.functions.host import Host

log = logging.getLogger(__name__)

_END_S = 5.0
_SAID_S = 0.5
"""How long its process outlives a host: whoever had it end is told so through the door."""


class FarSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Given to a host when it is placed behind a door.

    Attributes:
        node: Ray's name for the node.
        base: below which folder it makes its own, as a server on that node would.
        kind: see :data:`cloud_fn.functions.launch.CPU`.
        address: the node's, where the door listens.
        secret: what gateways prove themselves by, and the door; empty is to make one.
        before: the last host of the kind on the node, ended first if it hangs there.
        spares: see :class:`HostSettings`, as the rest.
        silence_s: it ends when no gateway says anything for so long, and a gateway's instances
            when that gateway does not.
    """

    node: str
    base: str
    kind: str
    address: str
    secret: str = ""
    before: Mark | None = None
    spares: int = 2
    readable: tuple[str, ...] = ()
    engine: str = ENGINE
    silence_s: float = SILENCE_S


class Opened(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The port at which the door listens; None with the sentence that says why there is none.

    ``secret`` is what to prove oneself by there.
    """

    process: Mark
    port: int | None = None
    secret: str = ""
    why: str = ""


class FarHost:
    """Lives for as long as its process: :meth:`open` begins it, and its end ends the process."""

    def __init__(self, settings: FarSettings, *, leave: Callable[[int], None] = os._exit) -> None:
        """Prepare; nothing is started.

        Args:
            settings: what it is given.
            leave: ends the process, with an exit code.
        """
        self._settings = settings
        self._leave = leave
        self._over = threading.Event()
        self._host: Host | None = None

    def open(self) -> Opened:
        """Open the door, and begin to be a host behind it."""
        given, me = self._settings, processes.mark(os.getpid())
        assert me is not None
        node = f"node {given.node[:12]}"
        for path in given.readable:
            if not os.access(path, os.R_OK | os.X_OK):
                return Opened(process=me, why=f"{node} cannot read {path}: mount it there")
        if given.before is not None:
            processes.end_all((given.before,))
        try:
            runtime = RuntimeDir.create(Path(given.base))
        except ServeError as error:
            return Opened(process=me, why=f"{node} cannot have a host: {error}")
        files, secret = runtime.host(given.kind), given.secret or fresh_secret()
        door = Door(
            files,
            secret=secret.encode(),
            silence_s=given.silence_s,
            silent=self._over.set,
        )
        try:
            port = door.open(given.address)
        except (OSError, ValueError) as error:
            runtime.remove()
            return Opened(process=me, why=f"{node} cannot have a host: {error}")
        threading.Thread(
            target=self._watch, args=(files, runtime), name="far.watch", daemon=True
        ).start()
        # The kernel ends the fork server together with the thread that started it.
        threading.Thread(target=self._be, args=(files, runtime, me), name="host.loop").start()
        return Opened(process=me, port=port, secret=secret)

    def roll(self) -> Roll | None:
        """What the host has; None while there is none."""
        given, host = self._settings, self._host
        return None if host is None else host.roll(node=given.node, kind=given.kind)

    def _be(self, files: HostFolder, runtime: RuntimeDir, me: Mark) -> None:
        from cloud_fn.functions.host import Host

        settings = HostSettings(
            folder=str(files.path),
            gateway=me,  # whoever comes in through the door is this process, to those inside
            spares=self._settings.spares,
            readable=self._settings.readable,
            engine=self._settings.engine,
            silence_s=self._settings.silence_s,
        )
        code = 0
        try:
            self._host = Host(settings)
            self._host.run()
        except Exception:
            log.exception("host ended")
            code = 1
        self._over.wait(_SAID_S)
        self._end(runtime, code)

    def _watch(self, files: HostFolder, runtime: RuntimeDir) -> None:
        self._over.wait()
        with (
            contextlib.suppress(OSError, WireError, InstanceLost),
            contextlib.closing(HostClient(Near(files.socket), timeout_s=_END_S)) as client,
        ):
            client.ask(Close(), timeout_s=_END_S)
        self._end(runtime, 0)

    def _end(self, runtime: RuntimeDir, code: int) -> None:
        runtime.remove()
        self._leave(code)
