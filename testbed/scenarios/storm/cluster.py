"""A Ray of several nodes on this machine, as a process of its own, for a gateway that joins it."""

import argparse
import os
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

from protos.documents import write_json

LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 80 << 20


def argv(nodes: int) -> tuple[str, ...]:
    """The command that starts it; :func:`environ` goes with it."""
    return (sys.executable, "-m", "testbed.scenarios.storm.cluster", "--nodes", str(nodes))


def environ(folder: str) -> dict[str, str]:
    """What Ray must find in the environment, here and in the gateway that joins.

    Args:
        folder: where Ray keeps what is its own; a short path, for it makes sockets there.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_TMPDIR": folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }


def main(words: list[str]) -> None:
    """Start it, say so, and stay until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    args = parser.parse_args(words)
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=_node(args.nodes, head=True))
    for _ in range(args.nodes - 1):
        cluster.add_node(**_node(args.nodes))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # Ray has put its own in their place
        signal.signal(number, lambda *_: stop.set())
    write_json(args.ready_file, {"pid": os.getpid(), "address": cluster.address})
    stop.wait()
    family = psutil.Process().children(recursive=True)
    cluster.shutdown()  # type: ignore[no-untyped-call]
    _, left = psutil.wait_procs(family, timeout=5.0)  # Ray's agents notice late
    for each in left:
        each.kill()


def _node(nodes: int, *, head: bool = False) -> dict[str, Any]:
    """One of so many that share this machine's processors."""
    return {
        "num_cpus": max(1, (os.cpu_count() or 1) // nodes),
        "node_ip_address": LOOPBACK,
        "object_store_memory": OBJECT_STORE_BYTES,
        **({"include_dashboard": False} if head else {}),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
