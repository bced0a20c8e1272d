"""The control plane's small calls."""

from collections.abc import Callable, Mapping

from cloud_fn.doors.admin import on_bytes
from cloud_fn.service import Service
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
    )


CALLS: Mapping[str, Callable[[Service, bytes], bytes]] = {
    "GetLoad": on_bytes(_get_load, pb.GetLoadRequest),
}
"""What each answers, from the message's bytes to those of its reply."""
