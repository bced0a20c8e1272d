"""How many instances a function has, and how long they stay: pure, no clock and no threads."""

from cloud_fn.functions.scaling.backtested import BackTestedPolicy, Learned
from cloud_fn.functions.scaling.choosing import Log, choose
from cloud_fn.functions.scaling.deciding import Context, Decision, decide
from cloud_fn.functions.scaling.fixed import FixedPolicy
from cloud_fn.functions.scaling.forecast import ForecastPolicy
from cloud_fn.functions.scaling.greedy import GreedyDualPolicy, Idle, Victims, victims
from cloud_fn.functions.scaling.histogram import HistogramPolicy
from cloud_fn.functions.scaling.history import History, seen
from cloud_fn.functions.scaling.settings import (
    BackTested,
    Fixed,
    Forecast,
    GreedyDual,
    Histogram,
    Scaling,
    policy_of,
)
from cloud_fn.functions.scaling.window import Policy, Window

__all__ = [
    "BackTested",
    "BackTestedPolicy",
    "Context",
    "Decision",
    "Fixed",
    "FixedPolicy",
    "Forecast",
    "ForecastPolicy",
    "GreedyDual",
    "GreedyDualPolicy",
    "Histogram",
    "HistogramPolicy",
    "History",
    "Idle",
    "Learned",
    "Log",
    "Policy",
    "Scaling",
    "Victims",
    "Window",
    "choose",
    "decide",
    "policy_of",
    "seen",
    "victims",
]
