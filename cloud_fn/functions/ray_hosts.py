"""Hosts that are Ray actors, on this node and on others."""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cloud_fn import processes
from cloud_fn.functions.far_host import FarHost, FarSettings, Opened
from cloud_fn.functions.host_settings import HostSettings
from cloud_fn.functions.nodes import Node, Resources
from cloud_fn.functions.proving import fresh_secret
from cloud_fn.functions.reach import Address, Cord, Far
from cloud_fn.functions.stations import Hopeless
from cloud_fn.processes import Mark

log = logging.getLogger(__name__)

_AFTER_FAILURE_S = 1.0


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


class FarHostActor:
    """A host for a gateway on another node, as an actor.

    Ray does not start it again: its gateway has to ask anew where the door is, and no host is to
    come back after its gateway is gone.
    """

    def __init__(self, settings: str) -> None:
        self._opened = FarHost(msgspec.json.decode(settings, type=FarSettings)).open()

    def where(self) -> str:
        """:class:`Opened` as JSON."""
        return msgspec.json.encode(self._opened).decode()


class FarStation:
    """A host on another node, behind a door with a secret of its own."""

    comes_back = False

    def __init__(
        self, node: Node, *, settings: FarSettings, resources: Resources, name: Callable[[], str]
    ) -> None:
        """Prepare; nothing is started.

        Args:
            node: where it is to be.
            settings: what it is given; its secret is made anew whenever it is placed.
            resources: what Ray sets aside for it.
            name: gives the name of an actor that Ray has never heard of.
        """
        self._node = node
        self._settings = settings
        self._resources = resources
        self._name = name
        self._actor: Any = None
        self._where: Any = None
        self._address: Far | None = None
        self._cord = Cord()
        self._secret = ""
        self._before: Mark | None = None

    def place(self) -> None:
        self.end()
        self._cord, self._address, self._where = Cord(), None, None
        self._secret = fresh_secret()
        settings = msgspec.structs.replace(self._settings, secret=self._secret, before=self._before)
        self._actor = actor(
            FarHostActor, self._name(), self._node.id, self._resources, restarts=0
        ).remote(msgspec.json.encode(settings).decode())
        self._where = self._actor.where.remote()

    def address(self) -> Address:
        if self._address is not None:
            return self._address
        if self._where is None:
            raise Hopeless("Ray did not take it")
        ready, _ = ray.wait([self._where], timeout=0)
        if not ready:
            raise ConnectionRefusedError("its actor has yet to begin")
        try:
            opened = msgspec.json.decode(ray.get(self._where), type=Opened)
        except (RayError, msgspec.MsgspecError) as error:
            raise Hopeless(
                f"Ray has no host on node {self._node.short_id}: "
                + " ".join(str(error).split())[:200]
            ) from error
        if opened.port is None:
            raise Hopeless(opened.why)
        self._before = opened.process
        self._address = Far(
            host=self._node.address,
            port=opened.port,
            secret=self._secret.encode(),
            cord=self._cord,
        )
        return self._address

    def complaint(self) -> str | None:
        return None  # its door passes on what it complains of

    def end(self) -> None:
        self._cord.cut()
        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)
        self._actor = None

    def give_up(self) -> None:
        self.end()


def actor(kind: type[Any], name: str, node: str, resources: Resources, *, restarts: int) -> Any:  # noqa: ANN401  Ray's types know an actor's methods only where its class imports Ray
    """What makes an actor on *node*; Ray starts it again *restarts* times, -1 is always."""
    given: Any = ray.remote(kind)
    return given.options(
        name=name,
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
        max_restarts=restarts,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )
