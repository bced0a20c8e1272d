"""The rig's processes: ``python -m testbed.bench.rig device|cloud``; the bench starts both."""

import argparse
import logging
import os
import socket
import threading
from pathlib import Path

from testbed.bench.rig.cloud import Cloud
from testbed.bench.rig.machine import Machine
from testbed.bench.rig.wire import serve_orders
from testbed.processes import write_ready


def main() -> None:
    """Take orders until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("device", "cloud"))
    parser.add_argument("--orders", type=Path, required=True, help="a Unix socket to make")
    parser.add_argument("--ready-file", type=Path, required=True)
    parser.add_argument("--cloud", help="HOST:PORT of the link, for a device")
    parser.add_argument("--core", type=int, help="stay on this core")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    if args.part == "cloud":
        _cloud(args)
    else:
        _device(args)


def _cloud(args: argparse.Namespace) -> None:
    cloud = Cloud()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(
            target=cloud.serve, args=(server,), name="cloud.accept", daemon=True
        ).start()
        host, port = server.getsockname()
        serve_orders(
            args.orders,
            cloud.obey,
            lambda: write_ready(args.ready_file, {"address": f"{host}:{port}"}),
        )


def _device(args: argparse.Namespace) -> None:
    host, _, port = str(args.cloud).rpartition(":")
    machine = Machine((host, int(port)))
    serve_orders(args.orders, machine.obey, lambda: write_ready(args.ready_file, {}))


if __name__ == "__main__":
    main()
