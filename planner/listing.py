"""Answers that are no single plan, for a terminal: a front, a placement over tiers, a cascade."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from planner.cascade.document import Cascade
from planner.plans import Crossing, Plan
from planner.tiering import TierPlan
from planner.words import cascade_in_words


def explain_front(pair: str, points: Sequence[Plan]) -> Iterator[RenderableType]:
    """One row a plan, from the best in the first objective to the best in the second."""
    yield Text(f"{len(points)} plans that no other beats in both of {pair}", style="bold")
    table = _table("plan", "runs on", "crosses as")
    for name in ("sent kB", "device ms", "cloud ms", "J", "USD/M", "frames/s"):
        table.add_column(name, justify="right")
    for plan in points:
        table.add_row(
            plan.id,
            plan.kind,
            _crossing(plan.crossing),
            f"{plan.upload_bytes / 1e3:.1f}",
            f"{plan.busy_s * 1e3:.1f}",
            f"{plan.served_s * 1e3:.1f}",
            "" if plan.energy_j is None else f"{plan.energy_j:.3g}",
            "" if plan.usd is None else f"{plan.usd * 1e6:.3g}",
            "" if plan.fps is None else f"{plan.fps:.4g}",
        )
    yield table


def explain_tiers(plan: TierPlan) -> Iterator[RenderableType]:
    """What runs on each tier, what crosses between, and what each tier alone would take."""
    yield Text(f"{plan.model} over {len(plan.stages)} tiers: {plan.total_s * 1e3:.1f} ms")
    table = _table("tier", "ops", "ms", "then crosses", "kB", "link ms", "over")
    for stage, hop in zip(plan.stages, (*plan.hops, None), strict=True):
        crossing = hop.crossing if hop else ()
        table.add_row(
            Text(stage.tier),
            str(len(stage.ops)),
            f"{stage.seconds * 1e3:.1f}",
            _crossing(crossing),
            f"{sum(each.bytes for each in crossing) / 1e3:.1f}" if crossing else "",
            f"{(hop.codec_s + hop.travel_s) * 1e3:.1f}" if hop and crossing else "",
            Text(hop.link if hop else ""),
        )
    yield table
    for name, seconds in plan.alone_s.items():
        times = seconds / plan.total_s if plan.total_s > 0 else 1.0
        yield Text(f"all on {name}: {seconds * 1e3:.1f} ms, {times:.2f}x")
    proof = plan.certificate
    yield Text(
        f"certificate: re-costed {proof.cost * 1e3:.4g} ms, minimum cut {proof.bound * 1e3:.4g} ms"
    )


def explain_cascade(cascade: Cascade) -> Iterator[RenderableType]:
    """The cascade in one sentence, with how sure its figures are."""
    yield Text(f"cascade: {cascade_in_words(cascade)}")


def _crossing(crossing: Sequence[Crossing]) -> Text:
    """As text: a tensor's name may hold what would be markup."""
    return Text(", ".join(f"{each.tensor} ({each.codec})" for each in crossing))


def _table(*names: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name in names:
        table.add_column(name)
    return table
