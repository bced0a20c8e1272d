"""``isthmus serve`` as a process, with Ray and a client that we did not write."""
# ruff: noqa: ANN401  (builders take any field, and arrays are of any type)

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeAlias

import grpc
import numpy as np
import psutil
import pytest

from cloud_fn.client import get_load
from cloud_fn.config import Address
from cloud_fn.functions.settings import MAX_INSTANCES
from cloud_fn.registry import Catalog
from cloud_fn.registry.push import push
from planner.model import read
from protos import wire
from protos.invocation import Reply, Request, StreamError, Tensor
from protos.slices import Slice, cut

pytestmark = pytest.mark.integration

Unary: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"
Streaming: TypeAlias = "grpc.StreamStreamMultiCallable[bytes, bytes]"
ROOT = Path(__file__).resolve().parents[2]
SERVE = (sys.executable, "-m", "isthmus", "serve")
X = np.array([[1, -2, 3, 0.5]], np.float32)
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  only looked at
START_S, STOP_S = 90, 30
MAX_EXECUTION_S = 2.0
CROWD = 100


class Server:
    """A server's process, started and awaited; its narration is in ``log``."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.log = folder / "serve.log"
        self.ready_file = folder / "ready.json"
        self.config = folder / "cloud.toml"
        self.config.write_text(
            f'listen = "127.0.0.1:0"\nregistry = "{folder / "registry"}"\n'
            f'runtime_dir = "{folder / "run"}"\nmax_in_flight = {CROWD}\n'
            f"[instance]\nkeep_alive_s = 3\nmax_execution_s = {MAX_EXECUTION_S}\n"
        )
        command = [*SERVE, "--config", str(self.config)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--ready-file", str(self.ready_file), *flags],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._await_ready()
        self.address = str(json.loads(self.ready_file.read_text())["address"])
        self.channel = grpc.insecure_channel(self.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def infer(self, model: str = "mlp", **fields: Any) -> Reply:
        request = Request(**{"model": model, "inputs": (Tensor.of("x", X),), **fields})
        call: Unary = self.channel.unary_unary(f"/{wire.SERVICE}/ModelInfer")
        return wire.decode_reply(call(wire.encode_request(request), timeout=60))

    def refusal(self, data: bytes) -> tuple[str, str]:
        call: Unary = self.channel.unary_unary(f"/{wire.SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(data, timeout=60)
        return caught.value.code().name, str(caught.value.details())

    def family(self) -> list[psutil.Process]:
        """The server and all that it has started."""
        server = psutil.Process(self.process.pid)
        return [server, *server.children(recursive=True)]

    def instances(self) -> list[psutil.Process]:
        return [each for each in self.family() if name_of(each) == "isthmus-inst"]

    def host(self) -> psutil.Process:
        """The process that forks instances, through its fork server."""
        (found,) = [each for each in running(self.family()) if name_of(each) == "isthmus-forks"]
        parent = found.parent()
        assert parent is not None
        return parent

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.ready_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                pytest.fail(f"the server did not start: {self.log.read_text()}")
            time.sleep(0.05)


def name_of(process: psutil.Process) -> str:
    """What it is called; nothing when it has gone since it was found."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended; nobody may be there to collect one that has."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


