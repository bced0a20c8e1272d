"""The protocol's small calls: liveness, readiness, metadata, the repository's index."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from cloud_fn.registry.manifest import TensorSpec
from cloud_fn.service import Service
from protos.errors import WireError
from protos.gen import open_inference_pb2 as pb

PLATFORM = "onnx_onnxv1"

_Q = TypeVar("_Q", bound=Message)


def _server_live(_service: Service, _request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
    return pb.ServerLiveResponse(live=True)


def _server_ready(service: Service, _request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
    return pb.ServerReadyResponse(ready=service.is_ready())


def _model_ready(service: Service, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
    return pb.ModelReadyResponse(ready=service.has(request.name, request.version))


def _server_metadata(
    service: Service, _request: pb.ServerMetadataRequest
) -> pb.ServerMetadataResponse:
    info = service.info()
    return pb.ServerMetadataResponse(
        name=info.name, version=info.version, extensions=info.extensions
    )


def _model_metadata(service: Service, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
    """The network's own tensors, which any client can send; `bytes` needs no metadata."""
    manifest = service.manifest(request.name, request.version)
    return pb.ModelMetadataResponse(
        name=manifest.name,
        versions=map(str, service.versions(manifest.name)),
        platform=PLATFORM,
        inputs=_tensors(manifest.interface.inputs),
        outputs=_tensors(manifest.interface.outputs),
    )


def _repository_index(
    service: Service, _request: pb.RepositoryIndexRequest
) -> pb.RepositoryIndexResponse:
    ready = "READY" if service.is_ready() else "UNAVAILABLE"
    return pb.RepositoryIndexResponse(
        models=[
            pb.RepositoryIndexResponse.ModelIndex(
                name=manifest.name, version=str(manifest.version), state=ready
            )
            for manifest in service.index()
        ]
    )


def on_bytes(
    call: Callable[[Service, _Q], Message], request: type[_Q]
) -> Callable[[Service, bytes], bytes]:
    """*call*, from encoded request to encoded reply."""

    def handle(service: Service, data: bytes) -> bytes:
        try:
            message = request.FromString(data)
        except DecodeError as error:
            raise WireError(f"the request is no {request.DESCRIPTOR.name}: {error}") from error
        return call(service, message).SerializeToString()

    return handle


def _tensors(specs: Iterable[TensorSpec]) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [
        pb.ModelMetadataResponse.TensorMetadata(
            name=spec.name, datatype=spec.datatype, shape=spec.shape
        )
        for spec in specs
    ]


CALLS: Mapping[str, Callable[[Service, bytes], bytes]] = {
    "ServerLive": on_bytes(_server_live, pb.ServerLiveRequest),
    "ServerReady": on_bytes(_server_ready, pb.ServerReadyRequest),
    "ModelReady": on_bytes(_model_ready, pb.ModelReadyRequest),
    "ServerMetadata": on_bytes(_server_metadata, pb.ServerMetadataRequest),
    "ModelMetadata": on_bytes(_model_metadata, pb.ModelMetadataRequest),
    "RepositoryIndex": on_bytes(_repository_index, pb.RepositoryIndexRequest),
}
"""What each answers, from the message's bytes to those of its reply."""
