"""Profiles: what ops, steps and codecs cost on one kind of machine, as a JSON document."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from planner.errors import PlannerError
from planner.refusals import explain
from protos import codecs
from protos.documents import DocumentError, decode_json, encode_json
from protos.errors import WireError

SCHEMA: Literal["isthmus.profile/1"] = "isthmus.profile/1"

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Duration = Annotated[float, msgspec.Meta(gt=0)]
Bytes = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the times were taken.

    ``provider`` is what really ran the network, ``accelerator`` the name of the GPU where it was
    one, and ``system`` the operating system's kernel.
    """

    cpu: str
    cores: Count
    threads: Count
    python: str
    onnxruntime: str
    provider: Literal["CPU", "CUDA"] = "CPU"
    accelerator: str = ""
    system: str = ""
    numpy: str = ""


MESSAGE_S = 3e-4
"""CPU seconds that the agent takes for a message more: writing it, handing it to gRPC's loop,
sending it. ``isthmus testbed bench planner --only overlap`` measures it anew (2026-11: 0.26 to
0.34 ms at full speed)."""

Part = Literal["head", "tail"]
"""Which side of a cut: what runs before it, or after."""


class OpTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds of one op; the bytes of its weights, and of what it makes where that is known.

    ``tail_s`` is what it takes as part of a tail, where that was found to be another time.
    """

    name: str
    kind: str
    seconds: Seconds
    tail_s: Seconds | None = None
    weight_bytes: Bytes = 0
    output_bytes: Bytes = 0

    def as_part(self, part: Part) -> float:
        """Seconds as part of a head or a tail."""
        return self.seconds if part == "head" or self.tail_s is None else self.tail_s

    def scaled(self, factor: float) -> "OpTime":
        tail_s = None if self.tail_s is None else self.tail_s / factor
        return msgspec.structs.replace(self, seconds=self.seconds / factor, tail_s=tail_s)


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

    def scaled(self, factor: float) -> "CodecRate":
        return CodecRate(
            codec=self.codec,
            encode_fixed_s=self.encode_fixed_s / factor,
            encode_per_byte_s=self.encode_per_byte_s / factor,
            decode_fixed_s=self.decode_fixed_s / factor,
            decode_per_byte_s=self.decode_per_byte_s / factor,
        )


class TensorSize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor's bytes on the sample: raw, and as each codec wrote it."""

    name: str
    raw_bytes: Bytes
    coded_bytes: dict[str, Bytes]


class Anchor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cut whose head and tail were really run, without the steps.

    ``raw_bytes`` cross it; ``head_expected_s`` and ``tail_expected_s`` are what ONNX Runtime's
    profiler alone had led to expect.
    """

    crossing: tuple[str, ...]
    raw_bytes: Bytes
    head_s: Duration
    tail_s: Duration
    head_expected_s: Seconds
    tail_expected_s: Seconds

    def scaled(self, factor: float) -> "Anchor":
        return Anchor(
            crossing=self.crossing,
            raw_bytes=self.raw_bytes,
            head_s=self.head_s / factor,
            tail_s=self.tail_s / factor,
            head_expected_s=self.head_expected_s / factor,
            tail_expected_s=self.tail_expected_s / factor,
        )


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model on one machine.

    ``whole_s`` is the lower quartile of the runs and ``spread_s`` their 10th and 90th percentile;
    the ops' seconds, corrected by the ``anchors``, add up to it. ``taken`` is when, in UTC.

    ``local_s`` and ``remote_s`` are the software's own time around the model, for a request that
    is answered on the device and for one that is sent: 0 until an agent has measured them.
    ``message_s`` is what it takes for one message more, where a request is sent in several.
    """

    schema: Literal["isthmus.profile/1"]
    model: str
    digest: str
    machine: Machine
    runs: Count
    whole_s: Duration
    spread_s: tuple[Seconds, Seconds]
    ops: tuple[OpTime, ...]
    codecs: tuple[CodecRate, ...]
    tensors: tuple[TensorSize, ...]
    local_s: Seconds = 0.0
    remote_s: Seconds = 0.0
    message_s: Seconds = MESSAGE_S
    anchors: tuple[Anchor, ...] = ()
    taken: str = ""

    def scaled(self, factor: float) -> "Profile":
        """This machine made *factor* times as fast (0.1: a tenth of it)."""
        if not 0 < factor < float("inf"):
            raise PlannerError(f"a profile can be scaled by a factor above 0, not {factor}")
        return msgspec.structs.replace(
            self,
            whole_s=self.whole_s / factor,
            spread_s=(self.spread_s[0] / factor, self.spread_s[1] / factor),
            ops=tuple(op.scaled(factor) for op in self.ops),
            codecs=tuple(rate.scaled(factor) for rate in self.codecs),
            local_s=self.local_s / factor,
            remote_s=self.remote_s / factor,
            message_s=self.message_s / factor,
            anchors=tuple(anchor.scaled(factor) for anchor in self.anchors),
        )


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        PlannerError: unreadable, or a field is missing, unknown, of the wrong type or impossible.
    """
    what = f"profile {path}"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise PlannerError(f"{what} does not exist: make one with `isthmus profile`") from error
    except OSError as error:
        raise PlannerError(f"{what} cannot be read: {error.strerror}") from error
    try:
        profile = decode_json(data, Profile, what=what)
    except DocumentError as error:
        raise PlannerError(explain(error, data, what)) from error
    if wrong := _impossible(profile):
        raise PlannerError(f"{what} is not valid: {wrong}")
    return profile


def write_profile(profile: Profile, path: Path) -> None:
    path.write_bytes(encode_json(profile))


def _impossible(profile: Profile) -> str:
    """What no field alone shows to be wrong; empty where all is well."""
    low, high = profile.spread_s
    if low > high:
        return f"`spread_s` is {low:g} to {high:g}: the smaller must come first"
    if not any(op.seconds for op in profile.ops):
        return "no field `ops[...].seconds` is above 0: at least one op takes time"
    for what, names in (
        ("ops[...].name", [op.name for op in profile.ops]),
        ("codecs[...].codec", [rate.codec for rate in profile.codecs]),
        ("tensors[...].name", [size.name for size in profile.tensors]),
    ):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            return f"field `{what}` is {twice[0]!r} twice: each may be there once"
    for size in profile.tensors:
        for codec, nbytes in size.coded_bytes.items():
            if size.raw_bytes and not nbytes:
                return (
                    f"field `coded_bytes` of the tensor {size.name!r} is 0 for {codec}: "
                    f"{size.raw_bytes} bytes take at least 1"
                )
    try:
        for name in {rate.codec for rate in profile.codecs}.union(
            *(size.coded_bytes for size in profile.tensors)
        ):
            codecs.parse(name)
    except WireError as error:
        return str(error)
    return ""
