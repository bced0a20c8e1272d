"""The plans that one model may follow here, and which of them suits what is known. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Self

from edge_agent.table import away_fixed_s, named, named_within, redrawn
from planner.chunks import across_s
from planner.plans import Plan, PlanDocument
from protos.messages import Estimate

DEVICE_ONLY = "device-only"
"""The plan of a model that has no plan document, under the planner's own name for it."""

HYSTERESIS = 0.1
"""A breakpoint must be passed by this share of it before the agent changes over; measured in
:mod:`edge_agent.adapt`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One plan as the agent weighs it.

    ``head_s`` is the device's predicted work before the crossing, encoding included, and of a plan
    with chunks the software's time for each; ``tail_s`` is what the device would need to finish by
    itself from there.
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

    def best(self, active: str, known: Estimate) -> str:
        """Choose the plan: the one that the table names, unless a breakpoint lies too near.

        The table is the document's as :func:`edge_agent.table.redrawn` draws it. While it names
        *active* for a bandwidth within HYSTERESIS of the estimate, nothing changes; so the estimate
        must pass an end of *active*'s range by that much, and to come back it must pass the same
        breakpoint by as much the other way: a swing of (1 + HYSTERESIS) squared.

        Args:
            active: the plan followed now.
            known: what was measured; without a bandwidth the choice is the document's.
        """
        if self.document is None or known.up_bps is None:
            return self.initial
        table = redrawn(self.document, known)
        low_bps, high_bps = known.up_bps / (1 + HYSTERESIS), known.up_bps * (1 + HYSTERESIS)
        if active in named_within(table, low_bps, high_bps):
            return active
        return named(table, known.up_bps)

    def hides(self, plan: str, known: Estimate) -> bool:
        """Whether a request of *plan* is across sooner if it is sent while its head works."""
        if self.document is None:
            return False
        pace = 1.0 if known.pace is None else known.pace
        return self.document.plan(plan).hidden_s(self._up_bps(known), pace=pace) > 0

    def away_s(self, plan: str, known: Estimate, *, chunked: bool = False) -> float:
        """How long a request should be away in the cloud, travel and waiting included.

        It counts from the head's end; what was sent in chunks by then is not waited for.
        """
        if self.document is None:
            return 0.0
        found, up_bps = self.document.plan(plan), self._up_bps(known)
        upload_s = found.upload_bytes / up_bps
        if chunked:
            pace = 1.0 if known.pace is None else known.pace
            upload_s = across_s(found.chunks, up_bps, pace=pace) - pace * self.ways[plan].head_s
        return away_fixed_s(found, self.document, known) + upload_s

    def _up_bps(self, known: Estimate) -> float:
        assert self.document is not None
        return self.document.link.up_bps if known.up_bps is None else known.up_bps


def _way(plan: Plan, whole_s: float) -> Way:
    if plan.kind == "edge":
        return Way(kind="edge", head_s=plan.device_s)
    head_s = sum(chunk.device_s + chunk.encode_s for chunk in plan.chunks)
    return Way(
        kind=plan.kind,
        head_s=head_s if plan.chunks else plan.busy_s,
        tail_s=max(0.0, whole_s - plan.device_s),
    )