Builder = Callable[..., Path]


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="is-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server(
    build_mlp: Builder, build_colours: Callable[[Path], tuple[Path, Path]]
) -> Iterator[Server]:
    """One server for all tests here: a Ray takes seconds to start."""
    path = Path(tempfile.mkdtemp(prefix="is-", dir="/tmp"))
    catalog = Catalog(path / "registry")
    push(catalog, build_mlp(path / "mlp.onnx"))
    model, steps = build_colours(path)
    push(catalog, model, steps=steps)
    with Server(path) as served:
        yield served
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def expected(build_mlp: Builder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What ``mlp`` makes of X."""
    model = read(build_mlp(tmp_path_factory.mktemp("mlp") / "mlp.onnx"))
    return model.piece(["x"]).run({"x": X})["y"]


def publish(server: Server, build_mlp: Builder, name: str) -> None:
    """A model of its own for one test, so that its instance is no other's."""
    folder = server.config.parent
    push(Catalog(folder / "registry"), build_mlp(folder / f"{name}.onnx"))


def test_a_foreign_client_gets_right_answers(server: Server, expected: Any) -> None:
    script = Path(__file__).with_name("foreign_client.py")
    done = subprocess.run(
        [sys.executable, str(script), server.address],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    # What is made ready for a machine adds up in another order, and may be swapped in between.
    *stream, failed = got.pop("stream")
    assert [name for name, _ in stream] == ["0", "1", "2", "3"]
    assert failed == ["error", got["unknown"][1]]
    for y in (got.pop("y"), *(given for _, given in stream)):
        np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert got["index"][:2] == [["colours", "1"], ["mlp", "1"]]
    del got["index"]
    assert got == {
        "live": True,
        "ready": True,
        "model_ready": True,
        "other_ready": False,
        "server": "isthmus",
        "inputs": [["x", "FP32", [1, 4]]],
        "version": "1",
        "red": ["red"],
        "unknown": ["StatusCode.NOT_FOUND", got["unknown"][1]],
        "shape": [
            "StatusCode.INVALID_ARGUMENT",
            "input 'x' has shape [1, 2]: it must be [1, 4]",
        ],
        "datatype": ["StatusCode.INVALID_ARGUMENT", "input 'x' is INT32: it must be FP32"],
    }
    assert got["unknown"][1].startswith("there is no model 'nope': the registry has colours, mlp")


def test_the_first_call_is_cold_the_second_warm_and_the_terms_add_up(
    server: Server,
    build_mlp: Builder,
    expected: Any,
) -> None:
    publish(server, build_mlp, "cold")
    seen = []
    for _ in range(2):
        began = time.perf_counter()
        reply = server.infer("cold")
        elapsed_s = time.perf_counter() - began
        np.testing.assert_allclose(reply.outputs[0].array(), expected, rtol=1e-6)
        assert reply.timing is not None
        assert reply.timing.total_s <= elapsed_s
        seen.append((reply.cold, reply.timing))
    (first_cold, first), (second_cold, second) = seen
    assert (first_cold, second_cold) == (True, False)
    assert min(first.init_s, first.load_s, first.infer_s, first.trigger_s) > 0
    assert (second.init_s, second.load_s) == (0.0, 0.0)
    assert first.total_s > first.init_s + first.load_s


def test_the_load_says_how_often_and_how_long_requests_waited_for_a_start(
    server: Server, build_mlp: Builder
) -> None:
    publish(server, build_mlp, "load")
    for _ in range(4):
        server.infer("load")
    found = get_load(Address.parse(server.address), "load", key=None)
    assert (found.model, found.version, found.requests) == ("load", 1, 4)
    assert found.load.cold_chance == 0.25
    assert found.load.cold_s > found.load.queue_s > 0


def test_a_tail_is_run_on_boundary_tensors_in_their_codec(
    server: Server,
    expected: Any,
    build_mlp: Builder,
    tmp_path: Path,
) -> None:
    hidden = read(build_mlp(tmp_path / "m.onnx")).piece(["x"], ["hidden"]).run({"x": X})["hidden"]
    reply = server.infer(inputs=(Tensor.of("hidden", hidden, "int8+zstd"),), cut="plan-1")
    np.testing.assert_allclose(reply.outputs[0].array(), expected, atol=0.1)


def test_a_tail_is_run_on_a_tensor_that_came_in_chunks(server: Server) -> None:
    hidden = np.abs(np.random.default_rng(2).normal(size=(1, 8))).astype(np.float32)
    said: dict[str, Any] = {"model": "mlp", "id": "7", "cut": "plan-1"}
    slices = [
        Tensor.of("hidden", part, "fp16", slice=Slice(number=number, of=3, axis=1))
        for number, part in enumerate(cut(hidden, 3, 1), 1)
    ]
    sent = [
        wire.encode_request(Request(**said, inputs=(each,), chunk=(number, 3)))
        for number, each in enumerate(slices, 1)
    ]
    whole = server.infer(**said, inputs=(Tensor.of("hidden", hidden, "fp16"),))
    call: Streaming = server.channel.stream_stream(f"/{wire.SERVICE}/ModelStreamInfer")
    (reply,) = map(wire.decode_stream_reply, call(iter(sent), timeout=60))
    assert isinstance(reply, Reply)
    assert (reply.id, reply.outputs) == ("7", whole.outputs)
    assert reply.timing is not None


def test_a_hundred_first_calls_at_once_cause_one_load_an_instance_and_none_fails(
    server: Server, build_mlp: Builder
) -> None:
    publish(server, build_mlp, "crowd")
    together = threading.Barrier(CROWD)

    def call(_: int) -> Reply:
        together.wait(30)
        return server.infer("crowd")

    with ThreadPoolExecutor(CROWD) as threads:
        replies = list(threads.map(call, range(CROWD)))
    said = server.log.read_text()
    asked = {reply.instance for reply in replies}
    assert {f"instance={name}" in said for name in asked} == {True}
    assert len(asked) <= said.count("instance started: instance=crowd-1-") <= MAX_INSTANCES
    loads = [reply.timing.load_s for reply in replies if reply.timing and reply.timing.load_s > 0]
    assert len(loads) >= len(asked)  # all that came while a model was loaded waited for it


def test_a_killed_instance_is_replaced(server: Server) -> None:
    first = server.infer()
    victims = server.instances()
    for each in victims:
        each.kill()
    psutil.wait_procs(victims, timeout=10)
    second = server.infer()
    assert (second.cold, second.instance != first.instance) == (True, True)
    assert running(victims) == []


def test_a_hung_instance_is_ended_at_its_limit_and_replaced(
    server: Server, build_mlp: Builder
) -> None:
    publish(server, build_mlp, "hangs")  # of another function one may just be starting
    others = server.instances()
    first = server.infer("hangs")
    victims = [each for each in server.instances() if each not in others]
    for each in victims:
        each.suspend()
    data = wire.encode_request(Request(model="hangs", inputs=(Tensor.of("x", X),)))
    assert server.refusal(data) == (
        "DEADLINE_EXCEEDED",
        "hangs:1 ran longer than 2 s (max_execution_s): its instance was replaced",
    )
    assert server.infer("hangs").instance != first.instance
    for each in running(victims):
        each.kill()
    psutil.wait_procs(victims, timeout=10)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_host_that_dies_or_hangs_is_replaced_and_calls_go_on(
    server: Server, how: signal.Signals
) -> None:
    """Ray starts a dead one again; a hung one, which it never notices, is killed first."""
    first, host = server.infer(), server.host()
    doomed = [host, *host.children(recursive=True)]
    victims = server.instances()
    host.send_signal(how)
    psutil.wait_procs(victims, timeout=30)
    second = server.infer()
    assert (second.cold, second.instance != first.instance) == (True, True)
    assert running(doomed) == []
    assert server.host().name() == "ray::HostActor"
    why = "died" if how == signal.SIGKILL else "hung"
    assert f"host lost: kind=cpu pid={host.pid} why={why}" in server.log.read_text()


def test_an_idle_function_goes_to_zero_and_comes_back(server: Server) -> None:
    server.infer()
    _, left = psutil.wait_procs(server.instances(), timeout=30)
    assert left == []
    assert server.infer().cold


def test_bad_input_is_refused_in_a_sentence_and_the_server_goes_on(server: Server) -> None:
    def a_request(**fields: Any) -> bytes:
        request = {"model": "mlp", "inputs": (Tensor.of("x", X),), **fields}
        return wire.encode_request(Request(**request))

    lying = Tensor(name="x", datatype="FP32", shape=(1, 4), data=b"junk", codec="int8+zstd")
    unknown = Tensor(name="x", datatype="FP32", shape=(1, 4), data=b"junk", codec="mp3")
    refused = {
        b"\xff\xff": ("INVALID_ARGUMENT", "the request is not an Open Inference message"),
        a_request(model="../mlp"): ("NOT_FOUND", "there is no model '../mlp'"),
        a_request(version="9"): ("NOT_FOUND", "model mlp has no version '9': it has 1"),
        a_request(outputs=("q",)): ("INVALID_ARGUMENT", "mlp:1 has no tensor 'q'"),
        a_request(inputs=(lying,)): ("INVALID_ARGUMENT", "tensor 'x': zstd contents"),
        a_request(inputs=(unknown,)): ("INVALID_ARGUMENT", "tensor 'x': codec 'mp3'"),
    }
    for data, (status, sentence) in refused.items():
        got_status, got_sentence = server.refusal(data)
        assert (got_status, got_sentence[: len(sentence)]) == (status, sentence)
    assert server.infer().outputs


def test_errors_on_a_stream_name_their_request(server: Server) -> None:
    requests = [
        wire.encode_request(Request(model=model, id=model, inputs=(Tensor.of("x", X),)))
        for model in ("mlp", "nope")
    ]
    call: Streaming = server.channel.stream_stream(f"/{wire.SERVICE}/ModelStreamInfer")
    received = map(wire.decode_stream_reply, call(iter(requests), timeout=60))
    replies = {reply.id: reply for reply in received}
    assert isinstance(replies["mlp"], Reply)
    assert isinstance(replies["nope"], StreamError)


def test_everything_listens_on_loopback_only(server: Server) -> None:
    server.infer()
    listening = {
        connection.laddr.ip
        for process in server.family()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_of_ray_only_what_places_starts_and_watches_hosts_runs(server: Server) -> None:
    server.infer()
    started = [" ".join(each.cmdline()) for each in server.family()]
    assert sum("gcs_server" in line for line in started) == 1
    needless = ("dashboard/dashboard.py", "log_monitor.py", "monitor.py")
    assert [line for line in started if any(name in line for name in needless)] == []


def test_sockets_and_tokens_are_their_owners(server: Server) -> None:
    server.infer()
    run = server.config.parent / "run"
    (own,) = run.iterdir()
    found = [*own.glob("hosts/**/*.sock"), own / "ray" / "token"]
    assert len(found) > 1
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (run, own)} == {0o700}


def test_a_second_server_on_the_same_port_says_so(server: Server) -> None:
    done = subprocess.run(
        [*SERVE, "--listen", server.address],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"isthmus: cannot listen on {server.address}: the port is taken or the address is not "
        "this machine's; choose another with --listen"
    )


def test_a_server_whose_ray_is_killed_says_so_and_leaves_nothing(
    folder: Path, build_mlp: Builder
) -> None:
    push(Catalog(folder / "registry"), build_mlp(folder / "mlp.onnx"))
    with Server(folder) as server:
        server.infer()
        family = server.family()
        for each in family:
            if name_of(each) in {"raylet", "gcs_server"}:
                each.kill()
        assert server.process.wait(STOP_S) == 2
        _, left = psutil.wait_procs(family, timeout=STOP_S)
        assert running(left) == []
    assert server.log.read_text().splitlines()[-1] == (
        "isthmus: Ray has ended: start the server again"
    )


def test_a_killed_server_is_cleaned_up_after_and_a_stopped_one_leaves_nothing(
    folder: Path, build_mlp: Builder
) -> None:
    push(Catalog(folder / "registry"), build_mlp(folder / "mlp.onnx"))
    before = set(SHARED_MEMORY.iterdir())
    with Server(folder) as killed:
        killed.infer()
        orphans = killed.family()[1:]
        killed.process.kill()
        killed.process.wait()
    killed.ready_file.unlink()

    with Server(folder) as stopped:
        assert running(orphans) == []
        assert [path.name for path in (folder / "run").iterdir()] == [str(stopped.process.pid)]
        stopped.infer()
        family = stopped.family()
        stopped.process.send_signal(signal.SIGTERM)
        assert stopped.process.wait(STOP_S) == 0
        assert running(family) == []
    assert list((folder / "run").iterdir()) == []
    assert not stopped.ready_file.exists()
    assert set(SHARED_MEMORY.iterdir()) <= before
    assert stopped.log.read_text().splitlines()[-1] == "isthmus serve: stopped"
