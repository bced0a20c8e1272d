"""Plans over more than two tiers: device, gateway, edge server, cloud, each with its own link."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from planner.errors import NoFeasiblePlan, PlannerError
from planner.links import Link
from planner.model import Model
from planner.plans import Certificate, Crossing
from planner.profiles import Profile
from planner.solve.tiers import Placement, TierPrices, cost_of, place
from planner.solve.way import Way
from planner.ways import check_profile, codec_rates, op_seconds, ways_of

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
        check_profile(model, profile, f"the profile of tier {name}")
    kept = () if raw_input_may_leave else model.source
    ways = [
        _ways(model, tiers[hop], tiers[hop + 1], tiers, links[hop], codecs, kept if not hop else ())
        for hop in range(len(links))
    ]
    seconds = [
        op_seconds(
            model.graph,
            profile,
            f"the profile of tier {name}",
            "tail" if profile is tiers[-1] else "head",
        )
        for name, profile in profiles.items()
    ]
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
        stages=_stages(model, names, seconds, found),
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


def _stages(
    model: Model, names: Sequence[str], seconds: Sequence[Sequence[float]], found: Placement
) -> tuple[Stage, ...]:
    out = []
    for tier, name in enumerate(names):
        here = [i for i, at in enumerate(found.tiers) if at == tier]
        out.append(
            Stage(
                tier=name,
                ops=tuple(model.graph.ops[i].name for i in here),
                seconds=math.fsum(seconds[tier][i] for i in here),
            )
        )
    return tuple(out)


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
    here, there = codec_rates(near), codec_rates(far)
    found: dict[str, Way | None] = dict.fromkeys(model.graph.consumers)
    for name in found:
        size = sizes.get(name)
        if size is None or name in kept or not model.graph.info(name).crosses:
            continue
        ways = ways_of(size, here, there, codecs)
        found[name] = min(ways, key=lambda way: _cost(way, link), default=None)
    return found


def _cost(way: Way | None, link: Link) -> float:
    if way is None:
        return math.inf
    return way.encode_s + way.nbytes / link.up_bps + way.decode_s
