"""Whether a function's requests run together and what that gains, in words."""

from collections.abc import Sequence

from cloud_fn.functions.curve import Curve
from cloud_fn.functions.settings import Batching, Resolved
from cloud_fn.registry.variants import Batched, Variant


def told_together(settings: Resolved, variants: Sequence[Variant]) -> str:
    """A clause, or one for each kind of machine that the version was made ready for."""
    if settings.batching == "off":
        return "off: its settings say so"
    if "cuda" in settings.providers:
        return "off: it runs on cuda, for which nothing was measured"
    if not variants:
        return "off: the version was not made ready: push it again"
    told = {each.target.id: _told(settings, each.batched) for each in variants}
    if len(told) == 1:
        return next(iter(told.values()))
    return "; ".join(f"{target}: {clause}" for target, clause in told.items())


def _told(settings: Resolved, batched: Batched | None) -> str:
    if batched is None:
        return "off: nobody has measured it: push the version again"
    if batched.graph is None:
        return f"off: {batched.reason}"
    most = settings.batching.max_size if isinstance(settings.batching, Batching) else None
    gain, size = _best(Curve(points=batched.points, length=batched.length), most)
    return f"on: {size:g} at once are {gain:.1f} times as many a second"


def _best(curve: Curve, most: int | None) -> tuple[float, float]:
    """The gain, and at which size."""
    alone_s = curve.seconds(1, curve.length)
    sizes = [(size, seconds) for size, seconds in curve.points if size >= 1]
    return max(
        (alone_s * size / seconds, size) for size, seconds in sizes if most is None or size <= most
    )
