"""Hosts that are Ray actors: one gateway's own, and those that gateways share."""

import contextlib
import logging
import os
import threading
import time
from dataclasses import replace
from typing import Any

import msgspec
import ray
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cloud_fn import processes, ray_head
from cloud_fn.errors import InstanceLost
from cloud_fn.functions.far_host import FarHost, FarSettings, Opened
from cloud_fn.functions.heartbeat import Pulse
from cloud_fn.functions.host_calls import HostClient, Ping, Well
from cloud_fn.functions.host_settings import HostSettings
from cloud_fn.functions.nodes import Node, Resources
from cloud_fn.functions.reach import Address, Cord, Far
from cloud_fn.functions.stations import Hopeless
from cloud_fn.processes import Mark
from protos.errors import WireError

log = logging.getLogger(__name__)

HOST_PREFIX = "isthmus-host-"
"""What the name begins with of an actor that is a host."""

_AFTER_FAILURE_S = 1.0
_WELL_S = 1.2
_ASK_AGAIN = 50
"""How often in vain a door is looked for, 50 times a second, until Ray is asked about its host."""
_MOST_REPLACED = 5


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


class SharedHostActor:
    """A host that several gateways share, as an actor that none of them owns.

    Ray does not start it again: whoever comes back has to ask anew where the door is, and no host
    is to come back after its gateways are gone.
    """

    def __init__(self, settings: str) -> None:
        self._host = FarHost(msgspec.json.decode(settings, type=FarSettings))
        self._opened = self._host.open()

    def where(self) -> str:
        """:class:`Opened` as JSON."""
        return msgspec.json.encode(self._opened).decode()

    def roll(self) -> str:
        """:class:`Roll` as JSON; ``null`` while there is none."""
        return msgspec.json.encode(self._host.roll()).decode()


class SharedStation:
    """A host behind a door, placed by whichever gateway wants it first and found by the others.

    Its name is the same for all of them, and Ray lets there be one actor of a name.
    """

    comes_back = False

    def __init__(
        self, node: Node, *, settings: FarSettings, resources: Resources, name: str
    ) -> None:
        """Prepare; nothing is started.

        Args:
            node: where it is to be.
            settings: what it is given where it has yet to be placed.
            resources: what Ray sets aside for it.
            name: the actor's.
        """
        self._node = node
        self._settings = settings
        self._resources = resources
        self._name = name
        self._actor: Any = None
        self._where: Any = None
        self._address: Far | None = None
        self._cord = Cord()
        self._asked = self._replaced = 0
        self._before: Mark | None = None

    def place(self) -> None:
        self._cord.cut()
        self._cord, self._replaced = Cord(), 0
        self._find()

    def address(self) -> Address:
        self._asked += 1
        if self._address is not None:
            if self._asked % _ASK_AGAIN:
                return self._address
            ray_head.check()
            self._address, self._where = None, self._actor.where.remote()  # is it there at all?
        if self._where is None:
            if self._asked % _ASK_AGAIN == 0:
                self._find()
            raise ConnectionRefusedError("Ray has yet to be asked for it")
        ready, _ = ray.wait([self._where], timeout=0)
        if not ready:
            raise ConnectionRefusedError("its actor has yet to begin")
        try:
            opened = msgspec.json.decode(ray.get(self._where), type=Opened)
        except RayActorError as error:
            if self._replaced >= _MOST_REPLACED:
                raise Hopeless(self._none(error)) from error
            self._replaced += 1
            self._find()  # it ended between being found and being asked
            raise ConnectionRefusedError("the host that was there has ended") from error
        except (RayError, msgspec.MsgspecError) as error:
            raise Hopeless(self._none(error)) from error
        if opened.port is None:
            self._kill()  # whoever tries again may find the reason gone
            raise Hopeless(opened.why)
        self._before = opened.process
        self._address = Far(
            host=self._node.address,
            port=opened.port,
            secret=opened.secret.encode(),
            cord=self._cord,
        )
        return self._address

    def complaint(self) -> str | None:
        return None  # its door passes on what it complains of

    def end(self) -> None:
        """Leave the host, and end it unless it is well.

        Who was slow to answer may have been we: others use it.
        """
        self._cord.cut()
        if self._address is None or not _is_well(replace(self._address, cord=Cord())):
            self._kill()

    def give_up(self) -> None:
        self._cord.cut()

    def _find(self) -> None:
        settings = msgspec.structs.replace(self._settings, before=self._before)
        self._address = self._where = None
        ray_head.check()
        self._actor = actor(
            SharedHostActor, self._name, self._node.id, self._resources, restarts=0, shared=True
        ).remote(msgspec.json.encode(settings).decode())
        self._where = self._actor.where.remote()

    def _kill(self) -> None:
        if self._actor is not None and ray.is_initialized() and ray_head.is_heard():
            ray.kill(self._actor)
        self._actor = None

    def _none(self, error: Exception) -> str:
        why = " ".join(str(error).split())[:200]
        return f"Ray has no host on node {self._node.short_id}: {why}"


def _is_well(address: Far) -> bool:
    """Whether a host answers, and is not stuck at one thing."""
    try:
        with contextlib.closing(HostClient(address, timeout_s=_WELL_S)) as client:
            well, _ = client.ask(Ping(), timeout_s=_WELL_S)
    except (OSError, WireError, InstanceLost):
        return False
    return isinstance(well, Well) and well.busy_s <= Pulse().busy_s


def actor(
    kind: type[Any],
    name: str,
    node: str,
    resources: Resources,
    *,
    restarts: int,
    shared: bool = False,
) -> Any:  # noqa: ANN401  Ray's types know an actor's methods only where its class imports Ray
    """What makes an actor on *node*; Ray starts it again *restarts* times, -1 is always.

    A *shared* one outlives who made it, and is found where one of its name is there already.
    """
    given: Any = ray.remote(kind)
    lasting = {"lifetime": "detached", "get_if_exists": True} if shared else {}
    return given.options(
        **lasting,
        name=name,
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
        max_restarts=restarts,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )
