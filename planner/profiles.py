"""Profiles: what ops, steps and codecs cost on one kind of machine, as a JSON document."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from planner.errors import PlannerError
from protos.documents import DocumentError, encode_json, read_json

SCHEMA: Literal["isthmus.profile/1"] = "isthmus.profile/1"

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Bytes = Annotated[int, msgspec.Meta(ge=0)]


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the times were taken."""

    cpu: str
    cores: int
    threads: int
    python: str
    onnxruntime: str


class OpTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    kind: str
    seconds: Seconds
    weight_bytes: Bytes = 0


class CodecRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A codec's time on this machine: ``fixed_s + per_byte_s * raw bytes``, each way."""

    codec: str
    encode_fixed_s: Seconds
    encode_per_byte_s: Seconds
    decode_fixed_s: Seconds
    decode_per_byte_s: Seconds

    def encode_s(self, raw_bytes: int) -> float:
        return self.encode_fixed_s + self.encode_per_byte_s * raw_bytes

    def decode_s(self, raw_bytes: int) -> float:
        return self.decode_fixed_s + self.decode_per_byte_s * raw_bytes


class TensorSize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor's bytes on the sample: raw, and as each codec wrote it."""

    name: str
    raw_bytes: Bytes
    coded_bytes: dict[str, int]


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model on one machine; seconds are medians, ``spread_s`` the 10th and 90th percentile.

    ``local_s`` and ``remote_s`` are the software's own time around the model, for a request that
    is answered on the device and for one that is sent: 0 until an agent has measured them.
    """

    schema: Literal["isthmus.profile/1"]
    model: str
    digest: str
    machine: Machine
    runs: int
    whole_s: Seconds
    spread_s: tuple[Seconds, Seconds]
    ops: tuple[OpTime, ...]
    codecs: tuple[CodecRate, ...]
    tensors: tuple[TensorSize, ...]
    local_s: Seconds = 0.0
    remote_s: Seconds = 0.0

    def scaled(self, factor: float) -> "Profile":
        """This machine made *factor* times as fast (0.1: a tenth of it)."""
        if not factor > 0:
            raise PlannerError(f"a profile can be scaled by a factor above 0, not {factor}")
        return msgspec.structs.replace(
            self,
            whole_s=self.whole_s / factor,
            spread_s=(self.spread_s[0] / factor, self.spread_s[1] / factor),
            ops=tuple(msgspec.structs.replace(op, seconds=op.seconds / factor) for op in self.ops),
            codecs=tuple(
                msgspec.structs.replace(
                    rate,
                    encode_fixed_s=rate.encode_fixed_s / factor,
                    encode_per_byte_s=rate.encode_per_byte_s / factor,
                    decode_fixed_s=rate.decode_fixed_s / factor,
                    decode_per_byte_s=rate.decode_per_byte_s / factor,
                )
                for rate in self.codecs
            ),
            local_s=self.local_s / factor,
            remote_s=self.remote_s / factor,
        )


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        PlannerError: unreadable, or a field is missing, unknown, negative or of the wrong type.
    """
    try:
        profile = read_json(path, Profile, what="profile")
    except DocumentError as error:
        raise PlannerError(str(error)) from error
    return profile


def write_profile(profile: Profile, path: Path) -> None:
    path.write_bytes(encode_json(profile))
