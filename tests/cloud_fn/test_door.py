"""The gRPC door on loopback, before a pool that answers by itself."""
# ruff: noqa: ANN401, ARG002  (builders take any field, fakes what the real ones take)

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest

from cloud_fn import errors
from cloud_fn.auth import Keys
from cloud_fn.config import Config
from cloud_fn.doors.grpc import GrpcDoor, check_free
from cloud_fn.doors.statuses import status_of
from cloud_fn.errors import ServeError
from cloud_fn.functions import Answer, Function
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.service import Bounds, Service
from protos import wire
from protos.errors import WireError
from protos.gen import open_inference_pb2 as pb
from protos.invocation import Reply, Request, StreamError, Tensor
from tests.cloud_fn.cuts import FakeCuts

Unary: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"
Streaming: TypeAlias = "grpc.StreamStreamMultiCallable[bytes, bytes]"
ROOT = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef"
X = Tensor.of("x", np.zeros((1, 4), np.float32))


class FakePool:
    """Echoes the request's first tensor, or raises what it was given."""

    failure: Exception | None = None

    def __init__(self) -> None:
        self.cuts = FakeCuts()

    def deploy(self, function: Function) -> None:
        """Nothing is kept ready here."""

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        if self.failure is not None:
            raise self.failure
        request = wire.decode_request(body)
        reply = wire.encode_reply(
            Reply(model=function.model, version="1", id=request.id, outputs=request.inputs)
        )
        return Answer(body=reply, instance="i", handed_s=0.0, init_s=0.0, load_s=0.0, infer_s=0.0)


class Open:
    """A door that is open, and a client at it."""

    def __init__(self, address: str, pool: FakePool) -> None:
        self.address = address
        self.pool = pool
        self.channel = grpc.insecure_channel(address)

    def call(self, method: str, data: bytes, key: str | None = None) -> bytes:
        metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        call: Unary = self.channel.unary_unary(f"/{wire.SERVICE}/{method}")
        return call(data, metadata=metadata, timeout=20)

    def stream(self, requests: list[bytes]) -> list[bytes]:
        call: Streaming = self.channel.stream_stream(f"/{wire.SERVICE}/ModelStreamInfer")
        return list(call(iter(requests), timeout=20))

    def refusal(self, method: str, data: bytes, key: str | None = None) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, data, key)
        return caught.value.code().name, str(caught.value.details())


Opener = Callable[..., Open]


@pytest.fixture
def open_door(catalog: Catalog, published: dict[str, Manifest]) -> Iterator[Opener]:
    opened: list[tuple[GrpcDoor, Open]] = []

    def make(keys: Keys | None = None, **config: Any) -> Open:
        settings = Config(listen="127.0.0.1:0", **config)
        pool = FakePool()
        door = GrpcDoor(settings, keys or Keys())
        made = Open(str(door.bind()), pool)
        bounds = Bounds(max_message_bytes=settings.max_message_bytes)
        door.open(Service(catalog, pool, bounds))
        opened.append((door, made))
        return made

    yield make
    for door, made in opened:
        made.channel.close()
        door.close(0.0)


def a_request(**fields: Any) -> bytes:
    return wire.encode_request(Request(**{"model": "mlp", "inputs": (X,), **fields}))


def test_a_unary_call_is_answered_with_its_tensors_unchanged(open_door: Opener) -> None:
    reply = wire.decode_reply(open_door().call("ModelInfer", a_request(id="7")))
    assert (reply.id, reply.outputs, reply.instance) == ("7", (X,), "i")
    assert reply.timing is not None


def test_a_stream_answers_each_request_by_its_id(open_door: Opener) -> None:
    requests = [a_request(id="1"), a_request(id="2", model="nope"), a_request(id="3")]
    replies = [wire.decode_stream_reply(data) for data in open_door().stream(requests)]
    assert {reply.id for reply in replies} == {"1", "2", "3"}
    assert [reply for reply in replies if isinstance(reply, StreamError)] == [
        StreamError(id="2", message="there is no model 'nope': the registry has colours, mlp")
    ]


