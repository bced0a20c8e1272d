"""Functions: published versions made invocable, from zero instances and back."""

from cloud_fn.functions.pool import Answer, Limits, Pool
from cloud_fn.functions.spec import Function

__all__ = ["Answer", "Function", "Limits", "Pool"]
