"""A request sent in several messages, each as soon as it is ready, and when the last is across.

Device and link work one after the other on each chunk, and on different chunks at once: a flow shop
of two machines (Johnson 1954). A chunk is a boundary tensor, or a slice of one that takes long to
encode.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from planner.errors import PlannerError

Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Chunk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Slice ``number`` of ``of`` (1 of 1: the whole tensor), in ``bytes`` on the wire.

    ``device_s`` is the head's work after the chunk before until the tensor is there: more than 0
    only in a tensor's first slice, and then a stage of the head ends here. ``encode_s`` is writing
    it and, from the second chunk on, the software's time for one message more.
    """

    tensor: str
    number: Annotated[int, msgspec.Meta(ge=1)] = 1
    of: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    device_s: Seconds
    encode_s: Seconds
    bytes: Annotated[int, msgspec.Meta(ge=0)]


def across_s(chunks: Sequence[Chunk], up_bps: float, *, pace: float = 1.0) -> float:
    """Seconds from the head's beginning until the last byte has left the device.

    Args:
        chunks: in the order in which they are sent.
        up_bps: bytes per second of the uplink.
        pace: by how much the device is slower than planned.
    """
    ready_s = free_s = 0.0
    for chunk in chunks:
        ready_s += pace * (chunk.device_s + chunk.encode_s)
        free_s = max(free_s, ready_s) + chunk.bytes / up_bps
    return free_s


def hidden_s(
    chunks: Sequence[Chunk],
    busy_s: float,
    upload_bytes: int,
    up_bps: float,
    *,
    pace: float = 1.0,
) -> float:
    """What sending in *chunks* saves over sending when all is ready; 0 where it saves nothing.

    Args:
        chunks: none where the request is sent in one message.
        busy_s: the device's work on the request, codecs included.
        upload_bytes: bytes of the whole request.
        up_bps: bytes per second of the uplink.
        pace: by how much the device is slower than planned.
    """
    if not chunks:
        return 0.0
    whole_s = pace * busy_s + upload_bytes / up_bps
    return max(0.0, whole_s - across_s(chunks, up_bps, pace=pace))


def lines(chunks: Sequence[Chunk]) -> tuple[tuple[float, float], ...]:
    """:func:`across_s` as the largest of straight lines over one over the bandwidth.

    Returns:
        Seconds of the device's work and bytes of each line: the link is never idle from the chunk
        on at which the line begins.
    """
    out, ready_s = [], 0.0
    left = sum(chunk.bytes for chunk in chunks)
    for chunk in chunks:
        ready_s += chunk.device_s + chunk.encode_s
        out.append((ready_s, float(left)))
        left -= chunk.bytes
    return tuple(out)


def check(chunks: Sequence[Chunk], crossing: Sequence[tuple[str, int]], whose: str) -> None:
    """Refuse chunks that are not those of *crossing* (tensors and their bytes).

    Raises:
        PlannerError: a tensor is missing, unknown or there twice, a slice is out of order, or the
            bytes are not the crossing's; *whose* names the plan.
    """
    if not chunks:
        return
    found: dict[str, int] = {}
    sums: dict[str, int] = {}
    for before, chunk in zip((None, *chunks), chunks, strict=False):
        follows = (
            before is not None
            and (before.tensor, before.of, before.number + 1)
            == (chunk.tensor, chunk.of, chunk.number)
            and chunk.device_s == 0
        )
        if not follows and (chunk.number != 1 or chunk.tensor in found):
            raise PlannerError(
                f"{whose} has slice {chunk.number} of {chunk.tensor!r} out of order: a tensor's "
                "slices follow each other from 1 on"
            )
        found[chunk.tensor] = chunk.of - chunk.number
        sums[chunk.tensor] = sums.get(chunk.tensor, 0) + chunk.bytes
    if any(found.values()) or sums != dict(crossing):
        raise PlannerError(f"{whose} has chunks that are not those of its crossing: plan again")
