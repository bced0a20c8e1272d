"""What scaling policies would have cost on a log of invocations: cold starts and idle memory."""

from cloud_fn.functions.backtest.compare import (
    OURS,
    Against,
    Comparison,
    against,
    compare,
)
from cloud_fn.functions.backtest.score import Outcome
from cloud_fn.functions.backtest.trace import Trace, TraceError, read_trace

__all__ = [
    "OURS",
    "Against",
    "Comparison",
    "Outcome",
    "Trace",
    "TraceError",
    "against",
    "compare",
    "read_trace",
]
