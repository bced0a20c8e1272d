"""``isthmus functions run``, against a gateway's real door: killed anywhere, it goes on."""
# ruff: noqa: ARG002  (fakes take what the real ones take)

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_fn import cli, rest
from cloud_fn.auth import Keys
from cloud_fn.caller import Caller
from cloud_fn.config import Address, Config
from cloud_fn.doors.grpc import GrpcDoor
from cloud_fn.errors import FunctionFailed, GatewayRefused, InvalidRequest, Stopping
from cloud_fn.functions import Answer, Function
from cloud_fn.functions.checkpoint import CheckpointError
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.service import Bounds, Service
from protos import wire
from protos.invocation import Reply, Request, Tensor
from tests.cloud_fn.cuts import FakeCuts

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 30.0
LARGE = 4096


@dataclass
class Doubling:
    """Answers ``y = 2 x`` to numbers, and to bytes their length; refuses the ids in ``refuses``.

    From the call that ``holds`` counts on, requests wait until ``go``.
    """

    refuses: set[str] = field(default_factory=set)
    holds: int = 1 << 30
    asked: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    cuts: FakeCuts = field(default_factory=FakeCuts)

    def deploy(self, function: Function) -> None:
        """Nothing is kept ready here."""

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        request = wire.decode_request(body)
        self.asked.append(request.id)
        if len(self.asked) >= self.holds:
            self.held.set()
            assert self.go.wait(LIMIT_S)
        if request.id in self.refuses:
            raise InvalidRequest("it is no picture")
        given = request.inputs[0].array()
        made = np.array([len(given[0])], np.int64) if given.dtype.kind == "O" else 2 * given
        reply = Reply(model="mlp", version="1", id=request.id, outputs=(Tensor.of("y", made),))
        return Answer(
            body=wire.encode_reply(reply),
            instance="i1",
            handed_s=0.0,
            init_s=0.0,
            load_s=0.0,
            infer_s=0.0,
        )


@pytest.fixture
def pool() -> Doubling:
    return Doubling()


@pytest.fixture
def service(catalog: Catalog, published: dict[str, Manifest], pool: Doubling) -> Service:
    return Service(catalog, pool, Bounds(max_message_bytes=LARGE, max_in_flight=8))


@pytest.fixture
def gateway(service: Service) -> Iterator[Address]:
    door = GrpcDoor(Config(listen="127.0.0.1:0", max_message_bytes=LARGE), Keys())
    address = door.bind()
    door.open(service)
    yield address
    door.close(0.0)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve files, one of them in a folder below, the n-th of n + 1 bytes; and a hidden one."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for number in range(11):
        (folder / f"{number:02}.jpg").write_bytes(b"p" * (number + 1))
    (folder / "more" / "11.jpg").write_bytes(b"p" * 12)
    (folder / ".hidden").write_bytes(b"")
    return folder


@pytest.fixture
def go(gateway: Address, tmp_path: Path) -> Callable[..., int]:
    """Run the command in this process, its output in ``out.jsonl``."""

    def run(*argv: object, model: str = "mlp") -> int:
        parser = argparse.ArgumentParser()
        cli.mount(parser.add_subparsers(required=True))
        args = parser.parse_args(
            list(map(str, ("functions", "run", model, *_where(gateway, tmp_path), *argv)))
        )
        return int(args.run(args))

    return run


def _where(gateway: Address, folder: Path) -> tuple[object, ...]:
    return "--gateway", gateway, "-o", folder / "out.jsonl"


