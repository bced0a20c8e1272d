"""Asking a gateway that runs, perhaps elsewhere."""

import json
from collections.abc import Iterable, MutableSequence, Sequence
from typing import TypeVar

import grpc
import msgspec
from google.protobuf.message import Message

from cloud_fn.config import Address
from cloud_fn.controller.messages import (
    GatewayRow,
    HostRow,
    InstanceRow,
    NodeRow,
    ShareRow,
    Standing,
)
from cloud_fn.deployments import Deployment
from cloud_fn.errors import GatewayRefused
from cloud_fn.functions.settings import Settings
from cloud_fn.functions.specifications import Described, Setting
from cloud_fn.service import LoadReport
from planner.loads import Load
from protos.gen import control_pb2 as pb
from protos.wire import CONTROL

LIMIT_S = 10.0

_Row = TypeVar("_Row", bound=msgspec.Struct)


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
        warm=tuple(tuple(cut.tensors) for cut in found.warm),
    )


def deploy_cuts(
    gateway: Address,
    model: str,
    version: str = "",
    *,
    cuts: Iterable[Iterable[str]],
    key: str | None,
) -> Deployment:
    """Have the tails after *cuts* loaded wherever *model* runs; see :meth:`Service.deploy_cuts`.

    Raises:
        GatewayRefused: as :func:`get_load`, or there are more of them than may be.
    """
    request = pb.DeployRequest(
        model=model, version=version, cuts=[pb.Cut(tensors=tensors) for tensors in cuts]
    )
    data = _call(gateway, "Deploy", request.SerializeToString(), key)
    made = pb.DeployResponse.FromString(data)
    return Deployment(
        model=made.model,
        version=int(made.version),
        warm=tuple(tuple(cut.tensors) for cut in made.warm),
        refused=tuple((tuple(each.cut.tensors), each.reason) for each in made.refused),
    )


def list_functions(gateway: Address, *, key: str | None) -> tuple[Described, ...]:
    """What holds for each function; see :meth:`Specifications.all`.

    Raises:
        GatewayRefused: nobody answers there, or the key is wrong.
    """
    request = pb.ListFunctionsRequest().SerializeToString()
    found = pb.ListFunctionsResponse.FromString(_call(gateway, "ListFunctions", request, key))
    return tuple(map(_described, found.functions))


def show_function(gateway: Address, name: str, *, key: str | None) -> Described:
    """What holds for one function; see :meth:`Specifications.show`.

    Raises:
        GatewayRefused: as :func:`get_load`.
    """
    request = pb.ShowFunctionRequest(name=name).SerializeToString()
    found = pb.ShowFunctionResponse.FromString(_call(gateway, "ShowFunction", request, key))
    return _described(found.function)


def set_function(
    gateway: Address,
    name: str,
    changes: Settings,
    *,
    key: str | None,
    unset: Sequence[str] = (),
    replace: bool = False,
) -> Described:
    """Change a function's settings; see :meth:`Specifications.set`.

    Raises:
        GatewayRefused: as :func:`get_load`, or the settings may not be.
    """
    request = pb.SetFunctionRequest(
        name=name, settings=msgspec.json.encode(changes).decode(), unset=unset, replace=replace
    )
    data = _call(gateway, "SetFunction", request.SerializeToString(), key)
    return _described(pb.SetFunctionResponse.FromString(data).function)


def show_controller(gateway: Address, *, key: str | None) -> Standing:
    """The gateways that share a Ray with this one, and all that they have.

    Raises:
        GatewayRefused: as :func:`get_load`, or its controller does not answer.
    """
    request = pb.ShowControllerRequest().SerializeToString()
    found = pb.ShowControllerResponse.FromString(_call(gateway, "ShowController", request, key))
    return Standing(
        gathered=found.gathered,
        alone=found.alone,
        nodes=tuple(_row(NodeRow, each) for each in found.nodes),
        gateways=tuple(_row(GatewayRow, each) for each in found.gateways),
        shares=tuple(_row(ShareRow, each) for each in found.shares),
        hosts=tuple(_row(HostRow, each) for each in found.hosts),
        instances=tuple(_row(InstanceRow, each) for each in found.instances),
    )


def _row(kind: type[_Row], message: Message) -> _Row:
    """Its fields have the names of the message's."""
    given = ((name, getattr(message, name)) for name in kind.__struct_fields__)
    return kind(
        **{
            name: tuple(value) if isinstance(value, MutableSequence) else value
            for name, value in given
        }
    )


def _described(function: pb.Function) -> Described:
    return Described(
        name=function.name,
        model=function.model,
        version=function.version,
        changed=function.changed,
        settings={
            each.field: Setting(value=json.loads(each.value), source=each.source)
            for each in function.settings
        },
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
            raise GatewayRefused(sentence(gateway, error)) from error


def sentence(gateway: Address, error: grpc.RpcError) -> str:
    """What to tell of a call that a gateway did not answer."""
    silent = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    if error.code() in silent:
        return f"no gateway answers at {gateway}: is `isthmus serve` running there?"
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return f"what answers at {gateway} is no gateway, or an older one that has no control plane"
    return f"the gateway at {gateway} refuses: {error.details()}"
