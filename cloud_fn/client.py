"""Asking a gateway that runs, perhaps elsewhere."""

import grpc

from cloud_fn.config import Address
from cloud_fn.errors import GatewayRefused
from cloud_fn.service import LoadReport
from planner.loads import Load
from protos.gen import control_pb2 as pb
from protos.wire import CONTROL

LIMIT_S = 10.0


def get_load(gateway: Address, model: str, version: str = "", *, key: str | None) -> LoadReport:
    """How busy a function was lately.

    Args:
        gateway: where it listens.
        model: the function's model.
        version: its version; empty for the newest.
        key: what opens the door; None where it is open.

    Raises:
        GatewayRefused: nobody answers there, the key is wrong, or there is no such function.
    """
    request = pb.GetLoadRequest(model=model, version=version).SerializeToString()
    found = pb.GetLoadResponse.FromString(_call(gateway, "GetLoad", request, key))
    return LoadReport(
        model=found.model,
        version=int(found.version),
        window_s=found.window_s,
        requests=found.requests,
        load=Load(queue_s=found.queue_s, cold_chance=found.cold_chance, cold_s=found.cold_s),
    )


def _call(gateway: Address, method: str, request: bytes, key: str | None) -> bytes:
    metadata = () if key is None else (("authorization", f"Bearer {key}"),)
    with grpc.insecure_channel(str(gateway)) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/{CONTROL}/{method}"
        )
        try:
            return call(request, metadata=metadata, timeout=LIMIT_S)
        except grpc.RpcError as error:
            raise GatewayRefused(_sentence(gateway, error)) from error


def _sentence(gateway: Address, error: grpc.RpcError) -> str:
    silent = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    if error.code() in silent:
        return f"no gateway answers at {gateway}: is `isthmus serve` running there?"
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return f"what answers at {gateway} is no gateway, or an older one that has no control plane"
    return f"the gateway at {gateway} refuses: {error.details()}"
