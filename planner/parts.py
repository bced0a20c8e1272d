"""Where a plan's time goes, and what its objective makes of it at any bandwidth."""

from dataclasses import dataclass

from planner.chunks import lines
from planner.plans import LinkFigures, Plan, PlanDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A plan's expected latency, piece by piece, in seconds.

    ``device_s`` holds the device's own software too, ``trip_s`` the round trip and the wait for an
    instance, ``cloud_s`` the decoding there. ``uplink_s`` is what is left of the way up when the
    device has done its work; ``hidden_s`` of it passed meanwhile, and is in no sum.
    """

    device_s: float
    encode_s: float
    uplink_s: float
    trip_s: float
    cloud_s: float
    downlink_s: float
    hidden_s: float = 0.0

    @property
    def link_s(self) -> float:
        """All that is neither the device's nor the cloud's work."""
        return self.uplink_s + self.trip_s + self.downlink_s

    @property
    def total_s(self) -> float:
        return self.device_s + self.encode_s + self.link_s + self.cloud_s

    @property
    def slowest_s(self) -> float:
        """The stage that holds up frames in flight; a round trip holds up none."""
        uplink_s = self.uplink_s + self.hidden_s
        return max(self.device_s + self.encode_s, uplink_s, self.cloud_s, self.downlink_s)


def parts_of(plan: Plan, link: LinkFigures) -> Parts:
    """*plan*'s latency over *link*; nothing of the link for a plan that stays on the device."""
    hidden_s = plan.hidden_s(link.up_bps)
    return Parts(
        device_s=plan.device_s + plan.overhead_s,
        encode_s=plan.encode_s,
        uplink_s=plan.upload_bytes / link.up_bps - hidden_s,
        trip_s=link.rtt_s + plan.wait_s if plan.remote else 0.0,
        cloud_s=plan.served_s,
        downlink_s=plan.download_bytes / link.down_bps if plan.remote else 0.0,
        hidden_s=hidden_s,
    )


Stages = tuple[tuple[float, float], ...]
"""(fixed, per second per byte) of what goes on side by side: the largest counts."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What a plan costs over the uplink's bandwidth: the lesser of its ``ways`` to be carried out.

    A plan without stages side by side has one way of one stage; one that may send in chunks has two
    ways: sent at the end, and in chunks.
    """

    ways: tuple[Stages, ...]

    def at(self, up_bps: float) -> float:
        return min(max(fixed + pace / up_bps for fixed, pace in stages) for stages in self.ways)


def curve_of(document: PlanDocument, plan: Plan) -> Curve:
    """The objective's curve; the latency's where the objective is energy.

    Over other bandwidths energy needs the radio's powers, which a plan document does not hold.
    """
    link = document.link
    if document.objective == "cost" and plan.usd is not None:
        return Curve((((plan.usd, 0.0),),))
    if document.objective == "throughput":
        parts = parts_of(plan, link)
        still = max(parts.device_s + parts.encode_s, parts.cloud_s, parts.downlink_s)
        return Curve((((still, 0.0), (0.0, float(plan.upload_bytes))),))
    fixed = plan.fixed_s(rtt_s=link.rtt_s, down_bps=link.down_bps)
    whole = ((fixed, float(plan.upload_bytes)),)
    if not plan.chunks:
        return Curve((whole,))
    rest = fixed - plan.busy_s
    return Curve((whole, tuple((rest + s, n) for s, n in lines(plan.chunks))))


def value_of(document: PlanDocument, plan: Plan) -> float:
    """What the objective makes of *plan* at the document's link: less is better.

    Seconds, joules or US dollars per request; for throughput the slowest stage's seconds.
    """
    parts = parts_of(plan, document.link)
    match document.objective:
        case "energy":
            return plan.energy_j if plan.energy_j is not None else parts.total_s
        case "cost":
            return plan.usd if plan.usd is not None else parts.total_s
        case "throughput":
            return parts.slowest_s
        case "latency":
            return parts.total_s


def in_order(document: PlanDocument) -> tuple[Plan, ...]:
    """All plans, the choice first and then the best first; refused ones last."""
    return tuple(
        sorted(
            document.plans,
            key=lambda plan: (
                bool(plan.refused),
                plan.id != document.choice,
                value_of(document, plan),
            ),
        )
    )
