"""A real ``isthmus serve``, its registry, and a client of it."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import numpy as np
import psutil

from protos import wire
from protos.invocation import Reply, Request, Tensor
from protos.wire import SERVICE
from testbed.bench.functions import usage
from testbed.bench.functions.generated import Generated, alike
from testbed.errors import ProcessDied, TestbedError
from testbed.processes import Child, Processes

READY_LIMIT_S = 60.0
PUSH_LIMIT_S = 300.0
CALL_LIMIT_S = 120.0
STOP_LIMIT_S = 20.0
GOES_S = 0.5
"""An instance may live this much longer than ``keep_alive_s`` before we take it to be gone."""

COLD_TRIES = 4

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
"""Of a client: the largest messages are larger than gRPC's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A reply, and the seconds that the caller waited for its bytes."""

    seconds: float
    reply: Reply

    @property
    def answer(self) -> np.ndarray:
        return self.reply.outputs[0].array()


class Gateway:
    """A server of its own below the folder of *processes*; a context manager.

    Args:
        processes: who starts and ends it.
        keep_alive_s: how long an idle instance stays.
        name: its log's, and its folder's.
    """

    def __init__(self, processes: Processes, *, keep_alive_s: float, name: str = "serve") -> None:
        self._processes = processes
        self._keep_alive_s = keep_alive_s
        self._name = name
        self.folder = processes.folder / name
        self.folder.mkdir(parents=True)
        # Sockets lie in it, and a socket's path may have a hundred letters at most.
        self._runtime = tempfile.TemporaryDirectory(prefix="isthmus-")
        self.address = ""
        self._used_s = 0.0
        self._child: Child | None = None
        self._channel: grpc.Channel | None = None
        self._call: grpc.UnaryUnaryMultiCallable[bytes, bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._child is not None:
            self._child.stop(STOP_LIMIT_S)
        self._runtime.cleanup()

    def push(self, path: Path, name: str, *, dims: Mapping[str, int] | None = None) -> None:
        """Publish the model in *path* as *name*, its dynamic dimensions of the sizes *dims*.

        Raises:
            ProcessDied: it is refused; the message holds the reason.
        """
        sizes = [word for key, size in (dims or {}).items() for word in ("--dim", f"{key}={size}")]
        self._run(f"push-{name}", "registry", "push", path, "--name", name, *sizes)

    def set(self, name: str, *words: str) -> None:
        """Give the function *name* settings, as flags of ``isthmus functions set``.

        Raises:
            ProcessDied: they are refused; the message holds the reason.
        """
        self._run(f"set-{name}", "functions", "set", name, *words)

    def _run(self, log: str, *words: str | Path) -> None:
        """Run a command on the registry."""
        child = self._processes.start(
            log,
            [*_isthmus(), *words, "--root", self.folder / "registry"],
            environ=self._environ,
            cwd=_root(),
        )
        code = child.wait(PUSH_LIMIT_S)
        if code:
            raise ProcessDied(f"{log} failed: {child.last_line()}")

    def start(self) -> float:
        """Start to serve what was pushed; gives the seconds until it was ready.

        Raises:
            ProcessDied: it did not start.
        """
        config = self.folder / "cloud.toml"
        values = {
            "listen": "127.0.0.1:0",
            "registry": os.fspath(self.folder / "registry"),
            "runtime_dir": self._runtime.name,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        lines += ["[instance]", f"keep_alive_s = {self._keep_alive_s!r}", "threads = 1"]
        config.write_text("\n".join(lines) + "\n")
        began = time.perf_counter()
        self._child, facts = self._processes.start_ready(
            self._name,
            [*_isthmus("serve", "--config"), config],
            environ=self._environ,
            cwd=_root(),
            limit_s=READY_LIMIT_S,
        )
        self.address = str(facts["address"])
        self._channel = grpc.insecure_channel(
            self.address,
            options=OPTIONS,
        )
        self._call = self._channel.unary_unary(f"/{SERVICE}/ModelInfer")
        return time.perf_counter() - began

    @property
    def processes(self) -> tuple[psutil.Process, ...]:
        """The server and all that it has started, by now."""
        assert self._child is not None
        return usage.tree(self._child.pid)

    def ask(self, name: str, body: bytes) -> Called:
        """Send one encoded request for the model *name*.

        Raises:
            TestbedError: it was refused.
        """
        assert self._call is not None
        began = time.perf_counter()
        try:
            data = self._call(body, timeout=CALL_LIMIT_S)
        except grpc.RpcError as error:
            raise TestbedError(f"the gateway refuses {name}: {error.details()}") from error
        ended = time.perf_counter()
        self._used_s = time.monotonic()
        return Called(seconds=ended - began, reply=wire.decode_reply(data))

    def ask_cold(
        self, name: str, body: bytes, before: Callable[[], object] = lambda: None
    ) -> Called:
        """The same, once no function has an instance; the answer was cold.

        *before* is called when all instances have had the time to go: a file that one of them maps
        could not be dropped from the page cache.

        Raises:
            TestbedError: it was refused, or an instance stays for ever.
        """
        for _ in range(COLD_TRIES):
            self.await_idle()
            before()
            called = self.ask(name, body)
            if called.reply.cold:
                return called
        raise TestbedError(
            f"an instance of {name} outlives its keep-alive of {self._keep_alive_s} s"
        )

    def ask_at_once(self, bodies: Sequence[tuple[str, bytes]]) -> list[Called | TestbedError]:
        """Send one request for each of several models, all at once."""

        def one(request: tuple[str, bytes]) -> Called | TestbedError:
            try:
                return self.ask(*request)
            except TestbedError as error:
                return error

        with ThreadPoolExecutor(len(bodies)) as pool:
            return list(pool.map(one, bodies))

    def await_idle(self) -> None:
        """Wait until all instances have had the time to go."""
        time.sleep(max(0.0, self._used_s + self._keep_alive_s + GOES_S - time.monotonic()))

    @property
    def places(self) -> tuple[Path, ...]:
        """The folders that hold all it has on disk, in whatever form."""
        return (self.folder, Path(self._runtime.name))

    @property
    def _environ(self) -> dict[str, str]:
        """Whatever it caches lies in its folder, where it can be dropped from the page cache."""
        return {"XDG_CACHE_HOME": os.fspath(self.folder / "cache")}


def request(model: Generated, name: str) -> bytes:
    """The encoded request for the answer of *model*, published as *name*, to its sample."""
    inputs = tuple(Tensor.of(key, value) for key, value in model.sample.items())
    return wire.encode_request(Request(model=name, inputs=inputs))


def check(model: str, got: np.ndarray, wanted: np.ndarray) -> None:
    """Hold an answer to that of ONNX Runtime in this process.

    Raises:
        TestbedError: it is another.
    """
    if not alike(got, wanted):
        raise TestbedError(
            f"{model} was answered wrongly: {got.ravel()[:4]}, not {wanted.ravel()[:4]}"
        )


def _isthmus(*words: str) -> list[str]:
    return [sys.executable, "-m", "isthmus", *words]


def _root() -> Path:
    return Path(__file__).resolve().parents[3]
