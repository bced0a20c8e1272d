"""Hosts without Ray, and a gateway that is the test itself."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import psutil

from cloud_fn import processes
from cloud_fn.functions import Function
from cloud_fn.functions.channel import Connection
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.host_calls import (
    End,
    HostClient,
    Ping,
    Reason,
    Reply,
    Request,
    Start,
    Started,
    Well,
    Why,
)
from cloud_fn.functions.host_settings import HostSettings
from cloud_fn.functions.reach import Near
from cloud_fn.processes import Mark

HERE = Path(__file__).resolve().parent
WAIT_S = 30.0
ROGUE = "tests.cloud_fn.rogue:Rogue"
MiB = 1 << 20


def until(done: Callable[[], bool]) -> None:
    """Wait for something that nobody announces, for so long at most."""
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.02)):
        if done():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen")


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def mark_of(pid: int) -> Mark:
    found = processes.mark(pid)
    assert found is not None
    return found


def a_function(model: str = "rogue", **changes: Any) -> Function:  # noqa: ANN401  any field
    return Function(model=model, version=1, model_path=str(HERE / "rogue.py"), **changes)


def start_host(folder: Path, **changes: Any) -> "subprocess.Popen[bytes]":  # noqa: ANN401
    """A host as a process of its own; *changes* are of :class:`HostSettings`."""
    given: dict[str, Any] = {"gateway": mark_of(os.getpid()), "engine": ROGUE, **changes}
    settings = HostSettings(folder=str(folder), **given)
    return subprocess.Popen(
        [sys.executable, "-m", "cloud_fn.functions.host", msgspec.json.encode(settings).decode()],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
    )


class RunningHost:
    """A host that has come up; closes all connections to it and its instances at the end."""

    def __init__(self, folder: Path, **changes: Any) -> None:  # noqa: ANN401  see start_host
        self.folder = folder
        self._address = Near(folder / "host.sock")
        self.process = start_host(folder, **changes)
        self.instances: list[Instance] = []
        until(lambda: (folder / "host.sock").exists() or self.process.poll() is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for instance in self.instances:
            instance.connection.close()
        self.process.kill()
        self.process.wait()

    def ask(self, request: Request, body: bytes = b"") -> tuple[Reply, bytes]:
        with contextlib.closing(HostClient(self._address, timeout_s=WAIT_S)) as client:
            return client.ask(request, body, timeout_s=WAIT_S)

    def well(self) -> Well:
        reply, _ = self.ask(Ping())
        assert isinstance(reply, Well)
        return reply

    def start(self, function: Function | None = None, **limits: Any) -> "Instance":  # noqa: ANN401
        function = function or a_function()
        request = Start(
            label=f"{function.model}-1", confinement=Confinement(**limits), timeout_s=WAIT_S
        )
        reply, _ = self.ask(request, msgspec.json.encode(function))
        assert isinstance(reply, Started)
        instance = Instance(reply)
        self.instances.append(instance)
        return instance

    def end(self, instance: "Instance") -> None:
        self.ask(End(name=instance.name))

    def why(self, instance: "Instance") -> tuple[str | None, bytes]:
        reply, tail = self.ask(Why(name=instance.name))
        assert isinstance(reply, Reason)
        return reply.why, tail

    def fork_server(self) -> int:
        found = [
            child.pid
            for child in psutil.Process(self.process.pid).children()
            if child.name() == "isthmus-forks"
        ]
        return found[0]

    def family(self) -> list[int]:
        """The host and all that it has started."""
        return list(processes.tree(self.process.pid))


class Instance:
    """One instance of a host."""

    def __init__(self, started: Started) -> None:
        self.name, self.pid = started.name, started.process.pid
        self.socket = Path(started.socket)
        self.address = Near(self.socket)
        self.connection = Connection(self.address)

    def ask(self, body: bytes) -> bytes:
        self.connection.send(body, timeout_s=WAIT_S)
        return bytes(self.connection.receive(timeout_s=WAIT_S).body)

    def do(self, action: str, *arguments: object) -> Any:  # noqa: ANN401  what the action gives
        """Have a :class:`rogue.Rogue` do something."""
        return json.loads(self.ask(json.dumps([action, *arguments]).encode()))

    def begin(self, action: str, *arguments: object) -> None:
        """As :meth:`do`, for what does not answer."""
        self.connection.send(json.dumps([action, *arguments]).encode(), timeout_s=WAIT_S)

    def await_end(self) -> None:
        """Wait until the other end of the socket closes."""
        assert self.connection.wait(WAIT_S)
