"""The plans that one model may follow here, and which of them suits the link. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Self

from planner.plans import Plan, PlanDocument

DEVICE_ONLY = "device-only"
"""The plan of a model that has no plan document, under the planner's own name for it."""

HYSTERESIS = 0.1
"""Another plan must promise this much less latency before the agent changes over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One plan as the agent weighs it.

    ``head_s`` is the device's predicted work before the crossing, encoding included; ``tail_s``
    what the device would need to finish by itself from there.
    """

    kind: Literal["edge", "split", "cloud"]
    head_s: float = 0.0
    tail_s: float = 0.0

    @property
    def remote(self) -> bool:
        """Whether the cloud takes part."""
        return self.kind != "edge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Every plan by its id; *document* is None for a model that only runs here."""

    ways: Mapping[str, Way]
    document: PlanDocument | None = None

    @classmethod
    def device_only(cls) -> Self:
        """Build the options of a model without a plan document."""
        return cls(ways=MappingProxyType({DEVICE_ONLY: Way(kind="edge")}))

    @classmethod
    def of(cls, document: PlanDocument) -> Self:
        """Build the options that *document* gives, refused plans included: they may be pinned."""
        whole_s = max((p.device_s for p in document.plans if p.kind == "edge"), default=0.0)
        ways = {plan.id: _way(plan, whole_s) for plan in document.plans}
        return cls(ways=MappingProxyType(ways), document=document)

    def local(self) -> Self:
        """Keep only what needs no cloud."""
        ways = {plan: way for plan, way in self.ways.items() if not way.remote}
        ways = ways or {DEVICE_ONLY: Way(kind="edge")}
        return type(self)(ways=MappingProxyType(ways))

    @property
    def initial(self) -> str:
        """The plan to follow before anything was measured."""
        return next(iter(self.ways)) if self.document is None else self.document.choice

    def best(self, active: str, up_bps: float | None, rtt_s: float | None) -> str:
        """Choose the plan for a link: *active*, unless another is clearly better.

        Args:
            active: the plan followed now.
            up_bps: bytes per second, None when not measured yet: then the document's choice.
            rtt_s: round trip in seconds, None when not measured: then the document's.
        """
        if self.document is None or up_bps is None:
            return self.initial
        rtt_s = self.document.link.rtt_s if rtt_s is None else rtt_s
        best, now = self.document.at(up_bps, rtt_s), self.document.plan(active)
        if now.refused:
            return best.id
        down_bps = self.document.link.down_bps
        best_s, now_s = (plan.total_s(up_bps, rtt_s, down_bps) for plan in (best, now))
        return best.id if best_s < (1 - HYSTERESIS) * now_s else active

    def away_s(self, plan: str, up_bps: float | None, rtt_s: float | None) -> float:
        """How long a request should be away in the cloud, travel included."""
        if self.document is None:
            return 0.0
        link, found = self.document.link, self.document.plan(plan)
        total_s = found.total_s(
            link.up_bps if up_bps is None else up_bps,
            link.rtt_s if rtt_s is None else rtt_s,
            link.down_bps,
        )
        return max(0.0, total_s - found.device_s - found.encode_s)


def _way(plan: Plan, whole_s: float) -> Way:
    if plan.kind == "edge":
        return Way(kind="edge", head_s=plan.device_s)
    return Way(
        kind=plan.kind,
        head_s=plan.device_s + plan.encode_s,
        tail_s=max(0.0, whole_s - plan.device_s),
    )
