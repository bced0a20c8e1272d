"""What a profile says of one model: seconds of its ops, and the ways of its tensors to cross."""

import math
from collections.abc import Collection, Mapping

from planner.errors import PlannerError
from planner.graph import Graph, TensorInfo
from planner.model import Model
from planner.profiles import CodecRate, Part, Profile, TensorSize
from planner.solve.overlap import most_slices
from planner.solve.way import Way
from protos import codecs as wire_codecs
from protos import slices

_FREE = CodecRate(
    codec="raw",
    encode_fixed_s=0.0,
    encode_per_byte_s=0.0,
    decode_fixed_s=0.0,
    decode_per_byte_s=0.0,
)
"""What a raw tensor costs a machine whose profile has no rate for it."""

Rates = Mapping[str, CodecRate]


def check_profile(model: Model, profile: Profile, whose: str) -> None:
    """Refuse a profile of other bytes than *model*'s.

    Raises:
        PlannerError: it is; *whose* names the profile.
    """
    if profile.digest != model.digest:
        raise PlannerError(
            f"{whose} is of {profile.model} with other bytes than this {model.name}: "
            "profile this model again"
        )


def op_seconds(
    graph: Graph, profile: Profile, whose: str, part: Part = "head"
) -> tuple[float, ...]:
    """Seconds of each op as part of a head, or of a tail, in the graph's order.

    Raises:
        PlannerError: the profile lacks one; *whose* names the profile.
    """
    times = {op.name: op.as_part(part) for op in profile.ops}
    missing = [op.name for op in graph.ops if op.name not in times]
    if missing:
        raise PlannerError(
            f"{whose} is of another model or version: it lacks the op {missing[0]!r}; "
            "profile this model again"
        )
    return tuple(times[op.name] for op in graph.ops)


def codec_rates(profile: Profile) -> Rates:
    return {rate.codec: rate for rate in profile.codecs}


def ways_of(
    size: TensorSize,
    here: Rates,
    there: Rates,
    codecs: Collection[str],
    *,
    info: TensorInfo | None = None,
    message_s: float = math.inf,
) -> list[Way]:
    """Every way for a tensor to cross with one of *codecs* that both ends have a rate for.

    Args:
        size: its bytes with each codec.
        here: the rates of the end that encodes.
        there: the rates of the end that decodes.
        codecs: those that are allowed.
        info: its type and shape, where it may be sent in slices.
        message_s: what a message more costs the sender, in seconds.
    """
    out = []
    for codec, nbytes in size.coded_bytes.items():
        if codec in codecs and (codec == "raw" or (codec in here and codec in there)):
            encode_s = here.get(codec, _FREE).encode_s(size.raw_bytes)
            out.append(
                Way(
                    codec=codec,
                    nbytes=nbytes,
                    encode_s=encode_s,
                    decode_s=there.get(codec, _FREE).decode_s(size.raw_bytes),
                    slices=_slices(info, codec, most_slices(encode_s, nbytes, message_s)),
                )
            )
    return out


def _slices(info: TensorInfo | None, codec: str, most: int) -> int:
    """In how many slices, at most *most*, the tensor can be cut; 1 where it cannot."""
    if info is None or info.nbytes is None:
        return 1
    for count in range(most, 1, -1):
        if slices.axis_of(wire_codecs.parse(codec), info.shape, count) is not None:
            return count
    return 1
