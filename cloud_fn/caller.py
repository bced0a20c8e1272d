"""Inference at a gateway that runs, perhaps elsewhere, and that may be away for a while."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import grpc

from cloud_fn.client import sentence
from cloud_fn.config import Address
from cloud_fn.errors import (
    DeadlinePassed,
    GatewayRefused,
    InstanceLost,
    InvalidRequest,
    Stopping,
)
from cloud_fn.functions import Answer
from protos.wire import SERVICE

log = logging.getLogger(__name__)

PATIENCE_S = 120.0
"""How long a gateway may be away, or too busy: it is ready 10 s after it was started again."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_OPTIONS = [
    ("grpc.max_receive_message_length", 128 << 20),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]
_SAYS_LATER = "again later"


class Caller:
    """One connection to a gateway; :meth:`ask` may be used from many threads."""

    def __init__(
        self,
        gateway: Address,
        key: str | None,
        *,
        timeout_s: float,
        patience_s: float = PATIENCE_S,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up; nothing is connected yet.

        Args:
            gateway: where it listens.
            key: what opens the door; None where it is open.
            timeout_s: how long one attempt may take.
            patience_s: how long a gateway may be away or too busy before that is an error.
            stop: when set, nobody waits for it any longer.
            clock: what the patience is on, in seconds.
        """
        self._gateway = gateway
        self._metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._stop, self._clock = stop or threading.Event(), clock
        self._channel = grpc.insecure_channel(str(gateway), options=_OPTIONS)
        self._infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer"
        )
        self._waits = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def ask(self, request: bytes) -> Answer:
        """Have one encoded request answered, waiting while the gateway is away or too busy.

        Raises:
            InvalidRequest: the function will not run on it, or it is too large.
            DeadlinePassed: it took too long.
            InstanceLost: it failed there, perhaps because its instance was lost.
            GatewayRefused: nobody is there for long, the key is wrong, or there is no such model.
            Stopping: it was told to stop while it waited.
        """
        began_s, pause_s = self._clock(), _FIRST_PAUSE_S
        while True:
            try:
                body = self._infer(request, metadata=self._metadata, timeout=self._timeout_s)
            except grpc.RpcError as error:
                if not _may_pass(error) or self._clock() - began_s >= self._patience_s:
                    raise self._meaning(error) from error
                self._tell(error)
                if self._stop.wait(pause_s):
                    raise Stopping("stopped while the gateway was away") from error
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._waits = False
                return Answer(
                    body=body, instance="", handed_s=0.0, init_s=0.0, load_s=0.0, infer_s=0.0
                )

    def _tell(self, error: grpc.RpcError) -> None:
        """Say once that the gateway is waited for."""
        if not self._waits:
            self._waits = True
            log.warning(
                "waiting: gateway=%s limit_s=%g reason=%r",
                self._gateway,
                self._patience_s,
                error.details(),
            )

    def _meaning(self, error: grpc.RpcError) -> Exception:
        code, said = error.code(), str(error.details())
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlinePassed(said)
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidRequest(said)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and not _may_pass(error):
            return InvalidRequest(said)
        if code is grpc.StatusCode.INTERNAL:
            return InstanceLost(said)
        return GatewayRefused(sentence(self._gateway, error))


def _may_pass(error: grpc.RpcError) -> bool:
    """Whether the same request may do later; of one status the gateway's words say whether."""
    code = error.code()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _SAYS_LATER in str(error.details())
    return code is grpc.StatusCode.UNAVAILABLE
