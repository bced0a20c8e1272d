"""Functions: published versions made invocable, from zero instances and back."""

from cloud_fn.functions.exchange import Answer
from cloud_fn.functions.pool import Pool
from cloud_fn.functions.slot import Limits
from cloud_fn.functions.spec import Function

__all__ = ["Answer", "Function", "Limits", "Pool"]
