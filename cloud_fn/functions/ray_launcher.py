"""Instances from hosts that are Ray actors. Ray is asked for hosts only, never for an instance."""

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cloud_fn import processes
from cloud_fn.errors import InstanceLost
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.heartbeat import Heartbeat, Pulse
from cloud_fn.functions.host_calls import End, Reason, Start, Started, Why
from cloud_fn.functions.host_settings import HostSettings
from cloud_fn.functions.launch import CPU, Running
from cloud_fn.functions.reach import Near
from cloud_fn.functions.spec import Function
from cloud_fn.runtime_dir import RuntimeDir
from protos.errors import WireError

log = logging.getLogger(__name__)

_END_S = 6.0
_WHY_S = 2.0
_AGAIN_S = 0.02
_GONE_S = 5.0
_AFTER_FAILURE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What Ray sets aside for one host; ``gpus`` may be a fraction."""

    cpus: float = 0.1
    gpus: float = 0.0


class HostActor:
    """A host as an actor: Ray places it, watches its process and starts it again."""

    def __init__(self, settings: str) -> None:
        """Begin to be one.

        Raises:
            RuntimeError: the gateway is gone; Ray does not start an actor again that cannot begin.
        """
        given = msgspec.json.decode(settings, type=HostSettings)
        if not processes.alive(given.gateway):
            raise RuntimeError("the gateway of this host is gone")
        threading.Thread(target=_be_host, args=(given,), name="host.loop").start()


def _be_host(settings: HostSettings) -> None:
    from cloud_fn.functions.host import Host

    try:
        Host(settings).run()
    except Exception:
        log.exception("host ended")
        time.sleep(_AFTER_FAILURE_S)
        os._exit(1)  # the whole worker is the host, and Ray starts another
    if not processes.alive(settings.gateway):
        os._exit(0)
    # Else it was told to end, and whoever told it has Ray end the worker: not to start it again.


class RayLauncher:
    """A :class:`cloud_fn.functions.launch.Launcher`; Ray must be connected."""

    def __init__(
        self,
        runtime: RuntimeDir,
        *,
        kinds: Mapping[str, Resources],
        defaults: Confinement,
        spares: int = 2,
        readable: tuple[Path, ...] = (),
        pulse: Pulse = Pulse(),  # noqa: B008  frozen
    ) -> None:
        """Prepare; nothing is started.

        Args:
            runtime: where hosts keep what is theirs.
            kinds: the hosts that there may be; one is placed when its first instance is wanted.
            defaults: the limits of an instance that is given none.
            spares: how many processes each host forks ahead.
            readable: what instances may read, beside what every program reads.
            pulse: how hosts are watched.
        """
        self._runtime = runtime
        self._kinds = kinds
        self._defaults = defaults
        self._spares = spares
        self._readable = tuple(str(path.absolute()) for path in readable)
        self._pulse = pulse
        self._hosts: dict[str, Heartbeat] = {}
        self._actors: dict[str, Any] = {}  # Ray ends an actor nobody holds
        self._numbers = itertools.count(1)  # Ray may not have forgotten the one before
        self._lock = threading.Lock()

    def open(self, kind: str = CPU, *, timeout_s: float) -> None:
        """Have the host of that *kind* placed, and wait until it is there.

        Raises:
            InstanceLost: there is no such kind, or it does not come up within *timeout_s*.
        """
        self._host(kind).reach(time.monotonic() + timeout_s)

    def start(
        self,
        function: Function,
        *,
        timeout_s: float,
        confinement: Confinement | None = None,
        kind: str = CPU,
    ) -> Running:
        """See :class:`cloud_fn.functions.launch.Launcher`."""
        until_s = time.monotonic() + timeout_s
        host = self._host(kind)
        while True:
            host.reach(until_s)
            left_s = max(_AGAIN_S, until_s - time.monotonic())
            request = Start(
                label=f"{function.model}-{function.version}",
                confinement=confinement or self._defaults,
                timeout_s=left_s,
            )
            try:
                reply, _ = host.ask(request, msgspec.json.encode(function), timeout_s=left_s)
            except (OSError, WireError) as error:
                if time.monotonic() + _AGAIN_S > until_s:
                    raise InstanceLost(
                        f"no instance of {function.key} came up within {timeout_s:g} s "
                        "(instance.start_timeout_s): the log says why"
                    ) from error
                time.sleep(_AGAIN_S)  # the host was lost; its keeper will see that, too
                continue
            assert isinstance(reply, Started)
            return Running(
                name=reply.name,
                process=reply.process,
                address=Near(Path(reply.socket)),
                kind=kind,
            )

    def end(self, running: Running) -> None:
        """See :class:`cloud_fn.functions.launch.Launcher`."""
        with contextlib.suppress(OSError, WireError, InstanceLost):
            self._host(running.kind).ask(End(name=running.name), timeout_s=_END_S)
        if processes.kill(running.process):  # its host could not
            processes.wait_gone([running.process], _GONE_S)

    def why_ended(self, running: Running) -> str | None:
        """See :class:`cloud_fn.functions.launch.Launcher`."""
        host = self._host(running.kind)
        with contextlib.suppress(OSError, WireError, InstanceLost):
            reply, _ = host.ask(Why(name=running.name), timeout_s=_WHY_S)
            assert isinstance(reply, Reason)
            if reply.why is not None or processes.alive(running.process):
                return reply.why
        return None if processes.alive(running.process) else "its host ended"

    def close(self) -> None:
        """End all hosts, and all that they have."""
        with self._lock:
            hosts, self._kinds = tuple(self._hosts.values()), {}
        for host in hosts:
            host.close()
        if ray.is_initialized():
            for actor in self._actors.values():
                ray.kill(actor)
        for host in hosts:
            self._runtime.host(host.kind).clear()

    def _host(self, kind: str) -> Heartbeat:
        with self._lock:
            if kind in self._hosts:
                return self._hosts[kind]
            if kind not in self._kinds:
                raise InstanceLost(
                    f"there is no host of kind {kind!r}: this server has "
                    + (", ".join(sorted(self._kinds)) or "none")
                )
            made = Heartbeat(
                kind, self._runtime.host(kind), lambda: self._place(kind), pulse=self._pulse
            )
            self._hosts[kind] = made
            made.start()
            return made

    def _place(self, kind: str) -> None:
        """Ask Ray for a host; it starts one again that dies, so this is called when that fails."""
        if (before := self._actors.pop(kind, None)) is not None:
            ray.kill(before)
        context = ray.get_runtime_context()
        node = context.get_node_id()
        me = processes.mark(os.getpid())
        assert me is not None
        settings = HostSettings(
            folder=str(self._runtime.host(kind).path),
            gateway=me,
            spares=self._spares,
            readable=self._readable,
        )
        resources = self._kinds[kind]
        # Ray's types know an actor's methods only where its class imports Ray, which ours does not.
        options: Any = ray.remote(HostActor).options(
            name=f"isthmus-host-{node[:12]}-{kind}-{me.pid}-{next(self._numbers)}",
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_restarts=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        self._actors[kind] = options.remote(msgspec.json.encode(settings).decode())
