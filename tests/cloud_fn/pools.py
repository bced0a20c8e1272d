"""A pool's instances as threads of this process that do as they are told."""
# ruff: noqa: ARG002  (fakes take what the real ones take)

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cloud_fn.functions import Answer, Function, Pool
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.launch import CPU, Running
from cloud_fn.functions.reach import Near
from cloud_fn.processes import Mark
from protos.errors import WireError
from protos.frames import recv_frame, send_frame

Script = Callable[[bytes], dict[str, object] | None]
"""What an instance answers to a body: a header, or None to die without an answer."""

FUNCTION = Function(model="m", version=1, model_path="/m")
DONE: dict[str, object] = {"load_s": 0.0, "infer_s": 0.25}
WARM = b"warm"
WAIT_S = 20.0


class Listening(Protocol):
    """An instance that listens."""

    def die(self) -> None: ...


class FakeClock:
    """Stands still, so that a deadline is as far away at every look."""

    def __init__(self) -> None:
        self.now = time.perf_counter()  # a pool's clock never goes back

    def __call__(self) -> float:
        return self.now


class FakeInstance:
    """Listens like one, in threads of this process."""

    def __init__(self, path: Path, script: Script) -> None:
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def die(self) -> None:
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, WireError):
            while True:
                _, body = recv_frame(connection)
                header = self._script(bytes(body))
                if header is None:
                    self.die()
                    return
                send_frame(connection, header, b"reply to " + bytes(body))


class FakeLauncher:
    """Starts fake instances, and keeps a record.

    Each is what *instance* makes to listen at a path; by default one that follows *script*.
    """

    def __init__(
        self,
        folder: Path,
        script: Script = lambda _: DONE,
        *,
        instance: Callable[[Path], Listening] | None = None,
    ) -> None:
        self.script = script
        self._instance = instance or (lambda path: FakeInstance(path, self.script))
        self.ended: list[str] = []
        self.some_ended = threading.Event()
        self.asked = threading.Event()
        self.may_start = threading.Event()
        self.may_start.set()
        self.failure: Exception | None = None
        self.failed = threading.Event()
        self.second = threading.Event()
        self.why: str | None = None
        self.asked_why: list[str] = []
        self.confinements: list[Confinement | None] = []
        self.instances: dict[str, Listening] = {}
        self._folder = folder
        self._lock = threading.Lock()

    @property
    def started(self) -> list[str]:
        return list(self.instances)

    def start(
        self,
        function: Function,
        *,
        timeout_s: float,
        confinement: Confinement | None = None,
        kind: str = CPU,
        fits: Callable[[str], bool] = lambda _: True,
    ) -> Running:
        self.asked.set()
        assert self.may_start.wait(WAIT_S)
        if self.failure is not None:
            self.failed.set()
            raise self.failure
        with self._lock:
            name = f"i{len(self.instances) + 1}"
            path = self._folder / name
            self.instances[name] = self._instance(path)
            self.confinements.append(confinement)
            if len(self.instances) == 2:
                self.second.set()
        return Running(name=name, process=Mark(1, 0.0), address=Near(path))

    def end(self, running: Running) -> None:
        self.instances[running.name].die()
        self.ended.append(running.name)
        self.some_ended.set()

    def why_ended(self, running: Running) -> str | None:
        self.asked_why.append(running.name)
        return self.why


class Gate:
    """A script that holds requests until it is opened, all but WARM, and counts them."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, body: bytes) -> dict[str, object]:
        if body == WARM:
            return DONE
        self.entered.release()
        self.open.wait(WAIT_S)
        return DONE

    def await_entered(self, count: int) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=WAIT_S)


Opener = Callable[..., tuple[Pool, FakeLauncher]]


def until(happened: Callable[[], object]) -> None:
    """Look until something has happened of which nobody tells."""
    limit_s = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < limit_s
        time.sleep(0.001)


def summary(answer: Answer) -> tuple[bytes, str, bool, float]:
    """What is told of an answer, but for when it was made."""
    return bytes(answer.body), answer.instance, answer.cold, answer.infer_s
