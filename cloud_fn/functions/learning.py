"""Keeps the logbook on disk, and chooses anew each day what back-tested policies act by."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from cloud_fn.functions.logbook import Logbook
from cloud_fn.functions.scaling import Learned, choose

log = logging.getLogger(__name__)

SAVE_S = 60.0
CHOOSE_S = 86_400.0


class Learning:
    """A thread beside the pool. What it finds at its start it acts by at once."""

    def __init__(
        self,
        logbook: Logbook,
        *,
        budget_bytes: int,
        learn: Callable[[Learned, Mapping[str, int]], None],
        sizes: Callable[[], Mapping[str, int]],
    ) -> None:
        """Prepare.

        Args:
            logbook: what is learnt from.
            budget_bytes: what idle instances may take together, on average over time.
            learn: is told what was chosen, and what an instance of each function takes.
            sizes: what instances were last seen to take, by function.
        """
        self._logbook = logbook
        self._budget_bytes = budget_bytes
        self._learn = learn
        self._sizes = sizes
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="functions.learning", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, if it was started, and write what is new."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._logbook.save(self._sizes())

    def choose(self) -> Learned:
        """Choose from the log so far, and tell."""
        arrivals, minute = self._logbook.arrivals(), self._logbook.minute()
        learned = choose(
            arrivals.logs(minute),
            span_s=arrivals.span_s(minute),
            budget_bytes=self._budget_bytes,
        )
        self._learn(learned, {name: asked.size_bytes for name, asked in arrivals.functions.items()})
        log.info(
            "policies chosen anew: functions=%d price=%.3g weight=%g",
            *(len(arrivals.functions), learned.price, learned.weight),
        )
        return learned

    def _run(self) -> None:
        again_s = time.monotonic()
        while True:
            if time.monotonic() >= again_s:
                self.choose()
                again_s = time.monotonic() + CHOOSE_S
            if self._stopped.wait(SAVE_S):
                return
            self._logbook.save(self._sizes())
