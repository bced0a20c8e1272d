"""Whether a request whose instance went may go to another. Pure."""

from dataclasses import dataclass, replace

_MOST_GONE = 2
_MOST_LOST = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """What has become of one request so far.

    It met ``gone`` instances that had ended before they took it, and was being run ``lost`` times
    when a host or a node was lost.
    """

    gone: int = 0
    lost: int = 0

    def after_gone(self, *, blameless: bool) -> "Tries | None":
        """The instance took nothing of it; None says that it may not go to another.

        Where the instance went with its host, all the host's instances did, and each that the
        request meets is one fewer: that is counted as nothing.
        """
        if blameless:
            return self
        later = replace(self, gone=self.gone + 1)
        return later if later.gone < _MOST_GONE else None

    def after_lost(self) -> "Tries | None":
        """Its host was lost while the instance ran it.

        Inference is pure, so it may run again; once, for it may be what costs the hosts.
        """
        later = replace(self, lost=self.lost + 1)
        return later if later.lost <= _MOST_LOST else None
