"""What the gateway may ask of a host, over a socket of the host's own, and the asking."""

import socket
from typing import TypeAlias

import msgspec

from cloud_fn.errors import InstanceLost
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.reach import Address, connect
from cloud_fn.processes import Mark
from protos.errors import WireError
from protos.frames import recv_frame, send_frame
from protos.tensors import Buffer


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    """Make an instance of the function that the body holds as JSON; its name begins *label*.

    Under a *lease* it ends with that; where the host does not know the lease, it hangs up.
    """

    label: str
    confinement: Confinement
    timeout_s: float
    lease: str = ""


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """End an instance at once; answered when it is gone."""

    name: str


class Why(msgspec.Struct, frozen=True, kw_only=True, tag="why"):
    """Why did an instance end? The answer's body is the last that it printed."""

    name: str


class Weigh(msgspec.Struct, frozen=True, kw_only=True, tag="weigh"):
    """How much memory does an instance take?"""

    name: str


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag="ping"):
    """Are you well? The answer passes on what instances printed since the last one.

    Where a host has several gateways, each holds a *lease* by what it asks on one connection: with
    the connection, or when nothing is said there for long, the lease ends and all that was started
    under it. *holds* is what the *gateway* may use of each node's memory, for the host to remember.
    """

    lease: str = ""
    gateway: str = ""
    holds: dict[str, int] = {}


class Leave(msgspec.Struct, frozen=True, kw_only=True, tag="leave"):
    """End all that was started under the *lease*, and yourself if there is no other."""

    lease: str


class Close(msgspec.Struct, frozen=True, kw_only=True, tag="close"):
    """End all that there is, and yourself."""


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    name: str
    process: Mark
    socket: str


class Reason(msgspec.Struct, frozen=True, kw_only=True, tag="reason"):
    """A clause such as ``it was killed by SIGSEGV``; None when it runs, or was told to end."""

    why: str | None


class Well(msgspec.Struct, frozen=True, kw_only=True, tag="well"):
    """``busy_s`` is for how long the host's one loop has been at the same thing.

    ``memory_bytes`` is what its node has.
    """

    host: Mark
    busy_s: float
    spares: int
    instances: int
    memory_bytes: int = 0
    printed: tuple[tuple[str, str], ...] = ()


class Weighed(msgspec.Struct, frozen=True, kw_only=True, tag="weighed"):
    """``private_bytes`` is memory that cannot be taken back at will; 0 when it is gone."""

    private_bytes: int


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    pass


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    reason: str


Request: TypeAlias = Start | End | Why | Weigh | Ping | Leave | Close
Reply: TypeAlias = Started | Reason | Well | Weighed | Done | Refused


class HostClient:
    """One connection to a host; carries one request at a time."""

    def __init__(self, address: Address, *, timeout_s: float) -> None:
        """Connect.

        Raises:
            OSError: nobody listens there.
        """
        self.socket = connect(address, timeout_s=timeout_s)

    def ask(self, request: Request, body: Buffer = b"", *, timeout_s: float) -> tuple[Reply, bytes]:
        """Send a request and take its answer.

        Raises:
            InstanceLost: the host says why it will not.
            OSError | WireError: the host is gone or stuck, or what it says makes no sense.
        """
        self.socket.settimeout(timeout_s)
        send(self.socket, request, body)
        header, rest = recv_frame(self.socket)
        try:
            reply = msgspec.convert(header, Reply)
        except msgspec.ValidationError as error:
            raise WireError(f"a host's answer is not valid: {error}") from error
        if isinstance(reply, Refused):
            raise InstanceLost(reply.reason)
        return reply, bytes(rest)

    def close(self) -> None:
        self.socket.close()


def send(sock: socket.socket, message: Request | Reply, body: Buffer = b"") -> None:
    """Send one message as a frame; see :func:`protos.frames.send_frame`."""
    send_frame(sock, msgspec.to_builtins(message), body)


def receive(sock: socket.socket) -> tuple[Request, memoryview]:
    """Receive one request.

    Raises:
        OSError | WireError: the gateway is gone, or what it says makes no sense.
    """
    header, body = recv_frame(sock)
    try:
        return msgspec.convert(header, Request), body
    except msgspec.ValidationError as error:
        raise WireError(f"a request to a host is not valid: {error}") from error
