"""Which gRPC status each error becomes: the one place where the two meet."""

import grpc

from cloud_fn import errors
from protos.errors import IsthmusError, WireError

_STATUSES: tuple[tuple[type[IsthmusError], grpc.StatusCode], ...] = (
    (WireError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.UnknownModel, grpc.StatusCode.NOT_FOUND),
    (errors.TooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Busy, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.DeadlinePassed, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.Stopping, grpc.StatusCode.UNAVAILABLE),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (errors.InstanceLost, grpc.StatusCode.INTERNAL),
    (errors.FunctionFailed, grpc.StatusCode.INTERNAL),
    (errors.ControllerSilent, grpc.StatusCode.ABORTED),
    (errors.RegistryError, grpc.StatusCode.INTERNAL),
)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The status and the sentence that tell a caller of *error*.

    An error that is none of ours is a fault in the server, of which a caller learns no more.
    """
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status, str(error)
    return grpc.StatusCode.INTERNAL, "the server failed: its log says why"
