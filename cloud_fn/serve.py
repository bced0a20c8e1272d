"""The server as a process: what it is made of, in which order it starts, and how it stops."""

import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from cloud_fn import memory, ray_environment
from cloud_fn.auth import Keys
from cloud_fn.config import Address, Config, check_exposure
from cloud_fn.controller.alone import alone
from cloud_fn.controller.beating import Beating, Unheard
from cloud_fn.controller.messages import Standing
from cloud_fn.doors.grpc import GrpcDoor, check_free
from cloud_fn.errors import ControllerSilent, ServeError
from cloud_fn.functions import Pool
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.fresh import Fresh
from cloud_fn.functions.heartbeat import Tenant
from cloud_fn.functions.launch import CPU, CUDA
from cloud_fn.functions.learning import Learning
from cloud_fn.functions.limiting import Limiting
from cloud_fn.functions.logbook import Logbook
from cloud_fn.functions.node_cache import NodeCache
from cloud_fn.functions.nodes import Node, Resources
from cloud_fn.functions.shares import Shares
from cloud_fn.functions.specifications import Specifications
from cloud_fn.functions.staged import Staged
from cloud_fn.registry import Catalog
from cloud_fn.registry.function_store import FunctionStore
from cloud_fn.registry.stage_store import StageStore
from cloud_fn.runtime_dir import RuntimeDir
from cloud_fn.service import Bounds, Service
from cloud_fn.signals import Signals
from protos.documents import write_json

if TYPE_CHECKING:
    from cloud_fn.controller.actor import RayLink
    from cloud_fn.functions.ray_launcher import RayLauncher
    from cloud_fn.ray_cluster import RayCluster

log = logging.getLogger(__name__)

_LOOK_AT_RAY_S = 5.0
_LOOK_AT_HOST_S = 0.02
_HOST_S = 60.0
_LEAVE_S = 15.0
_SHARE_S = 60.0


def serve(config: Config, *, ready_file: Path | None = None) -> int:
    """Serve until told to stop; gives the command's exit code.

    What is acquired is released in reverse order, whichever step fails.

    Raises:
        ServeError: it cannot start, or Ray ended while it served.
    """
    # SystemExit is how Ray has a signal end the process while it starts; all is cleaned up then.
    with contextlib.suppress(SystemExit):
        _serve(config, ready_file)
    _say("stopped")
    return 0


def _serve(config: Config, ready_file: Path | None) -> None:
    check_exposure(config)
    keys = Keys.read(None if config.key_file is None else Path(config.key_file))
    memory.keep_buffers()
    with Signals() as signals, contextlib.ExitStack() as stack:
        check_free(config.address)
        runtime = RuntimeDir.create(config.runtime_path)
        stack.callback(runtime.remove)
        cluster = _start_ray(config, runtime, stack)
        signals.install()  # Ray has put its own in their place
        opener = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="serve.open"))
        gateway = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(2)}"
        shares = None
        if not config.ray.is_local:
            shares = Shares()
            with contextlib.suppress(OSError):  # a host says so where it cannot read it
                config.registry_path.mkdir(parents=True, exist_ok=True)
        link = None if shares is None else _link(gateway, cluster, stack)
        launcher = _launcher(config, runtime, gateway, shares)
        stack.callback(launcher.close)
        if not _is_open(launcher, opener, signals):
            return
        if config.ray.spreads:
            _say(f"instances run on {_named(launcher.nodes())}")
        # Only now: Ray forks to start its processes, and a fork hangs where gRPC runs.
        door = GrpcDoor(config, keys)
        stack.callback(door.close, 0.0)
        address = door.bind()
        pool, service = _functions(config, launcher, shares, stack)
        service.standing = partial(_standing, config, launcher, pool, link, gateway, str(address))
        if shares is not None and link is not None:
            beating = Beating(
                link,
                launcher,
                pool.budget,
                shares,
                gateway=gateway,
                address=str(address),
                budget_bytes=config.memory_budget_bytes,
            )
            stack.callback(beating.stop)
            if not beating.join(_SHARE_S, stop=signals.stop):
                return
        service.deploy()
        door.open(service)
        _announce(config, address, service, ready_file)
        if ready_file is not None:
            stack.callback(ready_file.unlink, missing_ok=True)
        while not signals.stop.wait(_LOOK_AT_RAY_S):
            if not cluster.is_alive():
                raise _ended(config)
        _drain(config, service, door, signals)


def _ended(config: Config) -> ServeError:
    """What to say of a Ray that is gone; it is said in any case.

    Much waits for the head of a Ray that was joined, and cannot be told not to: if our end does,
    this process ends all the same, and the next one cleans up after it.
    """
    if config.ray.is_local:
        return ServeError("Ray has ended: start the server again")
    error = ServeError(f"the Ray at {config.ray.address} has ended: start it, and then the server")

    def leave() -> None:
        sys.stderr.write(f"isthmus: {error}\n")
        sys.stderr.flush()
        os._exit(error.exit_code)

    leaving = threading.Timer(_LEAVE_S, leave)
    leaving.daemon = True
    leaving.start()
    return error


def _is_open(launcher: "RayLauncher", opener: ThreadPoolExecutor, signals: Signals) -> bool:
    """Wait for the first host; False when told to stop before. To close the launcher ends the wait.

    Raises:
        InstanceLost: none comes.
    """
    opening = opener.submit(launcher.open, timeout_s=_HOST_S)
    while not opening.done():
        if signals.stop.wait(_LOOK_AT_HOST_S):
            return False
    opening.result()
    return True


