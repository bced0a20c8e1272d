"""``isthmus edge run`` and ``isthmus edge status``."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from protos.documents import as_builtin, encode_json

if TYPE_CHECKING:
    from edge_agent.config import AgentConfig

_FLAGS = {
    "device": "device",
    "state_dir": "state_dir",
    "mqtt_url": "mqtt.url",
    "cloud_address": "cloud.address",
    "deadline_s": "deadline_s",
    "threads": "threads",
}


def mount(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands of this room."""
    edge = commands.add_parser("edge", help="the agent on the device")
    actions = edge.add_subparsers(required=True, metavar="ACTION")
    run = actions.add_parser("run", help="serve this device's models over MQTT")
    _add_config(run)
    run.add_argument("--device", metavar="ID", help="the device's id (ISTHMUS_EDGE_DEVICE)")
    run.add_argument(
        "--mqtt-url",
        metavar="URL",
        help="the broker (ISTHMUS_EDGE_MQTT__URL, mqtt://127.0.0.1:1883)",
    )
    run.add_argument(
        "--cloud-address",
        metavar="HOST:PORT",
        help="the gateway (ISTHMUS_EDGE_CLOUD__ADDRESS, none: all on the device)",
    )
    run.add_argument(
        "--deadline-s",
        type=float,
        metavar="SECONDS",
        help="to answer in, for requests that say nothing (ISTHMUS_EDGE_DEADLINE_S, 2)",
    )
    run.add_argument(
        "--threads", type=int, metavar="N", help="ONNX Runtime's (ISTHMUS_EDGE_THREADS, 1)"
    )
    run.add_argument(
        "--ready-file", type=Path, metavar="PATH", help="written as JSON once requests are taken"
    )
    run.set_defaults(run=_run)
    status = actions.add_parser("status", help="what an agent on this machine last said of itself")
    _add_config(status)
    status.add_argument("--json", action="store_true", help="print one JSON document")
    status.set_defaults(run=_status)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="AGENT.toml", help="configuration file")
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        help="outbox, lock and status (ISTHMUS_EDGE_STATE_DIR)",
    )


def _config(args: argparse.Namespace) -> "AgentConfig":
    from edge_agent import config

    flags = {key: getattr(args, name, None) for name, key in _FLAGS.items()}
    if flags["state_dir"] is not None:
        flags["state_dir"] = str(Path(flags["state_dir"]).absolute())
    return config.read(args.config, environ=os.environ, flags=flags)


def _run(args: argparse.Namespace) -> int:
    from edge_agent import serve

    return serve.serve(_config(args), args.ready_file)


def _status(args: argparse.Namespace) -> int:
    from edge_agent import status

    found = status.look(Path(_config(args).state_dir))
    if args.json:
        sys.stdout.buffer.write(encode_json(as_builtin(found)))
        return 0 if found.running else 1
    print(status.as_text(found))
    return 0 if found.running else 1
