"""Instances from hosts that are Ray actors. Ray is asked for hosts only, never for an instance."""

import contextlib
import hashlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import ray

from cloud_fn import processes, ray_head
from cloud_fn.errors import InstanceLost
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.far_host import FarSettings
from cloud_fn.functions.heartbeat import Pulse, Tenant
from cloud_fn.functions.host_calls import End, Reason, Start, Started, Weigh, Weighed, Why
from cloud_fn.functions.host_settings import HostSettings
from cloud_fn.functions.launch import CPU, HOST_ENDED, NODE_LOST, Running
from cloud_fn.functions.nodes import Node, Nodes, Resources, alive
from cloud_fn.functions.placing import Picked, Placing
from cloud_fn.functions.ray_hosts import HOST_PREFIX, HostActor, SharedStation, actor
from cloud_fn.functions.reach import Address, Far, Near
from cloud_fn.functions.spec import Function
from cloud_fn.functions.stations import NearStation, Station
from cloud_fn.runtime_dir import RuntimeDir
from protos.errors import WireError

log = logging.getLogger(__name__)

_END_S = 6.0
_WHY_S = 2.0
_AGAIN_S = 0.02
_GONE_S = 5.0
_WEIGH_S = 1.0
CODE = 1
"""Goes up where a gateway and a host of different code would not understand each other."""


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
        spread: bool = False,
        tenant: Tenant | None = None,
    ) -> None:
        """Prepare; no host is placed.

        Args:
            runtime: where a host of our own keeps what is its; a shared one makes a directory on
                its node, below the same base.
            kinds: the hosts that there may be; one is placed when its first instance is wanted.
            defaults: the limits of an instance that is given none.
            spares: how many processes each host forks ahead.
            readable: what instances may read, beside what every program reads.
            pulse: how hosts are watched.
            spread: whether instances may be on every node of the cluster, or on this one alone.
            tenant: who we are, where hosts are shared with other gateways; None is a host of our
                own, on this node.

        Raises:
            ValueError: hosts of our own cannot be on other nodes.
        """
        if spread and tenant is None:
            raise ValueError("hosts on other nodes are shared ones: say which gateway this is")
        self._runtime = runtime
        self._kinds = dict(kinds)
        self._defaults = defaults
        self._spares = spares
        self._readable = tuple(str(path.absolute()) for path in readable)
        self._own: str = ray.get_runtime_context().get_node_id()
        self._actors: dict[str, Any] = {}  # Ray ends an actor nobody holds
        self._numbers = itertools.count(1)  # Ray may not have forgotten the one before
        self._nodes = Nodes(self._all_nodes if spread else self._own_node, lost=self._lose)
        self._placing = Placing(
            self._nodes.now,
            own=self._own,
            kinds=self._kinds,
            station=self._station if tenant is None else self._shared,
            pulse=pulse,
            tenant=tenant,
        )
        if spread:
            self._nodes.start()

    def nodes(self) -> tuple[Node, ...]:
        """The nodes that instances may be on now, this one first."""
        return tuple(sorted(self._nodes.now(), key=lambda node: node.id != self._own))

    def memory(self) -> dict[str, int]:
        """See :meth:`Placing.memory`."""
        return self._placing.memory()

    def hosts(self) -> tuple[tuple[str, str, int], ...]:
        """See :meth:`Placing.hosts`."""
        return self._placing.hosts()

    def open(self, kind: str = CPU, *, timeout_s: float) -> None:
        """Have a host of that *kind* placed, and wait until it is there.

        Raises:
            InstanceLost: there is no such kind, or it does not come up within *timeout_s*.
        """
        picked = self._placing.pick(kind, time.monotonic() + timeout_s)
        self._placing.count(picked.node, -1)

    def start(
        self,
        function: Function,
        *,
        timeout_s: float,
        confinement: Confinement | None = None,
        kind: str = CPU,
        fits: Callable[[str], bool] = lambda _: True,
    ) -> Running:
        """See :class:`cloud_fn.functions.launch.Launcher`."""
        until_s = time.monotonic() + timeout_s
        while True:
            picked = self._placing.pick(kind, until_s, fits=fits)
            left_s = max(_AGAIN_S, until_s - time.monotonic())
            request = Start(
                label=f"{function.model}-{function.version}",
                confinement=confinement or self._defaults,
                timeout_s=left_s,
                lease=picked.lease,
            )
            try:
                reply, _ = picked.heart.ask(
                    request, msgspec.json.encode(function), timeout_s=left_s, at=picked.address
                )
                assert isinstance(reply, Started)
            except (OSError, WireError) as error:
                self._placing.count(picked.node, -1)
                self._placing.avoid(picked.node)
                self._nodes.look()
                if time.monotonic() + _AGAIN_S > until_s:
                    raise InstanceLost(
                        f"no instance of {function.key} came up within {timeout_s:g} s "
                        "(instance.start_timeout_s): the log says why"
                    ) from error
                time.sleep(_AGAIN_S)  # the host was lost; its keeper will see that, too
            except BaseException:
                self._placing.count(picked.node, -1)
                raise
            else:
                return Running(
                    name=reply.name,
                    process=reply.process,
                    address=_of_instance(picked, Path(reply.socket)),
                    kind=kind,
                    node=picked.node,
                )

    def end(self, running: Running) -> None:
        """See :class:`cloud_fn.functions.launch.Launcher`."""
        self._placing.count(running.node, -1)
        heart = self._placing.find(running.node, running.kind)
        if heart is not None and not _is_cut(running.address):
            with contextlib.suppress(OSError, WireError, InstanceLost):
                heart.ask(End(name=running.name), timeout_s=_END_S)
        if running.is_near and processes.kill(running.process):  # its host could not
            processes.wait_gone([running.process], _GONE_S)

    def size_of(self, running: Running) -> int | None:
        """The memory of an instance; None when it cannot be told."""
        if running.is_near:
            return processes.private_bytes([running.process.pid]) or None
        heart = self._placing.find(running.node, running.kind)
        if heart is None or _is_cut(running.address):
            return None
        try:
            reply, _ = heart.ask(Weigh(name=running.name), timeout_s=_WEIGH_S)
        except (OSError, WireError, InstanceLost):
            return None
        assert isinstance(reply, Weighed)
        return reply.private_bytes or None

    def why_ended(self, running: Running) -> str | None:
        """See :class:`cloud_fn.functions.launch.Launcher`."""
        heart = self._placing.find(running.node, running.kind)
        if heart is None:
            return NODE_LOST
        if _is_cut(running.address):
            return HOST_ENDED
        try:
            reply, _ = heart.ask(Why(name=running.name), timeout_s=_WHY_S)
            assert isinstance(reply, Reason)
        except (OSError, WireError, InstanceLost):
            if running.is_near and processes.alive(running.process):
                return None
            self._nodes.look()
            return HOST_ENDED
        if reply.why is not None or not running.is_near or processes.alive(running.process):
            return reply.why
        return HOST_ENDED

    def close(self) -> None:
        """End all hosts, and all that they have."""
        self._nodes.stop()
        self._placing.close()

    def _all_nodes(self) -> tuple[Node, ...]:
        if not ray_head.is_heard():
            raise ConnectionError("Ray's head does not answer")
        return alive(ray.nodes())  # type: ignore[no-untyped-call]

    def _own_node(self) -> tuple[Node, ...]:
        return tuple(node for node in self._all_nodes() if node.id == self._own)

    def _lose(self, node: Node) -> None:
        self._placing.lose(node)

    def _station(self, _node: Node, kind: str) -> Station:
        return NearStation(
            self._runtime.host(kind),
            have_placed=lambda: self._place(kind),
            let_go=lambda: self._let_go(kind),
        )

    def _shared(self, node: Node, kind: str) -> Station:
        settings = FarSettings(
            node=node.id,
            base=str(self._runtime.path.parent),
            kind=kind,
            address=node.address,
            spares=self._spares,
            readable=self._readable,
        )
        environment = _environment(settings)
        return SharedStation(
            node,
            settings=settings,
            resources=self._kinds[kind],
            name=f"{HOST_PREFIX}{node.id[:12]}-{kind}-{environment}",
        )

    def _place(self, kind: str) -> None:
        """Ask Ray for a host; it starts one again that dies, so this is called when that fails."""
        self._let_go(kind)
        me = processes.mark(os.getpid())
        assert me is not None
        settings = HostSettings(
            folder=str(self._runtime.host(kind).path),
            gateway=me,
            spares=self._spares,
            readable=self._readable,
        )
        name = f"{HOST_PREFIX}{self._own[:12]}-{kind}-{os.getpid()}-{next(self._numbers)}"
        made = actor(HostActor, name, self._own, self._kinds[kind], restarts=-1)
        self._actors[kind] = made.remote(msgspec.json.encode(settings).decode())

    def _let_go(self, kind: str) -> None:
        if (before := self._actors.pop(kind, None)) is not None and ray.is_initialized():
            ray.kill(before)


def _environment(settings: FarSettings) -> str:
    """What gateways must have in common to share a host: the code, and what the host is given."""
    told = msgspec.json.encode((CODE, settings.readable, settings.spares))
    return hashlib.sha256(told).hexdigest()[:8]


def _of_instance(picked: Picked, socket: Path) -> Address:
    """Where an instance listens whose host was reached as *picked* says."""
    match picked.address:
        case Near():
            return Near(socket)
        case Far() as host:
            return replace(host, to=socket.stem)


def _is_cut(address: Address) -> bool:
    return isinstance(address, Far) and address.cord.is_cut
