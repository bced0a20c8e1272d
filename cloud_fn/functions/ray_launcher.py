"""Instances as Ray actors."""

import logging
import secrets
import threading
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cloud_fn import processes
from cloud_fn.errors import InstanceLost
from cloud_fn.functions.host import Host
from cloud_fn.functions.launch import Running
from cloud_fn.functions.spec import Function
from cloud_fn.processes import Mark
from cloud_fn.runtime_dir import RuntimeDir

log = logging.getLogger(__name__)

_GONE_S = 5.0


class RayLauncher:
    """A :class:`cloud_fn.functions.launch.Launcher`; Ray must be connected."""

    def __init__(self, runtime: RuntimeDir, *, cpus: float) -> None:
        self._runtime = runtime
        self._cpus = cpus
        self._actors: dict[str, Any] = {}  # Ray ends an actor nobody holds
        self._lock = threading.Lock()

    def start(self, function: Function, *, timeout_s: float) -> Running:
        """Start an actor on this node; see :class:`cloud_fn.functions.launch.Launcher`."""
        token = secrets.token_hex(4)
        name = f"{function.model}-{function.version}-{token}"
        path = self._runtime.socket_path(token)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Ray's types know an actor's methods only where its class imports Ray, which ours does not.
        actor: Any = (
            ray.remote(Host)
            .options(num_cpus=self._cpus, max_restarts=0, scheduling_strategy=here)
            .remote(msgspec.json.encode(function), str(path))
        )
        process = self._await(actor, timeout_s)
        if process is None:
            ray.kill(actor)
            path.unlink(missing_ok=True)
            raise InstanceLost(
                f"no instance of {function.key} came up within {timeout_s:g} s "
                "(instance.start_timeout_s): the log says why"
            )
        with self._lock:
            self._actors[name] = actor
        self._runtime.remember([process])
        return Running(name=name, process=process, socket_path=path)

    def _await(self, actor: Any, timeout_s: float) -> Mark | None:  # noqa: ANN401  see above
        """The process of an actor that listens; None when it died or took too long."""
        try:
            return processes.mark(ray.get(actor.process_id.remote(), timeout=timeout_s))
        except RayError as error:
            log.warning("actor did not come up: error=%s", " ".join(str(error).split())[:300])
            return None

    def end(self, running: Running) -> None:
        """Kill it from outside: a hung one hears nothing."""
        processes.kill(running.process)
        with self._lock:
            actor = self._actors.pop(running.name, None)
        if actor is not None and ray.is_initialized():
            ray.kill(actor)
        processes.wait_gone([running.process], _GONE_S)
        running.socket_path.unlink(missing_ok=True)
