"""The library about models: read, profile, price, cut, plan, split and run a piece.

The names below are loaded when first used: importing the package must not load ONNX Runtime.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.model import Model, read
    from planner.planning import plan
    from planner.profiling import profile
    from planner.splitting import split

__all__ = ["Model", "plan", "profile", "read", "split"]

# ONNX Runtime reports to its maker since 1.29 unless told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {
    "Model": "planner.model",
    "plan": "planner.planning",
    "profile": "planner.profiling",
    "read": "planner.model",
    "split": "planner.splitting",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  a module's attributes are of any type
    if name not in _HOME:
        raise AttributeError(f"module 'planner' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