def _start_ray(config: Config, runtime: RuntimeDir, stack: contextlib.ExitStack) -> "RayCluster":
    folder = runtime.path / "ray"
    if config.ray.is_local:
        _say("starting Ray, a few seconds ...")
        ray_environment.prepare_own(folder)
    else:
        _say(f"connecting to Ray at {config.ray.address} ...")
        ray_environment.prepare_join(config.ray.address)
    from cloud_fn.ray_cluster import RayCluster

    cluster = RayCluster(config.ray, folder)
    stack.callback(cluster.stop)
    seconds = cluster.start()
    runtime.remember(cluster.processes())
    _say(f"Ray is there after {seconds:.1f} s")
    return cluster


def _link(gateway: str, cluster: "RayCluster", stack: contextlib.ExitStack) -> "RayLink":
    """The way to the controller of all gateways of this Ray, which is told of our end last."""
    from cloud_fn.controller.actor import RayLink

    link = RayLink()

    def leave() -> None:
        if cluster.is_alive():
            link.leave(gateway)

    stack.callback(leave)
    return link


def _standing(
    config: Config,
    launcher: "RayLauncher",
    pool: Pool,
    link: "RayLink | None",
    gateway: str,
    address: str,
) -> Standing:
    """What there is of gateways, as `isthmus controller show` has it."""
    if link is None:
        return alone(
            pool,
            launcher.hosts(),
            gateway=gateway,
            address=address,
            node=launcher.nodes()[0].id,
            budget_bytes=_budget_bytes(config),
        )
    try:
        return link.standing()
    except Unheard as error:
        raise ControllerSilent(
            "the controller does not answer; Ray starts it again if it ended, and requests go on "
            f"without: {error}"
        ) from error


def _budget_bytes(config: Config) -> int:
    return config.memory_budget_bytes or psutil.virtual_memory().total // 2


def _launcher(
    config: Config, runtime: RuntimeDir, gateway: str, shares: Shares | None
) -> "RayLauncher":
    from cloud_fn.functions.ray_launcher import RayLauncher

    instance = config.instance
    kinds = {CPU: Resources(cpus=config.ray.host_cpus)}
    if config.ray.gpus_per_host > 0:
        kinds[CUDA] = Resources(cpus=config.ray.host_cpus, gpus=config.ray.gpus_per_host)
    return RayLauncher(
        runtime,
        kinds=kinds,
        defaults=Confinement(
            max_memory_bytes=instance.max_memory_bytes, open_files=instance.open_files
        ),
        spares=instance.spares,
        readable=(config.registry_path,),
        spread=config.ray.spreads,
        tenant=None if shares is None else Tenant(gateway=gateway, holds=shares.now),
    )


def _functions(
    config: Config, launcher: "RayLauncher", shares: Shares | None, stack: contextlib.ExitStack
) -> tuple[Pool, Service]:
    """The functions of the registry, with what keeps their instances and learns from their log."""
    catalog = Catalog(config.registry_path)
    specifications = Specifications(catalog, FunctionStore(catalog.root), config.instance)
    limiting = Limiting(specifications.resolved, open_files=config.instance.open_files)
    budget_bytes = _budget_bytes(config)
    cache = NodeCache(config.node_cache_path, most_bytes=config.node_cache.max_bytes)
    pool = Pool(
        Fresh(launcher, catalog, cache),
        limiting,
        memory_budget_bytes=budget_bytes,
        shares=shares,
        size_of=launcher.size_of,
    )
    stack.callback(pool.close)
    logbook = Logbook(catalog.root)
    learning = Learning(logbook, budget_bytes=budget_bytes, learn=limiting.learn, sizes=pool.sizes)
    stack.callback(learning.stop)
    bounds = Bounds(
        max_message_bytes=config.max_message_bytes,
        max_in_flight=config.max_in_flight,
        handlers_dir=None
        if config.handlers_dir is None
        else str(Path(config.handlers_dir).absolute()),
        cache=cache,
    )
    service = Service(
        catalog,
        Staged(pool, StageStore(catalog.root).get),
        bounds,
        specifications=specifications,
        asked=logbook.asked,
    )
    pool.start()
    learning.start()
    return pool, service


def _announce(config: Config, address: Address, service: Service, ready_file: Path | None) -> None:
    if ready_file is not None:
        try:
            write_json(ready_file, {"pid": os.getpid(), "address": str(address)})
        except OSError as error:
            raise ServeError(f"{ready_file} cannot be written: {error.strerror}") from error
    count = len(service.index())
    _say(f"ready on {address}; model versions in {config.registry_path}: {count}")


def _drain(config: Config, service: Service, door: GrpcDoor, signals: Signals) -> None:
    """Finish what was taken, unless a second signal says otherwise."""
    _say("stopping")
    left = service.drain(config.drain_s, give_up=signals.now)
    if left:
        log.warning("requests cut off: requests=%d", left)
    door.close(0.0 if left else 1.0)


def _named(nodes: tuple[Node, ...]) -> str:
    names = ", ".join(f"{node.short_id} at {node.address}" for node in nodes)
    return f"node {names}, this one" if len(nodes) == 1 else f"{len(nodes)} nodes: {names}"


def _say(text: str) -> None:
    print(f"isthmus serve: {text}", file=sys.stderr, flush=True)  # noqa: T201  a person waits for it
