"""Cuts that devices deploy, from the call over Control to what is told of them."""
# ruff: noqa: ARG002  (fakes take what the real ones take)

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cloud_fn.auth import Keys
from cloud_fn.client import deploy_cuts
from cloud_fn.config import Address, Config
from cloud_fn.deployments import Deployment
from cloud_fn.doors.grpc import GrpcDoor
from cloud_fn.errors import GatewayRefused
from cloud_fn.functions import Answer, Function
from cloud_fn.functions.settings import Settings
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.registry.deployment_store import MOST_VERSIONS, DeploymentStore, Kept
from cloud_fn.service import Bounds, Service
from protos import wire
from protos.deployments import MAX_CUTS
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


def restarted(catalog: Catalog) -> FakePool:
    """What the pool of a server that is started now was told of."""
    pool = FakePool()
    Service(Catalog(catalog.root), pool, Bounds()).deploy()
    return pool


def test_what_was_deployed_is_deployed_again_when_the_server_is_started(
    service: Service, catalog: Catalog, pool: FakePool
) -> None:
    assert restarted(catalog).cuts.deployed == []
    service.deploy_cuts("mlp", "", [["hidden"], ["x"]])
    service.deploy_cuts("mlp", "1", [["x", "hidden"]])
    assert restarted(catalog).cuts.deployed == [HIDDEN, INPUT, ("hidden", "x")]


def test_what_devices_say_again_is_not_written_again(service: Service, catalog: Catalog) -> None:
    (file,) = deployed_files(service, catalog, [["hidden"], ["x"]])
    before = file.stat().st_ino, file.stat().st_mtime_ns
    assert deployed_files(service, catalog, [["x"]]) == [file]
    assert deployed_files(service, catalog, []) == [file]
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == before


def deployed_files(service: Service, catalog: Catalog, cuts: list[list[str]]) -> list[Path]:
    service.deploy_cuts("mlp", "", cuts)
    return sorted((catalog.root / "deployments").glob("*.json"))


def test_a_damaged_file_is_named_once_and_costs_itself_alone(
    service: Service, catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    service.deploy_cuts("colours", "", [["pooled"]])
    for text in ("{", '{"schema": "isthmus.deployments/2"}', a_document("")):
        caplog.clear()
        (catalog.root / "deployments" / "mlp.json").write_text(text)
        store = DeploymentStore(catalog.root)
        for _ in range(2):
            assert [each.name for each in store.all()] == ["colours"]
        (said,) = caplog.messages
        assert "mlp.json is left out: " in said
    store.note(a_kept(HIDDEN))
    assert restarted(catalog).cuts.deployed == [("pooled",), HIDDEN]


def a_document(tensor: str) -> str:
    versions = f'[{{"model": "mlp", "version": 1, "cuts": [["{tensor}"]]}}]'
    return f'{{"schema": "isthmus.deployments/1", "versions": {versions}}}'


def a_kept(*cuts: tuple[str, ...], version: int = 1, model: str = "mlp") -> Kept:
    return Kept(name="mlp", model=model, version=version, cuts=cuts)


def test_what_is_kept_is_bounded_and_the_last_stays(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path)
    for number in range(MAX_CUTS + 4):
        store.note(a_kept((f"t{number}",)))
    kept = tuple((f"t{number}",) for number in range(4, MAX_CUTS + 4))
    assert list(DeploymentStore(tmp_path).all()) == [a_kept(*kept)]
    for version in range(2, MOST_VERSIONS + 4):
        store.note(a_kept(INPUT, version=version))
    found = [each.version for each in DeploymentStore(tmp_path).all()]
    assert found == list(range(4, MOST_VERSIONS + 4))


def test_what_cannot_be_kept_is_logged_once_and_deployed_all_the_same(
    service: Service, catalog: Catalog, pool: FakePool, caplog: pytest.LogCaptureFixture
) -> None:
    (catalog.root / "deployments").write_text("no folder")
    for _ in range(2):
        assert set(service.deploy_cuts("mlp", "", [["hidden"]]).warm) == {HIDDEN}
    (said,) = [text for text in caplog.messages if "not kept" in text]
    assert said.endswith("mlp.json cannot be written: File exists")


def test_a_version_that_is_gone_or_another_models_now_is_left_out(
    service: Service, catalog: Catalog
) -> None:
    service.deploy_cuts("mlp", "", [["hidden"]])
    service.deploy_cuts("colours", "", [["pooled"]])
    service.specifications.set("mlp", Settings(model="colours"))
    assert restarted(catalog).cuts.deployed == [("pooled",)]
    shutil.rmtree(catalog.root / "models" / "colours")
    assert restarted(catalog).cuts.deployed == []
