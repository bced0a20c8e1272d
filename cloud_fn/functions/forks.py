"""Python's fork server, kept on a short lead: where its socket lies and who dies with it.

All of it is for one thread. The kernel takes the fork server down with the thread that started it.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, process, resource_tracker
from pathlib import Path
from types import ModuleType
from typing import Any

from cloud_fn import processes
from cloud_fn.errors import InstanceLost
from cloud_fn.functions import gpus, spare
from cloud_fn.functions.host_settings import HostSettings
from cloud_fn.processes import Mark

_WITH_ITS_FORK_SERVER = 255
_PRELOAD = "cloud_fn.functions.fork_server"
_END_S = 5.0


class Fork:
    """One forked process, as its host holds it."""

    def __init__(self, token: str, nest: spare.Nest) -> None:
        """Fork it.

        Raises:
            OSError | EOFError: the fork server is gone.
        """
        self.token = token
        self.home, self.socket = Path(nest.home), Path(nest.socket)
        context = multiprocessing.get_context("forkserver")
        self.control, control = context.Pipe()
        self.output, output = context.Pipe(duplex=False)
        self.home.mkdir(mode=0o700)
        self._process = context.Process(
            target=spare.run, args=(nest, control, output), name=f"isthmus {token}"
        )
        try:
            with _without_main():
                self._process.start()
        except BaseException:
            self.close()
            shutil.rmtree(self.home, ignore_errors=True)
            raise
        finally:
            control.close()
            output.close()
        assert self._process.pid is not None
        found = processes.mark(self._process.pid)
        self.mark = found or Mark(self._process.pid, 0.0)

    @property
    def sentinel(self) -> int:
        """Becomes readable when the process has ended, or its fork server has."""
        return self._process.sentinel

    def collect(self) -> int:
        """How it ended: its exit code, less than 0 for a signal; 255 went with its fork server."""
        self._process.join(_END_S)
        return 255 if self._process.exitcode is None else self._process.exitcode

    def close(self) -> None:
        """Close what is held open of it."""
        self.control.close()
        self.output.close()
        with contextlib.suppress(ValueError):  # it runs on, or hangs where no signal reaches it
            self._process.close()


def because(exit_code: int) -> str:
    """A clause that says how a process ended by itself."""
    if exit_code == _WITH_ITS_FORK_SERVER:
        return "the fork server that it came from ended"
    if exit_code < 0:
        return f"it was killed by {signal.Signals(-exit_code).name}"
    return f"it left with exit code {exit_code}"


class Forks:
    """A fork server that has imported what instances need, and forks them."""

    def __init__(self, settings: HostSettings) -> None:
        """Prepare; nothing is started.

        Args:
            settings: the host's; instances' sockets and folders, and the fork server's socket, will
                lie in its folder.
        """
        self._settings = settings
        self._folder = folder = Path(settings.folder)
        self._sockets = folder / "forks"
        self.mark: Mark | None = None

    def start(self) -> Mark:
        """Start the fork server, after clearing what an earlier one left.

        Raises:
            InstanceLost: it does not start.
        """
        self._drop()
        gpus.note_memory()
        self._sockets.mkdir(mode=0o700)
        # Else its socket lies wherever temporary files do, and stays there after a kill.
        process.current_process()._config["tempdir"] = str(self._sockets)  # type: ignore[attr-defined]  # noqa: SLF001
        forkserver.set_forkserver_preload([_PRELOAD])
        with _without_main():
            forkserver.ensure_running()
        pid: int = _python()._forkserver_pid  # noqa: SLF001
        self.mark = processes.mark(pid)
        if self.mark is None:
            raise InstanceLost("the fork server ended at once: the host's log says why")
        return self.mark

    def fate(self) -> str:
        """How the fork server ended, as a clause."""
        assert self.mark is not None
        found = os.waitid(os.P_PID, self.mark.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if found is None:
            return "it runs"
        is_signal = found.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
        return because(-found.si_status if is_signal else found.si_status)

    def fork(self, token: str) -> Fork:
        """Fork one more process, which becomes a spare.

        Raises:
            OSError | EOFError: the fork server is gone.
        """
        assert self.mark is not None
        nest = spare.Nest(
            home=str(self._folder / token),
            socket=str(self._folder / f"{token}.sock"),
            server=self.mark.pid,
            gateway=self._settings.gateway.pid,
            readable=self._settings.readable,
            engine=self._settings.engine,
        )
        fork = Fork(token, nest)
        if _python()._forkserver_pid != self.mark.pid:  # noqa: SLF001
            # Python has started one of its own accord in place of ours, whose forks end at once.
            fork.close()
            shutil.rmtree(fork.home, ignore_errors=True)
            raise EOFError("the fork server ended")
        return fork

    def stop(self) -> None:
        """End the fork server; its instances go with it."""
        # Python's tracker of shared memory and semaphores, of which there are none, comes with it.
        python: Any = resource_tracker._resource_tracker  # noqa: SLF001
        tracker: int | None = python._pid  # noqa: SLF001
        marks = [self.mark, None if tracker is None else processes.mark(tracker)]
        found = [each for each in marks if each is not None]
        for each in found:
            processes.kill(each)
        processes.wait_gone(found, _END_S)
        self._drop()

    def _drop(self) -> None:
        """Have Python forget its fork server, and remove its socket."""
        python = _python()
        if (pid := python._forkserver_pid) is not None:  # noqa: SLF001
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(FileNotFoundError, ChildProcessError):
                python._stop()  # noqa: SLF001
            python._forkserver_pid = python._forkserver_address = None  # noqa: SLF001
        shutil.rmtree(self._sockets, ignore_errors=True)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the program that runs here, which a child would import again: Ray's takes over 1 s."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def _python() -> Any:  # noqa: ANN401  private to the standard library
    return forkserver._forkserver  # noqa: SLF001
