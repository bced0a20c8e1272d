"""What lossy crossings do to the answers, measured on samples."""

from planner.fidelity.document import (
    Effect,
    Fidelity,
    Metric,
    read_fidelity,
    write_fidelity,
)
from planner.fidelity.evaluation import Crossing, Evaluation

__all__ = [
    "Crossing",
    "Effect",
    "Evaluation",
    "Fidelity",
    "Metric",
    "read_fidelity",
    "write_fidelity",
]
