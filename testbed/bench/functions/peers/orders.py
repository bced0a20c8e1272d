"""What the bench tells the process that holds a Ray of its own, and what that answers."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from protos.errors import WireError
from protos.frames import PeerClosed, send_frame
from testbed.bench.rig.wire import header, receive
from testbed.errors import TestbedError

T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=1)]


class Once(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="what"):
    """Start an actor for ``model``, answer the body, then ``warm`` times more; end the actor."""

    model: str
    warm: Count


class Burst(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="what"
):
    """Start ``count`` actors at once and have each answer the body; end them."""

    model: str
    count: Count


class Open(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="what"):
    """Start an actor for ``model`` and keep it."""

    model: str


class Calls(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="what"
):
    """Have the actor that is kept answer the body ``count`` times."""

    count: Count


class Serve(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="what"
):
    """Deploy each of ``models`` (name: file) on Ray Serve, with no replica while idle."""

    models: dict[str, str]


class Idle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="what"):
    """Wait until Ray Serve has no replica of ``name``, ``limit_s`` at most."""

    name: str
    limit_s: float


Order = Once | Burst | Open | Calls | Serve | Idle


class Took(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="what"):
    """Seconds of each answer in turn; of a burst, until the last. The answer is the body."""

    seconds: tuple[float, ...]


class Done(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="what"):
    """It is so; ``address`` is Ray Serve's HTTP, or empty."""

    address: str = ""


class Failed(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="what"
):
    """It could not be done; the reason is one sentence."""

    reason: str


Report = Took | Done | Failed

_ORDER: Any = Order  # unions, which mypy does not take for a type[T]
_REPORT: Any = Report


def serve_orders(
    path: Path,
    obey: Callable[[Order, bytes], tuple[Report, bytes]],
    ready: Callable[[], None],
) -> None:
    """Carry out orders from the Unix socket *path*, one at a time, until the other side closes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(os.fspath(path))
        server.listen(1)
        ready()
        sock, _ = server.accept()
        with sock:
            while True:
                try:
                    order, body = receive(sock, _ORDER)
                except PeerClosed:
                    return
                report, answer = obey(order, bytes(body))
                send_frame(sock, header(report), answer)


class Orders:
    """Gives orders to a process that :func:`serve_orders` runs in."""

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.connect(os.fspath(path))

    def give(
        self, order: Order, answer: type[T], *, body: bytes = b"", limit_s: float
    ) -> tuple[T, bytes]:
        """Have *order* carried out, within *limit_s*; the report and the body beside it.

        Raises:
            TestbedError: it failed, or the process does not answer.
        """
        try:
            self._sock.settimeout(limit_s)
            send_frame(self._sock, header(order), body)
            report, made = receive(self._sock, _REPORT)
        except (OSError, WireError) as error:
            self.close()
            raise TestbedError(
                f"{self._name} does not answer ({error}): see {self._name}.log"
            ) from error
        if isinstance(report, Failed):
            raise TestbedError(f"{self._name} failed: {report.reason}")
        if not isinstance(report, answer):
            raise TestbedError(f"{self._name} answered {type(report).__name__}")
        return report, bytes(made)

    def close(self) -> None:
        self._sock.close()