def lines(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def a_line(*x: float, **more: object) -> str:
    given = {"name": "x", "datatype": "FP32", "shape": [1, len(x)], "data": [x]}
    return json.dumps({"inputs": [given], **more}) + "\n"


def test_a_job_killed_in_the_middle_asks_the_rest_when_it_is_run_again(
    pool: Doubling, gateway: Address, pictures: Path, tmp_path: Path, go: Callable[..., int]
) -> None:
    """SIGKILL, with two requests unanswered."""
    pool.holds = 6
    argv = ("--input", pictures, "--parallel", 2, *_where(gateway, tmp_path))
    command = [sys.executable, "-m", "isthmus", "functions", "run", "mlp", *map(str, argv)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as job:
        assert pool.held.wait(LIMIT_S)
        checkpoint = tmp_path / "out.jsonl.job"
        job.kill()
    done = {int(path.name.removeprefix("step-")) for path in checkpoint.glob("step-*")}
    names = [f"{number:02}.jpg" for number in range(11)] + ["more/11.jpg"]
    assert done
    assert not (tmp_path / "out.jsonl").exists()
    pool.holds = 1 << 30
    pool.go.set()
    before = len(pool.asked)
    assert go("--input", pictures, "--parallel", 2) == 0
    assert [(line["id"], line["outputs"][0]["data"]) for line in lines(tmp_path)] == [
        (name, [number + 1]) for number, name in enumerate(names)
    ]
    again = set(pool.asked[before:])
    assert again >= {name for number, name in enumerate(names) if number not in done}
    assert not again & {names[number] for number in done}
    before = len(pool.asked)
    assert go("--input", pictures, "--parallel", 2) == 0
    assert len(pool.asked) == before


def test_a_refused_input_costs_itself_alone_and_may_be_asked_again(
    pool: Doubling,
    pictures: Path,
    tmp_path: Path,
    go: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pool.refuses = {"03.jpg"}
    assert go("--input", pictures, "--json") == 1
    assert json.loads(capsys.readouterr().out) == {
        "schema": "isthmus.job/1",
        "model": "mlp",
        "steps": 12,
        "asked": 12,
        "refused": 1,
        "output": str(tmp_path / "out.jsonl"),
        "checkpoint": str(tmp_path / "out.jsonl.job"),
    }
    assert lines(tmp_path)[3] == {
        "id": "03.jpg",
        "error": "request 03.jpg: it is no picture",
    }
    assert go("--input", pictures) == 1
    pool.refuses.clear()
    pool.asked.clear()
    assert go("--input", pictures, "--retry") == 0
    assert pool.asked == ["03.jpg"]
    assert lines(tmp_path)[3]["outputs"][0]["data"] == [4]
    assert capsys.readouterr().out.splitlines() == [
        f"11 of 12 answered, 12 done before: {tmp_path / 'out.jsonl'}",
        f"12 of 12 answered, 11 done before: {tmp_path / 'out.jsonl'}",
    ]


def test_a_function_that_refuses_all_is_not_asked_for_all(
    pool: Doubling, pictures: Path, go: Callable[..., int]
) -> None:
    pool.refuses = {f"{number:02}.jpg" for number in range(11)}
    with pytest.raises(FunctionFailed, match=r"10 requests in a row .*: it is no picture; mend"):
        go("--input", pictures, "--parallel", 1)
    assert len(pool.asked) in {10, 11}


def test_lines_of_json_are_asked_and_answered_in_order(
    pool: Doubling, tmp_path: Path, go: Callable[..., int]
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(a_line(1, 2) + "\n" + a_line(0.5, id="own") + a_line(3))
    assert go("--input", file, model="mlp:1") == 0
    assert lines(tmp_path) == [
        {
            "model_name": "mlp",
            "model_version": "1",
            "id": id_,
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, len(y)], "data": y}],
        }
        for id_, y in (("1", [2.0, 4.0]), ("own", [1.0]), ("4", [6.0]))
    ]


def test_bytes_that_are_no_text_are_in_base64_both_ways() -> None:
    data = {"name": "b", "datatype": "BYTES", "shape": [2], "data": ["aGk=", "/w=="]}
    document = {"inputs": [{**data, "parameters": {"content_type": "base64"}}]}
    sent = rest.decode_request(json.dumps(document).encode(), "m", "", what="it")
    (tensor,) = wire.decode_request(sent).inputs
    assert tensor.array().tolist() == [b"hi", b"\xff"]
    back = json.loads(rest.encode_outcome(Reply(model="m", outputs=(tensor,))))
    assert back["outputs"] == document["inputs"]
    text = {**data, "data": ["a", "\u00e9"]}
    sent = rest.decode_request(json.dumps({"inputs": [text]}).encode(), "m", "", what="it")
    back = json.loads(
        rest.encode_outcome(Reply(model="m", outputs=wire.decode_request(sent).inputs))
    )
    assert back["outputs"] == [text]


def test_a_loop_feeds_its_answers_back_and_writes_the_last(
    pool: Doubling, tmp_path: Path, go: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(a_line(1, 3))
    loop = ("--input", file, "--feed", "y=x", "--steps")
    assert go(*loop, 5) == 0
    assert [line["outputs"][0]["data"] for line in lines(tmp_path)] == [[32.0, 96.0]]
    assert go(*loop, 5) == 0
    assert len(pool.asked) == 5
    assert capsys.readouterr().out.splitlines()[1] == (
        f"5 of 5 answered, 5 done before: {tmp_path / 'out.jsonl'}"
    )
    with pytest.raises(CheckpointError, match="is another job's"):
        go(*loop, 6)
    file.write_text(a_line(1) * 2)
    for argv, why in (
        (loop, "holds 2 requests: a loop begins with one"),
        (("--input", file, "--steps"), "a loop takes both --feed"),
        (("--input", file, "--feed", "y", "--steps"), "'y' is not OUTPUT=INPUT"),
    ):
        file.write_text(a_line(1) * (2 if argv is loop else 1))
        with pytest.raises(InvalidRequest, match=why):
            go(*argv, 2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no requests"),
        (a_line(1) + "{", "line 2 is not a JSON document"),
        (a_line(1, extra=2), "unknown field `extra`"),
        (a_line(1).replace("FP32", "FP23"), "line 1: input 'x': datatype 'FP23' is unknown"),
        (a_line(1).replace("[1, 1]", "[2, 2]"), "it has 1 elements and a shape of 4"),
        (a_line(1.5).replace("FP32", "INT8"), "its data are not all of INT8"),
        (a_line(300).replace("FP32", "UINT8").replace("300.0", "300"), "do not all fit UINT8"),
        (a_line(1).replace("FP32", "BYTES"), "its data are not all texts"),
    ],
)
def test_input_that_makes_no_sense_is_refused_before_anything_is_asked(
    pool: Doubling, tmp_path: Path, go: Callable[..., int], text: str, why: str
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(text)
    with pytest.raises(Exception, match=why) as caught:
        go("--input", file)
    assert getattr(caught.value, "exit_code", None) == 2
    assert pool.asked == []


def test_what_ends_a_job_leaves_what_was_done(
    pool: Doubling, pictures: Path, tmp_path: Path, go: Callable[..., int]
) -> None:
    with pytest.raises(GatewayRefused, match="there is no model 'nope'"):
        go("--input", pictures, model="nope")
    pool.holds = 3
    done: list[BaseException] = []

    def run() -> None:
        try:
            go("--input", pictures, "--parallel", 1, "--checkpoint", tmp_path / "c")
        except InvalidRequest as error:
            done.append(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("signal.signal", lambda *_: None)  # which only a main thread may call
        thread = threading.Thread(target=run)
        thread.start()
        assert pool.held.wait(LIMIT_S)
        (pictures / "05.jpg").write_bytes(b"another")
        pool.go.set()
        thread.join(LIMIT_S)
    assert "05.jpg has changed since the job began" in str(done[0])
    assert len(list((tmp_path / "c").glob("step-*"))) == 5


def a_request(size: int = 1, model: str = "mlp") -> bytes:
    x = Tensor.of("x", np.ones((1, size), np.float32))
    return wire.encode_request(Request(model=model, id="7", inputs=(x,)))


class Opening(threading.Event):
    """Whoever waits has *then* done instead, and goes on."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self.then, self.waits = then, 0

    def wait(self, timeout: float | None = None) -> bool:
        self.waits += 1
        self.then()
        return self.is_set()


def test_a_caller_waits_for_a_gateway_that_is_too_busy(
    service: Service, gateway: Address, pool: Doubling
) -> None:
    for _ in range(8):
        service.admit()
    stop = Opening(service.leave)
    with Caller(gateway, None, timeout_s=LIMIT_S, stop=stop) as caller:
        assert wire.decode_reply(caller.ask(a_request()).body).id == "7"
    assert (stop.waits, pool.asked) == (1, ["7"])


def test_a_caller_waits_for_a_gateway_that_is_away_but_not_for_ever(gateway: Address) -> None:
    away = Address("127.0.0.1", 1)
    clock = iter([0.0, 1.0, 61.0])
    stop = Opening(lambda: None)
    with (
        Caller(away, None, timeout_s=5, patience_s=60, stop=stop, clock=clock.__next__) as caller,
        pytest.raises(GatewayRefused, match=r"no gateway answers at 127\.0\.0\.1:1"),
    ):
        caller.ask(a_request())
    assert stop.waits == 1
    stop = Opening(lambda: stop.set())  # noqa: PLW0108  it is not there yet
    with Caller(away, None, timeout_s=5, stop=stop) as caller, pytest.raises(Stopping):
        caller.ask(a_request())


def test_a_caller_is_told_what_is_the_requests_own_fault(gateway: Address) -> None:
    with Caller(gateway, None, timeout_s=LIMIT_S) as caller:
        with pytest.raises(InvalidRequest, match="the message has"):
            caller.ask(a_request(LARGE // 4))
        with pytest.raises(GatewayRefused, match="there is no model 'nope'"):
            caller.ask(a_request(model="nope"))
