"""The scaling policy in a function's specification, such as ``{policy = "fixed"}``."""

from typing import Annotated, assert_never

import msgspec

from cloud_fn.functions.scaling.backtested import BackTestedPolicy, Learned
from cloud_fn.functions.scaling.fixed import FixedPolicy
from cloud_fn.functions.scaling.forecast import ForecastPolicy
from cloud_fn.functions.scaling.greedy import GreedyDualPolicy
from cloud_fn.functions.scaling.histogram import HistogramPolicy
from cloud_fn.functions.scaling.window import Policy

_Seconds = Annotated[float, msgspec.Meta(ge=0, le=7 * 86_400)]
_Percent = Annotated[float, msgspec.Meta(gt=0, le=100)]
_Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class _Settings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="policy"
):
    pass


class Fixed(_Settings, frozen=True, kw_only=True, tag="fixed"):
    """Loaded for ``keep_alive_s`` after each request."""

    keep_alive_s: _Seconds = 600.0


class Histogram(_Settings, frozen=True, kw_only=True, tag="histogram"):
    """See :class:`~cloud_fn.functions.scaling.histogram.HistogramPolicy`."""

    head_percentile: _Percent = 5.0
    tail_percentile: _Percent = 99.0
    margin: _Share = 0.1
    least_cv: Annotated[float, msgspec.Meta(ge=0)] = 2.0
    least_seen: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10

    def __post_init__(self) -> None:
        if self.head_percentile > self.tail_percentile:
            raise ValueError("head_percentile must not be above tail_percentile")


class Forecast(_Settings, frozen=True, kw_only=True, tag="forecast"):
    """See :class:`~cloud_fn.functions.scaling.forecast.ForecastPolicy`."""

    margin: _Share = 0.15
    keep_alive_s: _Seconds = 600.0


class GreedyDual(_Settings, frozen=True, kw_only=True, tag="greedy-dual"):
    """Loaded until its memory is needed."""


class BackTested(_Settings, frozen=True, kw_only=True, tag="back-tested"):
    """Loaded when it would have paid by the log; memory's price is the same for all functions."""


Scaling = Fixed | Histogram | Forecast | GreedyDual | BackTested


def policy_of(
    settings: Scaling, *, learned: Learned | None = None, size_bytes: int = 1 << 27
) -> Policy:
    """The policy that *settings* describe.

    Args:
        settings: of one function.
        learned: for the back-tested policy, what ``choose`` found; its defaults where None.
        size_bytes: what an instance of the function takes.
    """
    match settings:
        case Fixed():
            return FixedPolicy(keep_alive_s=settings.keep_alive_s)
        case Histogram():
            return HistogramPolicy(
                head_percentile=settings.head_percentile,
                tail_percentile=settings.tail_percentile,
                margin=settings.margin,
                least_cv=settings.least_cv,
                least_seen=settings.least_seen,
            )
        case Forecast():
            return ForecastPolicy(margin=settings.margin, keep_alive_s=settings.keep_alive_s)
        case GreedyDual():
            return GreedyDualPolicy()
        case BackTested():
            return BackTestedPolicy(learned=learned or Learned(), size_bytes=size_bytes)
    assert_never(settings)
