"""The Ray that places and watches instances: lean, on loopback, behind a token."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import ray
from ray._private import node
from ray.exceptions import RayError

from cloud_fn import processes, ray_head
from cloud_fn.config import Ray
from cloud_fn.errors import ServeError
from cloud_fn.processes import Mark

_NAMESPACE = "isthmus"
_SERVERS = frozenset({"gcs_server", "raylet"})
_END_S = 5.0
GONE_S = 20.0
_NEEDLESS = ("start_api_server", "start_monitor", "start_log_monitor")


class RayCluster:
    """A connection to Ray; with address ``local``, to a Ray of our own that ends with us.

    :mod:`cloud_fn.ray_environment` comes first, before this module is imported.
    """

    def __init__(self, config: Ray, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._own: tuple[Mark, ...] = ()
        self._first: tuple[Mark, ...] = ()
        self._heard_s = 0.0

    def start(self) -> float:
        """Start Ray, or connect to the one that runs.

        Returns:
            How long it took, in seconds.

        Raises:
            ServeError: it does not start, or nobody answers at the address.
        """
        began = time.monotonic()
        # Ray prints a paragraph on stdout for each instance that we kill; we log a line of our own.
        ray._private.worker._worker_logs_enabled = False  # noqa: SLF001
        try:
            if self._config.is_local:
                self._start_own()
            else:
                ray.init(
                    address=self._config.address,
                    namespace=_NAMESPACE,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
                self._heard_s = time.monotonic()
        except (RayError, OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            if self._config.is_local:
                raise ServeError(f"Ray did not start: {reason}") from error
            raise ServeError(
                f"no Ray answers at {self._config.address} (ray.address): {reason}"
            ) from error
        return time.monotonic() - began

    def processes(self) -> tuple[Mark, ...]:
        """The processes of our own Ray; empty when it is somebody else's."""
        return processes.descendants(os.getpid()) if self._config.is_local else ()

    def is_alive(self) -> bool:
        """Whether the Ray that we started still runs, or its head, where we joined one, is heard.

        A head that is away may come back for GONE_S: instances answer without it. After a minute
        Ray would end this process with a stack of its own.
        """
        if self._config.is_local:
            return all(map(processes.alive, self._own))
        now_s = time.monotonic()
        if ray_head.is_heard():
            self._heard_s = now_s
        return now_s - self._heard_s < GONE_S

    def stop(self) -> None:
        """Disconnect; a Ray of our own ends, and so does every process that it started."""
        # Ray's agents outlive a raylet that was killed, and are nobody's children any more.
        started = {*self._first, *self.processes()}
        ray.shutdown()
        processes.end(tuple(started), _END_S)

    def _start_own(self) -> None:
        with _lean():
            ray.init(
                address="local",
                num_cpus=self._config.num_cpus,
                num_gpus=self._config.num_gpus,
                object_store_memory=self._config.object_store_bytes,
                include_dashboard=False,
                namespace=_NAMESPACE,
                logging_level=logging.ERROR,
                log_to_driver=False,
                _temp_dir=str(self._folder),
                _node_ip_address="127.0.0.1",  # else it listens on every interface
            )
        self._own = processes.children_named(os.getpid(), _SERVERS)
        self._first = self.processes()


@contextlib.contextmanager
def _lean() -> Iterator[None]:
    """Ray starts no more than what places, starts and watches actors.

    It has no switch for the rest: the server of the dashboard, which it starts without one too, and
    the monitors of its autoscaler and of its logs. Each of the three holds 51 MB and takes 1 s of a
    processor to start (Ray 2.60, 2026-11). A Ray that is made otherwise starts them all.
    """
    before = node.Node
    left_out = {name: _nothing for name in _NEEDLESS if hasattr(before, name)}
    node.Node = type("LeanNode", (before,), left_out)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        node.Node = before  # type: ignore[misc]


def _nothing(_self: object, **_: object) -> None:
    pass
