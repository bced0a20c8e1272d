"""How busy a function was: the sums, the call that tells it, and ``isthmus functions load``."""
# ruff: noqa: ARG002  (fakes take what the real ones take)

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fn import cli
from cloud_fn.auth import Keys
from cloud_fn.client import get_load
from cloud_fn.config import Address, Config
from cloud_fn.doors.grpc import GrpcDoor
from cloud_fn.errors import GatewayRefused, NothingSeen
from cloud_fn.functions import Answer, Function
from cloud_fn.load import BUCKET_S, BUCKETS, WINDOW_S, Recent, answered
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.service import Bounds, LoadReport, Service
from planner.loads import Load, read_load
from protos import wire
from protos.invocation import Reply, Request, Tensor
from protos.timing import Timing
from tests.cloud_fn.cuts import FakeCuts

KEY = "0123456789abcdef"
REQUEST = wire.encode_request(
    Request(model="mlp", inputs=(Tensor.of("x", np.zeros((1, 4), np.float32)),))
)


class FakePool:
    """The first request waits 2 s for an instance and 0.5 s for its model, the others do not."""

    def __init__(self) -> None:
        self.cuts = FakeCuts()
        self.called = 0

    def deploy(self, function: Function) -> None:
        """Nothing is kept ready here."""

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        self.called += 1
        cold = self.called == 1
        return Answer(
            body=wire.encode_reply(Reply(model=function.model)),
            instance="i",
            handed_s=0.0,
            init_s=2.0 if cold else 0.0,
            load_s=0.5 if cold else 0.0,
            infer_s=0.0,
        )


def after(*timings: tuple[float, Timing]) -> Recent:
    recent = Recent()
    for at_s, timing in timings:
        recent = answered(recent, timing, at_s)
    return recent


def test_a_function_that_was_not_asked_has_no_load() -> None:
    assert (Recent().requests(0.0), Recent().load(0.0)) == (0, Load())


def test_the_load_is_the_mean_wait_and_how_often_and_how_long_a_start_took() -> None:
    recent = after(
        (0.0, Timing(trigger_s=0.1, init_s=2.0, load_s=0.5)),
        (1.0, Timing(trigger_s=0.3, infer_s=9.0)),
        (40.0, Timing(trigger_s=0.2, response_s=9.0)),
        (41.0, Timing(trigger_s=0.2, load_s=0.5)),
    )
    assert recent.requests(50.0) == 4
    load = recent.load(50.0)
    assert (load.queue_s, load.cold_chance, load.cold_s) == pytest.approx((0.2, 0.5, 1.5))


def test_what_is_older_than_the_window_is_forgotten_whether_or_not_more_came() -> None:
    recent = after((0.0, Timing(trigger_s=5.0)), (BUCKET_S, Timing(trigger_s=1.0)))
    assert recent.load(WINDOW_S - 1).queue_s == 3.0
    assert recent.load(WINDOW_S).queue_s == 1.0
    assert recent.requests(WINDOW_S + BUCKET_S) == 0
    later = answered(recent, Timing(trigger_s=2.0), WINDOW_S)
    assert later.load(WINDOW_S).queue_s == 1.5
    assert len(later.buckets) == 2


