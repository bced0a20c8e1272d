"""The gateway's side of the socket: bytes out, bytes in, unread."""

import select
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloud_fn.errors import CloudError, FunctionFailed, InvalidRequest
from cloud_fn.functions.reach import Address, connect
from protos.errors import WireError
from protos.frames import Turns, send_frame
from protos.tensors import Buffer

ERRORS: Mapping[str, type[CloudError]] = {"invalid": InvalidRequest, "failed": FunctionFailed}
"""What an error frame's ``error`` may say, and what the gateway raises for it."""

WARM = "warm"
"""The field of a frame's header that names a cut to load the tail of, instead of a request."""

_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """An instance's reply and the seconds it spent on loading and on the inference."""

    body: Buffer
    load_s: float
    infer_s: float


class Connection:
    """One connection to an instance; carries one request at a time."""

    def __init__(self, address: Address) -> None:
        """Connect.

        Raises:
            OSError: nobody listens there.
        """
        self._socket = connect(address, timeout_s=_CONNECT_S)
        self._turns = Turns(self._socket)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    @property
    def is_idle(self) -> bool:
        """Whether the instance still holds its end and has said nothing unasked."""
        return not self.wait(0.0)

    def send(self, body: Buffer, *, timeout_s: float) -> None:
        """Hand a request over.

        Raises:
            OSError: the instance is gone and has not received all of it, so it ran nothing.
            WireError: the request is larger than any frame.
        """
        self._socket.settimeout(timeout_s)
        send_frame(self._socket, {}, body)

    def wait(self, timeout_s: float) -> bool:
        """Whether an answer begins to arrive, or the instance goes, within *timeout_s*."""
        return bool(self._poll.poll(max(0.0, timeout_s) * 1e3))

    def receive(self, *, timeout_s: float) -> Exchanged:
        """Take the answer to what was sent.

        Raises:
            OSError | WireError: the instance is gone or stuck, or what it says makes no sense.
            InvalidRequest | FunctionFailed: what the instance says of the request.
        """
        self._socket.settimeout(timeout_s)
        header, body = self._answer()
        return Exchanged(
            body=body, load_s=_seconds(header, "load_s"), infer_s=_seconds(header, "infer_s")
        )

    def warm(self, tensors: Sequence[str], *, timeout_s: float) -> float:
        """Have the tail after the cut of *tensors* loaded; gives how many seconds it took.

        Raises:
            OSError | WireError: as :meth:`receive`.
            InvalidRequest | FunctionFailed: why the instance cannot load it.
        """
        self._socket.settimeout(timeout_s)
        send_frame(self._socket, {WARM: list(tensors)})
        header, _ = self._answer()
        return _seconds(header, "load_s")

    def _answer(self) -> tuple[dict[str, Any], Buffer]:
        header, body = self._turns.receive()
        if "error" in header:
            kind = ERRORS.get(header["error"], FunctionFailed)
            raise kind(str(header.get("message")))
        return header, body

    def close(self) -> None:
        self._socket.close()


def _seconds(header: dict[str, Any], name: str) -> float:
    value = header.get(name)
    if not isinstance(value, float | int) or value < 0:
        raise WireError(f"the instance's answer has no {name}: its code is of another version")
    return float(value)