def test_a_request_in_chunks_is_taken_over_a_stream_and_over_nothing_else(
    open_door: Opener,
) -> None:
    door = open_door()
    y = Tensor.of("y", np.arange(3))
    sent = [
        a_request(id="7", inputs=(each,), chunk=(number, 2))
        for number, each in enumerate((X, y), 1)
    ]
    first, second = sent
    replies = map(wire.decode_stream_reply, door.stream([first, a_request(id="8"), second]))
    found = {reply.id: reply for reply in replies}
    whole, beside = found["7"], found["8"]
    assert isinstance(whole, Reply)
    assert isinstance(beside, Reply)
    assert (whole.outputs, beside.outputs) == ((X, y), (X,))
    assert door.refusal("ModelInfer", first) == (
        "INVALID_ARGUMENT",
        "chunk 1 of 2 came over ModelInfer: send a request's chunks over one ModelStreamInfer",
    )


def test_a_request_in_chunks_may_be_as_large_as_one_message(open_door: Opener) -> None:
    door = open_door(max_message_bytes=1024)
    large = Tensor.of("x", np.zeros(100, np.float32))
    sent = [a_request(id="7", inputs=(large,), chunk=(number, 4)) for number in (1, 2, 3, 4)]
    (refused,) = map(wire.decode_stream_reply, door.stream(sent))
    assert isinstance(refused, StreamError)
    assert refused.id == "7"
    assert refused.message.endswith("of 4 chunks: send at most 1024 (max_message_bytes)")


def test_the_small_calls_say_what_is_there(open_door: Opener) -> None:
    door = open_door()
    live = pb.ServerLiveResponse.FromString(door.call("ServerLive", b""))
    ready = pb.ServerReadyResponse.FromString(door.call("ServerReady", b""))
    server = pb.ServerMetadataResponse.FromString(door.call("ServerMetadata", b""))
    assert (live.live, ready.ready, server.name) == (True, True, "isthmus")
    index = pb.RepositoryIndexResponse.FromString(door.call("RepositoryIndex", b""))
    assert [(each.name, each.version, each.state) for each in index.models] == [
        ("colours", "1", "READY"),
        ("mlp", "1", "READY"),
    ]


def test_a_models_metadata_lists_the_networks_tensors(open_door: Opener) -> None:
    request = pb.ModelMetadataRequest(name="colours").SerializeToString()
    found = pb.ModelMetadataResponse.FromString(open_door().call("ModelMetadata", request))
    assert (found.name, list(found.versions), found.platform) == ("colours", ["1"], "onnx_onnxv1")
    assert [(t.name, t.datatype, list(t.shape)) for t in (*found.inputs, *found.outputs)] == [
        ("x", "FP32", [1, 3, 2, 2]),
        ("y", "FP32", [1, 3]),
    ]