@given(st.lists(st.floats(min_value=0, max_value=400), max_size=60), st.floats(0, 100))
def test_at_any_rate_the_memory_is_bounded_and_the_figures_are_those_of_the_window(
    gaps_s: list[float], wait_s: float
) -> None:
    recent, times, at_s = Recent(), list[float](), 0.0
    for gap_s in gaps_s:
        at_s += gap_s
        times.append(at_s)
        recent = answered(recent, Timing(trigger_s=wait_s), at_s)
    first = (at_s // BUCKET_S - BUCKETS + 1) * BUCKET_S
    assert recent.requests(at_s) == sum(each >= first for each in times)
    assert recent.load(at_s).queue_s == pytest.approx(wait_s if times else 0.0)
    assert len(recent.buckets) <= BUCKETS


@pytest.fixture
def service(catalog: Catalog, published: dict[str, Manifest]) -> Service:
    return Service(catalog, FakePool(), Bounds())


@pytest.fixture
def gateway(service: Service) -> Iterator[Address]:
    door = GrpcDoor(Config(listen="127.0.0.1:0"), Keys((KEY,)))
    address = door.bind()
    door.open(service)
    yield address
    door.close(0.0)


def test_the_service_keeps_the_load_of_each_function_by_itself(service: Service) -> None:
    for _ in range(4):
        service.infer(REQUEST)
    found = service.load("mlp", "1")
    assert (found.model, found.version, found.requests) == ("mlp", 1, 4)
    assert (found.load.cold_chance, found.load.cold_s > 0) == (0.25, True)
    assert service.load("colours") == LoadReport(
        model="colours", version=1, window_s=WINDOW_S, requests=0, load=Load()
    )


def test_a_client_gets_what_the_service_says(service: Service, gateway: Address) -> None:
    service.infer(REQUEST)
    service.deploy_cuts("mlp", "", [["hidden"]])
    assert get_load(gateway, "mlp", key=KEY) == service.load("mlp")
    assert service.load("mlp").warm == (("hidden",),)


def test_the_answer_to_a_plan_says_how_requests_waited_lately_and_others_do_not(
    service: Service,
) -> None:
    assert b"isthmus_queue_ms" not in service.infer(REQUEST)
    request = wire.encode_request(replace(wire.decode_request(REQUEST), cut="p"))
    waits = wire.decode_reply(service.infer(request)).waits
    assert waits is not None
    load = service.load("mlp").load
    assert (waits.requests, waits.cold_chance) == (2, 0.5)
    assert (waits.queue_s, waits.cold_s) == pytest.approx((load.queue_s, load.cold_s))


@pytest.mark.parametrize(
    ("model", "key", "sentence"),
    [
        ("mlp", None, "the server needs a key: send the metadata `authorization: Bearer KEY`"),
        ("nope", KEY, "there is no model 'nope': the registry has colours, mlp"),
        ("mlp:7", KEY, "model mlp has no version '7': it has 1"),
    ],
)
def test_a_gateway_that_refuses_says_why(
    gateway: Address, model: str, key: str | None, sentence: str
) -> None:
    name, _, version = model.partition(":")
    with pytest.raises(GatewayRefused) as caught:
        get_load(gateway, name, version, key=key)
    assert str(caught.value) == f"the gateway at {gateway} refuses: {sentence}"


def test_where_nobody_listens_there_is_no_gateway() -> None:
    with pytest.raises(GatewayRefused, match=r"no gateway answers at 127.0.0.1:1: is `isthmus se"):
        get_load(Address("127.0.0.1", 1), "mlp", key=None)


def run(*argv: object) -> int:
    parser = argparse.ArgumentParser()
    cli.mount(parser.add_subparsers(required=True))
    args = parser.parse_args([str(each) for each in argv])
    return int(args.run(args))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(f"{KEY}\n")
    return path


def test_the_command_prints_the_load_and_writes_it_for_the_planner(
    service: Service,
    gateway: Address,
    key_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service.infer(REQUEST)
    service.deploy_cuts("mlp", "", [["hidden", "x"]])
    path = tmp_path / "load.json"
    words = ("functions", "load", "mlp", "--gateway", gateway, "--key-file", key_file)
    assert run(*words, "-o", path) == 0
    said, warm = capsys.readouterr().out.splitlines()
    assert said.startswith("mlp:1  1 request in the last 10 minutes: each ")
    assert warm == "warm     the tail after hidden, x"
    assert read_load(path) == service.load("mlp").load
    assert run(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text())


def test_of_a_function_that_was_not_asked_there_is_nothing_to_say(
    gateway: Address, key_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "load.json"
    with pytest.raises(NothingSeen) as caught:
        run(
            "functions", "load", "mlp", "--gateway", gateway, "--key-file", key_file, "-o", path
        )  # fmt: skip
    assert str(caught.value) == (
        "mlp:1 has answered no request in the last 10 minutes: ask it first"
    )
    assert caught.value.exit_code == 1
    assert not path.exists()
