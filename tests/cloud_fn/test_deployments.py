"""Cuts that devices deploy, from the call over Control to what is told of them."""
# ruff: noqa: ARG002  (fakes take what the real ones take)

from collections.abc import Iterator

import numpy as np
import pytest

from cloud_fn.auth import Keys
from cloud_fn.client import deploy_cuts
from cloud_fn.config import Address, Config
from cloud_fn.deployments import Deployment
from cloud_fn.doors.grpc import GrpcDoor
from cloud_fn.errors import GatewayRefused
from cloud_fn.functions import Answer, Function
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.service import Bounds, Service
from protos import wire
from protos.invocation import Reply, Request, Tensor
from tests.cloud_fn.cuts import FakeCuts

HIDDEN, INPUT = ("hidden",), ("x",)


class FakePool:
    """Answers everything in instance i1."""

    def __init__(self) -> None:
        self.cuts = FakeCuts()

    def deploy(self, function: Function) -> None:
        """Nothing is kept ready here."""

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        reply = wire.encode_reply(Reply(model=function.model))
        return Answer(body=reply, instance="i1", handed_s=0.0, init_s=0.0, load_s=0.0, infer_s=0.0)


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


@pytest.fixture
def service(catalog: Catalog, published: dict[str, Manifest], pool: FakePool) -> Service:
    return Service(catalog, pool, Bounds())


@pytest.fixture
def gateway(service: Service) -> Iterator[Address]:
    door = GrpcDoor(Config(listen="127.0.0.1:0"), Keys())
    address = door.bind()
    door.open(service)
    yield address
    door.close(0.0)


def a_request(*names: str, cut: str | None, outputs: tuple[str, ...] = ()) -> bytes:
    inputs = tuple(Tensor.of(name, np.zeros((1, 4), np.float32)) for name in names)
    return wire.encode_request(Request(model="mlp", inputs=inputs, cut=cut, outputs=outputs))


def test_a_device_deploys_cuts_and_hears_which_are_warm_and_which_cannot_be(
    gateway: Address, pool: FakePool
) -> None:
    pool.cuts.refused = {INPUT: "no memory", ("z",): "of another device"}
    sent = [["hidden"], ["x"], ["hidden"]]
    assert deploy_cuts(gateway, "mlp", cuts=sent, key=None) == Deployment(
        model="mlp", version=1, warm=(HIDDEN,), refused=((INPUT, "no memory"),)
    )
    assert pool.cuts.deployed == [HIDDEN, INPUT]


@pytest.mark.parametrize(
    ("model", "cuts", "why"),
    [
        ("nope", [["x"]], "there is no model 'nope'"),
        ("mlp:9", [["x"]], "model mlp has no version '9'"),
        ("mlp", [[]], "a cut has 0 boundary tensors: name 1 to 256 of them"),
        ("mlp", [[str(n)] for n in range(17)], "17 cuts are to be deployed: send at most 16"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused_in_a_sentence(
    gateway: Address, pool: FakePool, model: str, cuts: list[list[str]], why: str
) -> None:
    name, _, version = model.partition(":")
    with pytest.raises(GatewayRefused) as caught:
        deploy_cuts(gateway, name, version, cuts=cuts, key=None)
    assert str(caught.value).startswith(f"the gateway at {gateway} refuses: {why}")
    assert pool.cuts.deployed == []


def test_the_cuts_that_requests_used_are_noted_and_pieces_and_whole_models_are_none(
    service: Service, pool: FakePool
) -> None:
    service.infer(a_request("x", cut=None))
    service.infer(a_request("x", cut="p", outputs=("hidden",)))
    assert pool.cuts.used_by == []
    service.infer(a_request("x", "hidden", cut="p"))
    assert pool.cuts.used_by == [("mlp:1", "i1", ("hidden", "x"))]
