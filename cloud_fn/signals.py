"""SIGTERM and SIGINT: the first asks to drain and stop, the second to stop now."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Installed within ``with``; :meth:`install` again after a library took them over."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.now = threading.Event()
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, self._received)

    def _received(self, _number: int, _frame: FrameType | None) -> None:
        if self.stop.is_set():
            self.now.set()
        self.stop.set()
