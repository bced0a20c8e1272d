"""A gateway with a Ray of its own: the same that a controller knows of many, without one."""

from collections.abc import Iterable

from cloud_fn.controller.messages import (
    GatewayRow,
    HostRow,
    InstanceRow,
    NodeRow,
    ShareRow,
    Standing,
)
from cloud_fn.functions.budget import UNMEASURED_BYTES
from cloud_fn.functions.pool import Pool


def alone(
    pool: Pool,
    hosts: Iterable[tuple[str, str, int]],
    *,
    gateway: str,
    address: str,
    node: str,
    budget_bytes: int,
) -> Standing:
    """What there is.

    Args:
        pool: the gateway's.
        hosts: each one's node, kind and process number.
        gateway: who it is.
        address: where it listens.
        node: the one that there is.
        budget_bytes: what all its instances may take.
    """
    uses, _ = pool.budget.uses()
    lives = [(live, slot) for slot in pool.slots() for live in tuple(slot.lives)]
    return Standing(
        alone=True,
        nodes=(NodeRow(id=node, budget_bytes=budget_bytes, held_bytes=budget_bytes),),
        gateways=(GatewayRow(id=gateway, address=address, heard_ago_s=0.0),),
        shares=(
            ShareRow(
                gateway=gateway,
                node=node,
                used_bytes=sum(use.used_bytes for use in uses.values()),
                idle_bytes=sum(use.idle_bytes for use in uses.values()),
                held_bytes=budget_bytes,
            ),
        ),
        hosts=tuple(
            HostRow(name=kind, node=at, kind=kind, pid=pid, gateways=(gateway,))
            for at, kind, pid in hosts
        ),
        instances=tuple(
            InstanceRow(
                name=live.running.name,
                host=live.running.kind,
                gateway=gateway,
                private_bytes=live.size_bytes or slot.size_bytes or UNMEASURED_BYTES,
            )
            for live, slot in lives
        ),
    )
