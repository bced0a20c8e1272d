"""Where a plan's time goes, and what its objective makes of it at any bandwidth."""

from dataclasses import dataclass

from planner.plans import LinkFigures, Plan, PlanDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A plan's expected latency, piece by piece, in seconds.

    ``device_s`` holds the device's own software too, ``trip_s`` the round trip and the wait for an
    instance, ``cloud_s`` the decoding there.
    """

    device_s: float
    encode_s: float
    uplink_s: float
    trip_s: float
    cloud_s: float
    downlink_s: float

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
        return max(self.device_s + self.encode_s, self.uplink_s, self.cloud_s, self.downlink_s)


def parts_of(plan: Plan, link: LinkFigures) -> Parts:
    """*plan*'s latency over *link*; nothing of the link for a plan that stays on the device."""
    return Parts(
        device_s=plan.device_s + plan.overhead_s,
        encode_s=plan.encode_s,
        uplink_s=plan.upload_bytes / link.up_bps,
        trip_s=link.rtt_s + plan.wait_s if plan.remote else 0.0,
        cloud_s=plan.served_s,
        downlink_s=plan.download_bytes / link.down_bps if plan.remote else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Curve:
    """What a plan costs over the uplink's bandwidth: the largest of its stages.

    Each stage is (fixed, per second per byte), so a plan without stages side by side has one.
    """

    stages: tuple[tuple[float, float], ...]

    def at(self, up_bps: float) -> float:
        return max(fixed + pace / up_bps for fixed, pace in self.stages)


def curve_of(document: PlanDocument, plan: Plan) -> Curve:
    """The objective's curve; the latency's where the objective is energy.

    Over other bandwidths energy needs the radio's powers, which a plan document does not hold.
    """
    link = document.link
    if document.objective == "cost" and plan.usd is not None:
        return Curve(((plan.usd, 0.0),))
    if document.objective == "throughput":
        parts = parts_of(plan, link)
        still = max(parts.device_s + parts.encode_s, parts.cloud_s, parts.downlink_s)
        return Curve(((still, 0.0), (0.0, float(plan.upload_bytes))))
    fixed = plan.fixed_s(rtt_s=link.rtt_s, down_bps=link.down_bps)
    return Curve(((fixed, float(plan.upload_bytes)),))


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
