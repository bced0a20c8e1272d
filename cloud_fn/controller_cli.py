"""``isthmus controller show``: the gateways of a Ray, their hosts and instances, and the memory."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cloud_fn import config
from planner.words import show_bytes
from protos.documents import encode_json

if TYPE_CHECKING:
    from cloud_fn.controller.messages import Standing


def mount(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    controller = commands.add_parser(
        "controller", help="what the gateways of one Ray share, and how"
    )
    actions = controller.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser("show", help="gateways, hosts, instances, and the memory of nodes")
    show.add_argument(
        "--gateway",
        default="127.0.0.1:8001",
        metavar="HOST:PORT",
        help="any of the gateways (default 127.0.0.1:8001)",
    )
    show.add_argument("--key-file", type=Path, metavar="FILE", help="its first key opens the door")
    show.add_argument("--json", action="store_true", help="print one JSON document")
    show.set_defaults(run=_show)


def _show(args: argparse.Namespace) -> int:
    from cloud_fn import client
    from cloud_fn.auth import first_key

    key = first_key(args.key_file)
    found = client.show_controller(config.Address.parse(args.gateway), key=key)
    if args.json:
        document = {"schema": "isthmus.controller/1", **msgspec.to_builtins(found)}
        sys.stdout.write(encode_json(document).decode())
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(found)))
    return 0


def lines(found: "Standing") -> list[str]:
    """What people read of it."""
    said = []
    if found.alone:
        said.append("this gateway has a Ray of its own, and no controller")
    elif not found.gathered:
        said.append("the controller is gathering what it must know: nobody is given more till then")
    for node in found.nodes:
        held, budget = show_bytes(node.held_bytes), show_bytes(node.budget_bytes)
        said.append(f"node {node.id[:12]}  gateways may use {held} of {budget}")
    for gateway in found.gateways:
        ago_s = gateway.heard_ago_s
        said.append(f"gateway {gateway.id}  at {gateway.address}, heard {ago_s:.1f} s ago")
        for share in found.shares:
            if share.gateway == gateway.id:
                used, idle = show_bytes(share.used_bytes), show_bytes(share.idle_bytes)
                said.append(
                    f"  on {share.node[:12]}  uses {used}, of which {idle} idle, "
                    f"and may use {show_bytes(share.held_bytes)}"
                )
    for host in found.hosts:
        said.append(
            f"host {host.name}  process {host.pid} on {host.node[:12]}, {host.kind}, "
            f"for {len(host.gateways)} of the gateways"
        )
        said.extend(
            f"  {each.name}  {show_bytes(each.private_bytes)}, of {each.gateway or 'nobody'}"
            for each in found.instances
            if each.host == host.name
        )
    return said
