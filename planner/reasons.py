"""Why this plan: one or two sentences with the figures that decide."""

from collections.abc import Mapping, Sequence

from planner.plans import Mixture, Plan
from planner.steps import SOURCE
from planner.words import show_bytes

_TAKES = {"latency": "take", "energy": "draw", "cost": "cost", "throughput": "take per frame"}


def gain_of(choice: Plan, every: Sequence[Plan], value: Mapping[str, float]) -> float:
    """The better of device alone and cloud alone, over the choice; 1 where it is one of them."""
    single = [value[p.id] for p in every if p.kind != "split" and not p.refused]
    mine = value[choice.id]
    if not single or mine <= 0:
        return 1.0
    return max(min(single) / mine, 0.0)


def reason_for(
    choice: Plan,
    every: Sequence[Plan],
    value: Mapping[str, float],
    *,
    objective: str,
    unit: str,
    mixture: Mixture | None,
) -> str:
    """What was chosen, and against what."""
    mine = value[choice.id]
    single = [p for p in every if p.kind != "split" and p.id != choice.id and not p.refused]
    other = min(single, key=lambda p: value[p.id], default=None)
    verb = _TAKES[objective]
    against = ""
    if other is not None and mine > 0:
        against = f"; {other.id} would {verb} {value[other.id] / mine:.2f}x as much"
    if choice.kind == "split":
        names = ", ".join(c.tensor for c in choice.crossing)
        text = f"split: {show_bytes(choice.upload_bytes)} cross at {names}{against}"
    else:
        text = _whole(choice, every, value, unit=unit) + against + _no_split(choice, every, value)
    if mixture is not None and len(mixture.shares) > 1:
        parts = " + ".join(f"{share.share:.0%} {share.plan}" for share in mixture.shares)
        text += f"; frames in flight: {parts} pass {mixture.fps:.1f} frames/s, {choice.id} alone "
        text += f"{choice.fps or 0:.1f}"
    return text


def _whole(choice: Plan, every: Sequence[Plan], value: Mapping[str, float], *, unit: str) -> str:
    mine = _figure(value[choice.id], unit)
    if choice.kind == "edge":
        if all(p.refused for p in every if p.id != choice.id):
            return f"do not split: the device alone needs {mine}, and nothing else is allowed"
        return f"do not split: the device alone needs {mine}, less than sending anything"
    names = ", ".join(c.tensor for c in choice.crossing)
    what = "the message as it came" if names == SOURCE else names
    return (
        f"do not split: {what} ({show_bytes(choice.upload_bytes)}) is in the cloud sooner than "
        f"the device could do more ({mine})"
    )


def _no_split(choice: Plan, every: Sequence[Plan], value: Mapping[str, float]) -> str:
    mine = value[choice.id]
    splits = [value[p.id] for p in every if p.kind == "split" and not p.refused]
    if splits and mine > 0:
        return f"; the best split on the table would take {min(splits) / mine:.2f}x as much"
    return "; no split is best at any bandwidth on the table"


def _figure(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1e3:.0f} ms"
    return f"{value * 1e6:.3g} USD a million" if unit == "USD" else f"{value:.3g} {unit}"
