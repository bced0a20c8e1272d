"""The policy of the public clouds: so many seconds after the last request, whatever it was."""

from dataclasses import dataclass

from cloud_fn.functions.scaling.history import History
from cloud_fn.functions.scaling.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPolicy:
    """Stays loaded for ``keep_alive_s``."""

    keep_alive_s: float = 600.0
    name: str = "fixed"

    def window(self, history: History, /) -> Window:  # noqa: ARG002  the past does not matter
        return Window(0.0, self.keep_alive_s)