@pytest.mark.parametrize(("version", "ready"), [("", True), ("1", True), ("2", False)])
def test_a_version_that_was_published_is_ready(
    open_door: Opener,
    version: str,
    ready: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    request = pb.ModelReadyRequest(name="mlp", version=version).SerializeToString()
    reply = pb.ModelReadyResponse.FromString(open_door().call("ModelReady", request))
    assert reply.ready is ready


def test_garbage_is_refused_in_a_sentence_and_the_door_stays_open(open_door: Opener) -> None:
    door = open_door()
    for method in ("ModelInfer", "ModelMetadata"):
        status, sentence = door.refusal(method, b"\xff\xff")
        assert status == "INVALID_ARGUMENT"
        assert sentence.startswith("the request is no")
    assert door.refusal("ModelInfer", a_request(model="nope"))[0] == "NOT_FOUND"
    assert door.call("ModelInfer", a_request())


def test_a_message_over_the_limit_is_refused_unary_and_on_a_stream(open_door: Opener) -> None:
    door = open_door(max_message_bytes=1024)
    large = a_request(parameters={"text": "x" * 1500})
    status, sentence = door.refusal("ModelInfer", large)
    assert status == "RESOURCE_EXHAUSTED"
    assert sentence.endswith("send at most 1024 (max_message_bytes)")
    assert len(door.stream([large, a_request()])) == 2
    assert door.refusal("ModelInfer", b"\0" * 10_000)[0] == "RESOURCE_EXHAUSTED"
    assert door.call("ModelInfer", a_request())


def test_with_a_key_file_every_call_needs_a_key(open_door: Opener) -> None:
    door = open_door(Keys([KEY]))
    needs = (
        "UNAUTHENTICATED",
        "the server needs a key: send the metadata `authorization: Bearer KEY`",
    )
    assert door.refusal("ModelInfer", a_request()) == needs
    assert door.refusal("ModelInfer", a_request(), key="wrong-wrong-wrong") == needs
    assert door.refusal("ServerReady", b"") == needs
    with pytest.raises(grpc.RpcError) as caught:
        door.stream([a_request()])
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert door.call("ModelInfer", a_request(), key=KEY)


def test_no_more_than_so_many_streams_may_be_open(open_door: Opener) -> None:
    door = open_door(max_streams=1)
    opened: Streaming = door.channel.stream_stream(f"/{wire.SERVICE}/ModelStreamInfer")
    hang_up = threading.Event()

    def requests() -> Iterator[bytes]:
        yield a_request()
        hang_up.wait(20)

    first = opened(requests(), timeout=20)
    next(first)
    with pytest.raises(grpc.RpcError) as caught:
        door.stream([a_request()])
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "1 streams open (max_streams)" in str(caught.value.details())
    hang_up.set()
    assert list(first) == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (WireError("s"), "INVALID_ARGUMENT"),
        (errors.InvalidRequest("s"), "INVALID_ARGUMENT"),
        (errors.UnknownModel("s"), "NOT_FOUND"),
        (errors.TooLarge("s"), "RESOURCE_EXHAUSTED"),
        (errors.Busy("s"), "RESOURCE_EXHAUSTED"),
        (errors.DeadlinePassed("s"), "DEADLINE_EXCEEDED"),
        (errors.Stopping("s"), "UNAVAILABLE"),
        (errors.Unauthenticated("s"), "UNAUTHENTICATED"),
        (errors.InstanceLost("s"), "INTERNAL"),
        (errors.FunctionFailed("s"), "INTERNAL"),
    ],
)
def test_each_error_has_its_status_and_keeps_its_sentence(error: Exception, status: str) -> None:
    code, sentence = status_of(error)
    assert (code.name, sentence) == (status, "s")


def test_a_fault_of_the_server_tells_a_caller_nothing_of_its_inside(
    open_door: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    door = open_door()
    door.pool.failure = KeyError("secret")
    refused = ("INTERNAL", "the server failed: its log says why")
    assert door.refusal("ModelInfer", a_request()) == refused
    (reply,) = door.stream([a_request(id="1")])
    assert wire.decode_stream_reply(reply) == StreamError(id="1", message=refused[1])
    assert caplog.text.count("KeyError: 'secret'") == 2


def test_a_port_that_is_taken_is_said_so(open_door: Opener) -> None:
    config = Config(listen=open_door().address)
    with pytest.raises(ServeError, match="the port is taken"):
        check_free(config.address)
    with pytest.raises(ServeError, match="the port is taken"):
        GrpcDoor(config, Keys()).bind()


def test_an_upload_is_not_bound_by_a_small_window(open_door: Opener) -> None:
    """64 KB a round trip is 10 Mbit/s at 50 ms. HTTP/2's SETTINGS say what the server grants."""
    host, port = open_door().address.split(":")
    with socket.create_connection((host, int(port)), 20) as peer:
        peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        head = peer.recv(9, socket.MSG_WAITALL)
        body = peer.recv(int.from_bytes(head[:3], "big"), socket.MSG_WAITALL)
    settings = dict(struct.iter_unpack(">HI", body))
    assert head[3] == 4
    assert settings[4] >= 1 << 20


def test_no_module_but_the_doors_and_their_clients_knows_grpc() -> None:
    room = ROOT / "cloud_fn"
    knowing = {
        path.relative_to(room).parts[0]
        for path in room.rglob("*.py")
        if "import grpc" in path.read_text()
    }
    assert knowing == {"doors", "caller.py", "client.py"}


def test_importing_the_server_loads_neither_ray_nor_onnx_runtime() -> None:
    """Ray must find its settings before it is imported; the gateway runs no model."""
    code = "import sys, cloud_fn.serve; print({'ray', 'onnx', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "set()\n"
