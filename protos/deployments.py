"""The cuts that a device may follow, as it tells a gateway of them: Control's ``Deploy``."""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from protos.errors import WireError
from protos.gen import control_pb2 as pb
from protos.wire import CONTROL

DEPLOY = f"/{CONTROL}/Deploy"
"""The call's path."""

MAX_CUTS = 16
MAX_TENSORS = 256
MAX_NAME_CHARS = 200

Tensors = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a gateway says of the cuts that it was told of, each written by its tensors.

    The *warm* ones are there; the *refused* ones cannot be loaded, each with the reason.
    """

    warm: tuple[Tensors, ...] = ()
    refused: tuple[tuple[Tensors, str], ...] = ()


def encode_deployment(model: str, version: str, cuts: Sequence[Tensors]) -> bytes:
    """Write a DeployRequest; an empty *version* is the newest."""
    return pb.DeployRequest(
        model=model, version=version, cuts=[pb.Cut(tensors=tensors) for tensors in cuts]
    ).SerializeToString()


def decode_deployed(data: bytes) -> Deployed:
    """Read a DeployResponse.

    Raises:
        WireError: not such a message.
    """
    try:
        message = pb.DeployResponse.FromString(data)
    except DecodeError as error:
        raise WireError(f"the answer to a deployment is none: {error}") from error
    return Deployed(
        warm=tuple(tuple(cut.tensors) for cut in message.warm),
        refused=tuple((tuple(each.cut.tensors), each.reason) for each in message.refused),
    )
