"""What this gateway may use of each node's memory, where others use the same nodes."""

from collections.abc import Mapping


class Shares:
    """Bytes by node. Replaced as a whole, so that any thread may read it at any time."""

    def __init__(self) -> None:
        self._now: dict[str, int] = {}

    def now(self) -> Mapping[str, int]:
        """What may be used; nothing of a node that is not in it."""
        return self._now

    def replace(self, shares: Mapping[str, int]) -> None:
        """From now on it is this."""
        self._now = dict(shares)
