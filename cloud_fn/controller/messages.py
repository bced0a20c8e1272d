"""What gateways and the controller say to each other, as JSON through Ray."""

import msgspec

from cloud_fn.functions.leases import Roll

BEAT_S = 1.0
"""How often a gateway says what it has."""

LAPSE_S = 5.0
"""For how long a gateway may not be heard until it counts as gone, unless a host works for it."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway's instances take on one node, those that start too, and what idles of it."""

    used_bytes: int = 0
    idle_bytes: int = 0


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway says once a second.

    Attributes:
        gateway: who it is.
        address: where it listens.
        budgets: the nodes where it has a host, and how much it would let all gateways use there.
        needs: by node.
        waits_bytes: what starts lack that find no room on any node.
        holds: what it may use of each node, as far as it knows.
    """

    gateway: str
    address: str
    budgets: dict[str, int] = {}
    needs: dict[str, Need] = {}
    waits_bytes: int = 0
    holds: dict[str, int] = {}


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway on one node: what it uses, what of that idles, and what it may use."""

    used_bytes: int
    idle_bytes: int
    held_bytes: int


class GatewayRow(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway, as the books have it; ``nodes`` are its shares by node."""

    id: str
    address: str
    heard_ago_s: float
    nodes: dict[str, Share]


class NodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A node: what may be used there, and what gateways hold of it together."""

    id: str
    budget_bytes: int
    held_bytes: int


class HostRow(msgspec.Struct, frozen=True, kw_only=True):
    """A host, and what it last said of itself."""

    name: str
    roll: Roll


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All that the controller knows; it is ``gathered`` once it may give anything out."""

    gathered: bool
    nodes: tuple[NodeRow, ...] = ()
    gateways: tuple[GatewayRow, ...] = ()
    hosts: tuple[HostRow, ...] = ()
