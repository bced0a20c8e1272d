"""The control plane's small calls."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import asdict

from cloud_fn.doors.admin import on_bytes
from cloud_fn.functions.cuts import Cut
from cloud_fn.functions.settings import Settings, SettingsError, parse
from cloud_fn.functions.specifications import Described
from cloud_fn.service import Service
from protos.documents import DocumentError, decode_json
from protos.gen import control_pb2 as pb


def _get_load(service: Service, request: pb.GetLoadRequest) -> pb.GetLoadResponse:
    found = service.load(request.model, request.version)
    return pb.GetLoadResponse(
        model=found.model,
        version=str(found.version),
        window_s=found.window_s,
        requests=found.requests,
        queue_s=found.load.queue_s,
        cold_chance=found.load.cold_chance,
        cold_s=found.load.cold_s,
        warm=map(_cut, found.warm),
    )


def _deploy(service: Service, request: pb.DeployRequest) -> pb.DeployResponse:
    made = service.deploy_cuts(
        request.model, request.version, (cut.tensors for cut in request.cuts)
    )
    return pb.DeployResponse(
        model=made.model,
        version=str(made.version),
        warm=map(_cut, made.warm),
        refused=[
            pb.DeployResponse.Refused(cut=_cut(cut), reason=reason) for cut, reason in made.refused
        ],
    )


def _cut(tensors: Cut) -> pb.Cut:
    return pb.Cut(tensors=tensors)


def _list(service: Service, _request: pb.ListFunctionsRequest) -> pb.ListFunctionsResponse:
    return pb.ListFunctionsResponse(functions=map(_function, service.specifications.all()))


def _show(service: Service, request: pb.ShowFunctionRequest) -> pb.ShowFunctionResponse:
    return pb.ShowFunctionResponse(function=_function(service.specifications.show(request.name)))


def _set(service: Service, request: pb.SetFunctionRequest) -> pb.SetFunctionResponse:
    made = service.specifications.set(
        request.name,
        _settings(request.settings),
        unset=request.unset,
        replace=request.replace,
    )
    return pb.SetFunctionResponse(function=_function(made))


def _controller(service: Service, _request: pb.ShowControllerRequest) -> pb.ShowControllerResponse:
    found, made = service.standing(), pb.ShowControllerResponse
    return made(
        gathered=found.gathered,
        alone=found.alone,
        nodes=[made.Node(**asdict(row)) for row in found.nodes],
        gateways=[made.Gateway(**asdict(row)) for row in found.gateways],
        shares=[made.Share(**asdict(row)) for row in found.shares],
        hosts=[made.Host(**asdict(row)) for row in found.hosts],
        instances=[made.Instance(**asdict(row)) for row in found.instances],
    )


def _settings(text: str) -> Settings:
    try:
        fields = decode_json(text.encode() or b"{}", dict[str, Any], what="settings")
    except DocumentError as error:
        raise SettingsError(str(error)) from error
    return parse(fields, what="settings")


def _function(described: Described) -> pb.Function:
    return pb.Function(
        name=described.name,
        model=described.model,
        version=described.version,
        changed=described.changed,
        settings=[
            pb.Setting(field=field, value=json.dumps(each.value), source=each.source)
            for field, each in described.settings.items()
        ],
    )


CALLS: Mapping[str, Callable[[Service, bytes], bytes]] = {
    "GetLoad": on_bytes(_get_load, pb.GetLoadRequest),
    "Deploy": on_bytes(_deploy, pb.DeployRequest),
    "ListFunctions": on_bytes(_list, pb.ListFunctionsRequest),
    "ShowFunction": on_bytes(_show, pb.ShowFunctionRequest),
    "SetFunction": on_bytes(_set, pb.SetFunctionRequest),
    "ShowController": on_bytes(_controller, pb.ShowControllerRequest),
}
"""What each answers, from the message's bytes to those of its reply."""
