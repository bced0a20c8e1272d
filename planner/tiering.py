"""Plans over more than two tiers: device, gateway, edge server, cloud, each with its own link."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from planner.errors import NoFeasiblePlan, PlannerError
from planner.links import Link
from planner.model import Model
from planner.plans import Certificate, Crossing
from planner.profiles import CodecRate, Profile
from planner.solve.problem import Way
from planner.solve.tiers import TierPrices, cost_of, place

SCHEMA: Literal["isthmus.tiers/1"] = "isthmus.tiers/1"

Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What runs on one tier, and how long that takes without codecs."""

    tier: str
    ops: tuple[str, ...]
    seconds: Seconds


class Hop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What crosses between two tiers; ``codec_s`` is spent at its two ends."""

    link: str
    crossing: tuple[Crossing, ...]
    codec_s: Seconds
    travel_s: Seconds


class TierPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The placement of least latency, and what each tier alone would take.

    A tensor is coded anew on every hop. ``alone_s`` says what it takes to run everything on one
    tier, by the tier's name.
    """

    schema: Literal["isthmus.tiers/1"]
    model: str
    digest: str
    stages: tuple[Stage, ...]
    hops: tuple[Hop, ...]
    total_s: Seconds
    alone_s: dict[str, float]
    certificate: Certificate


def plan_tiers(
    model: Model,
    profiles: Mapping[str, Profile],
    links: Sequence[Link],
    *,
    codecs: Sequence[str],
    raw_input_may_leave: bool = True,
) -> TierPlan:
    """The placement of least latency over all tiers at once.

    Args:
        model: what :func:`planner.read` returned.
        profiles: the model's profile on each tier, by the tier's name, from the device upward.
        links: what leads from each tier to the next.
        codecs: what a tensor may cross with.
        raw_input_may_leave: whether the sensor's own message may leave the first tier.

    Raises:
        PlannerError: a profile is of another model, or the links are not one fewer than the tiers.
        NoFeasiblePlan: nothing may run anywhere.
    """
    names, tiers = list(profiles), list(profiles.values())
    if len(links) != len(tiers) - 1 or len(tiers) < 2:
        raise PlannerError(f"{len(tiers)} tiers need {len(tiers) - 1} links, got {len(links)}")
    for name, profile in profiles.items():
        if profile.digest != model.digest:
            raise PlannerError(
                f"the profile of tier {name} is of {profile.model} with other bytes than this "
                f"{model.name}: profile this model again"
            )
    kept = () if raw_input_may_leave else model.source
    ways = [
        _ways(model, tiers[hop], tiers[hop + 1], tiers, links[hop], codecs, kept if not hop else ())
        for hop in range(len(links))
    ]
    seconds = [_seconds(model, profile, name) for name, profile in profiles.items()]
    raw = {size.name: size.raw_bytes for profile in tiers for size in profile.tensors}
    prices = TierPrices(
        run=tuple(seconds),
        crossing=tuple(
            {name: _cost(way, link) for name, way in each.items()}
            for each, link in zip(ways, links, strict=True)
        ),
        answer=tuple(
            {name: raw.get(name, 0) / link.down_bps for name in model.answers} for link in links
        ),
        round_trip=tuple(link.rtt_s for link in links),
    )
    try:
        found = place(model.graph, prices)
    except ValueError as error:
        raise NoFeasiblePlan(
            "no placement is left: the raw input may not leave the device and the device cannot "
            "run the model; allow one of them"
        ) from error
    return TierPlan(
        schema=SCHEMA,
        model=model.name,
        digest=model.digest,
        stages=tuple(
            Stage(
                tier=name,
                ops=tuple(
                    op.name
                    for op, at in zip(model.graph.ops, found.tiers, strict=True)
                    if at == tier
                ),
                seconds=math.fsum(
                    s for s, at in zip(seconds[tier], found.tiers, strict=True) if at == tier
                ),
            )
            for tier, name in enumerate(names)
        ),
        hops=tuple(
            _hop(model, found.tiers, hop, link, ways[hop], prices) for hop, link in enumerate(links)
        ),
        total_s=found.cost,
        alone_s={
            name: cost
            for tier, name in enumerate(names)
            if math.isfinite(cost := cost_of(model.graph, prices, [tier] * len(model.graph.ops)))
        },
        certificate=Certificate(
            method="minimum cut",
            unit="s",
            cost=found.cost,
            bound=found.cut_value,
            resolution=found.resolution,
        ),
    )


def _hop(
    model: Model,
    tiers: Sequence[int],
    hop: int,
    link: Link,
    ways: Mapping[str, Way | None],
    prices: TierPrices,
) -> Hop:
    before = frozenset(i for i, tier in enumerate(tiers) if tier <= hop)
    names = model.graph.boundary(before) if len(before) < len(tiers) else ()
    used = [(name, way) for name in names if (way := ways[name]) is not None]
    back = math.fsum(
        prices.answer[hop][name]
        for name in model.answers
        if name in model.graph.producer and tiers[model.graph.producer[name]] > hop
    )
    up_s = sum(way.nbytes for _, way in used) / link.up_bps
    return Hop(
        link=str(link),
        crossing=tuple(
            Crossing(tensor=name, codec=way.codec, bytes=way.nbytes) for name, way in used
        ),
        codec_s=math.fsum(way.encode_s + way.decode_s for _, way in used),
        travel_s=up_s + back + link.rtt_s if used else 0.0,
    )


def _seconds(model: Model, profile: Profile, name: str) -> tuple[float, ...]:
    times = {op.name: op.seconds for op in profile.ops}
    if lost := [op.name for op in model.graph.ops if op.name not in times]:
        raise PlannerError(
            f"the profile of tier {name} lacks the op {lost[0]!r}: profile this model again"
        )
    return tuple(times[op.name] for op in model.graph.ops)


def _ways(
    model: Model,
    near: Profile,
    far: Profile,
    profiles: Sequence[Profile],
    link: Link,
    codecs: Sequence[str],
    kept: Sequence[str],
) -> dict[str, Way | None]:
    """The fastest way for each tensor over one hop."""
    sizes = {size.name: size for profile in profiles for size in profile.tensors}
    here = {rate.codec: rate for rate in near.codecs}
    there = {rate.codec: rate for rate in far.codecs}
    none = CodecRate(
        codec="raw",
        encode_fixed_s=0.0,
        encode_per_byte_s=0.0,
        decode_fixed_s=0.0,
        decode_per_byte_s=0.0,
    )
    found: dict[str, Way | None] = dict.fromkeys(model.graph.consumers)
    for name in found:
        size = sizes.get(name)
        if size is None or name in kept or not model.graph.info(name).crosses:
            continue
        ways = [
            Way(
                codec=codec,
                nbytes=nbytes,
                encode_s=here.get(codec, none).encode_s(size.raw_bytes),
                decode_s=there.get(codec, none).decode_s(size.raw_bytes),
            )
            for codec, nbytes in size.coded_bytes.items()
            if codec in codecs and (codec == "raw" or (codec in here and codec in there))
        ]
        found[name] = min(ways, key=lambda way: _cost(way, link), default=None)
    return found


def _cost(way: Way | None, link: Link) -> float:
    if way is None:
        return math.inf
    return way.encode_s + way.nbytes / link.up_bps + way.decode_s
