"""What gateways and the controller say to each other, as JSON through Ray."""

import msgspec

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


class NodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A node: what may be used there, and what gateways hold of it together."""

    id: str
    budget_bytes: int
    held_bytes: int


class GatewayRow(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway: where it listens, and how long ago it was heard."""

    id: str
    address: str
    heard_ago_s: float


class ShareRow(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway on a node: what it uses, what of that idles, and what it may use."""

    gateway: str
    node: str
    used_bytes: int
    idle_bytes: int
    held_bytes: int


class HostRow(msgspec.Struct, frozen=True, kw_only=True):
    """A host, and the gateways that it works for."""

    name: str
    node: str
    kind: str
    pid: int
    gateways: tuple[str, ...] = ()


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """An instance, on which host, whose, and the memory that cannot be taken back from it."""

    name: str
    host: str
    gateway: str
    private_bytes: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a cluster's gateways.

    It is ``gathered`` once the controller may give anything out. A gateway that is ``alone`` has a
    Ray of its own, and no controller.
    """

    gathered: bool = True
    alone: bool = False
    nodes: tuple[NodeRow, ...] = ()
    gateways: tuple[GatewayRow, ...] = ()
    shares: tuple[ShareRow, ...] = ()
    hosts: tuple[HostRow, ...] = ()
    instances: tuple[InstanceRow, ...] = ()
