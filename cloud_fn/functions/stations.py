"""Where a host is to be: how one comes there, is reached, and is ended. Ray's are in ray_hosts."""

from collections.abc import Callable
from typing import Protocol

from cloud_fn.functions.reach import Address, Near
from cloud_fn.runtime_dir import HostFolder


class Hopeless(Exception):
    """The host that was placed will not come up; the message is a sentence that says why."""


class Station(Protocol):
    """Where one host is to be. Used by one thread, but for :meth:`give_up`."""

    comes_back: bool
    """Whether whoever placed the host starts it again when it ends."""

    def place(self) -> None:
        """Have the host started, or started again where the last one does not come back."""

    def address(self) -> Address:
        """Where the host will listen when it is ready.

        Raises:
            OSError: that is not known yet.
            Hopeless: it never will be, unless it is placed again.
        """

    def complaint(self) -> str | None:
        """What the host said lately of why it cannot be one."""

    def end(self) -> None:
        """End the host, if there is one, and all that it has started."""

    def give_up(self) -> None:
        """As :meth:`end`, for good."""


class NearStation:
    """A host on the gateway's own node, which Ray starts again when it ends."""

    comes_back = True

    def __init__(
        self,
        files: HostFolder,
        have_placed: Callable[[], None],
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            files: the folder where its socket appears when it is ready.
            have_placed: has a host started there that is started again when it ends.
            let_go: ends the host, and has none started again.
        """
        self._files = files
        self._have_placed = have_placed
        self._let_go = let_go

    def place(self) -> None:
        self._have_placed()

    def address(self) -> Address:
        return Near(self._files.socket)

    def complaint(self) -> str | None:
        return self._files.complaint()

    def end(self) -> None:
        self._files.end()

    def give_up(self) -> None:
        self._let_go()
        self._files.clear()
