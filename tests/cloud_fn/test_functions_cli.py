"""``isthmus functions list``, ``show`` and ``set``, on a folder and at a gateway."""
# ruff: noqa: ANN401, ARG002  (JSON; fakes take what the real ones take)

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_fn import cli
from cloud_fn.auth import Keys
from cloud_fn.client import set_function
from cloud_fn.config import Address, Config, Instance
from cloud_fn.doors.control import CALLS
from cloud_fn.doors.grpc import GrpcDoor
from cloud_fn.errors import GatewayRefused, InvalidRequest
from cloud_fn.functions import Answer, Function
from cloud_fn.functions.settings import Settings, SettingsError
from cloud_fn.functions.specifications import Specifications
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.registry.function_store import FunctionStore
from cloud_fn.service import Bounds, Service
from protos.gen import control_pb2 as pb
from tests.cloud_fn.cuts import FakeCuts

KEY = "0123456789abcdef"


class NoPool:
    def __init__(self) -> None:
        self.cuts = FakeCuts()

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        raise AssertionError("no request is sent here")

    def deploy(self, function: Function) -> None:
        raise AssertionError("nothing is deployed here")


def run(*argv: object) -> int:
    parser = argparse.ArgumentParser()
    cli.mount(parser.add_subparsers(required=True))
    args = parser.parse_args(["functions", *map(str, argv)])
    return int(args.run(args))


@pytest.fixture
def service(catalog: Catalog, published: dict[str, Manifest]) -> Service:
    said = Specifications(catalog, FunctionStore(catalog.root), Instance(threads=3))
    return Service(catalog, NoPool(), Bounds(), specifications=said)


@pytest.fixture
def gateway(service: Service) -> Iterator[Address]:
    door = GrpcDoor(Config(listen="127.0.0.1:0"), Keys((KEY,)))
    address = door.bind()
    door.open(service)
    yield address
    door.close(0.0)


@pytest.fixture(params=["folder", "gateway"])
def where(
    request: pytest.FixtureRequest, service: Service, catalog: Catalog, tmp_path: Path
) -> tuple[object, ...]:
    """The words that name the registry, or the gateway before it; both have 3 threads."""
    if request.param == "gateway":
        key = tmp_path / "key"
        key.touch(mode=0o600)
        key.write_text(f"{KEY}\n")
        return "--gateway", request.getfixturevalue("gateway"), "--key-file", key
    configuration = tmp_path / "cloud.toml"
    configuration.write_text("[instance]\nthreads = 3\n")
    return "--root", catalog.root, "--config", configuration


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def ask(*argv: object) -> Any:
        assert run(*argv, "--json") == 0
        return json.loads(capsys.readouterr().out)

    return ask


def test_what_is_set_is_shown_with_whose_it_is(
    where: tuple[object, ...], document: Callable[..., Any]
) -> None:
    made = document("set", "mlp", "--concurrency", 8, "--env", "MODE=a=b", *where)
    assert made["settings"]["concurrency"] == {"value": 8, "source": "function"}
    assert made["settings"]["environment"] == {"value": {"MODE": "a=b"}, "source": "function"}
    assert made["settings"]["threads"] == {"value": 3, "source": "server"}
    assert made["settings"]["batching"] == {"value": "auto", "source": "default"}
    assert document("show", "mlp", *where) == made
    listed = document("list", *where)
    assert listed["schema"] == "isthmus.functions/1"
    assert [each["name"] for each in listed["functions"]] == ["colours", "mlp"]
    assert listed["functions"][1] == made


def test_flags_change_one_setting_and_a_file_all(
    where: tuple[object, ...], document: Callable[..., Any], tmp_path: Path
) -> None:
    def own() -> dict[str, Any]:
        shown = document("show", "mlp", *where)["settings"].items()
        return {name: each["value"] for name, each in shown if each["source"] == "function"}

    document("set", "mlp", "--threads", 2, "--batching", "off", *where)
    document("set", "mlp", "--batching", 4, "--max-execution-s", "1.5", *where)
    pad: dict[str, float] = {}
    batching = {"max_size": 4, "max_wait_s": 1.0, "pad": pad}
    assert own() == {"threads": 2, "batching": batching, "max_execution_s": 1.5}
    file = tmp_path / "f.toml"
    file.write_text('providers = ["cuda", "cpu"]\ngpu = 0.5\nmodel = "mlp:1"\n')
    document("set", "mlp", "--file", file, "--cpus", 1, *where)
    assert own() == {"model": "mlp:1", "cpus": 1, "gpu": 0.5, "providers": ["cuda", "cpu"]}
    document("set", "mlp", "--unset", "cpus", "--unset", "model", "--scaling", "fixed", *where)
    scaling = {"policy": "fixed", "keep_alive_s": 600.0}
    assert own() == {"gpu": 0.5, "providers": ["cuda", "cpu"], "scaling": scaling}


def test_people_read_lines(where: tuple[object, ...], capsys: pytest.CaptureFixture[str]) -> None:
    run("set", "fast", "--model", "mlp", "--concurrency", 8, *where)
    assert capsys.readouterr().out.startswith("fast  runs mlp:1, set 2")
    run("list", *where)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "colours runs colours:1 nothing set",
        'fast runs mlp:1 model="mlp" concurrency=8',
        "mlp runs mlp:1 nothing set",
    ]
    run("show", "fast", *where)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["concurrency", "8", "function"] in shown
    assert ["threads", "3", "server"] in shown


def test_a_refused_change_says_why_in_one_sentence(where: tuple[object, ...]) -> None:
    def refusal(*argv: object) -> str:
        with pytest.raises((InvalidRequest, GatewayRefused)) as caught:
            run("set", "mlp", *argv, *where)
        assert caught.value.exit_code == 2
        return str(caught.value)

    assert "of mlp is not valid: Expected `int` >= 1 at field `threads`" in refusal("--threads", 0)
    assert "gpu is 0.5 but providers has no cuda" in refusal("--gpu", "0.5")
    assert "there is no setting 'colour'" in refusal("--unset", "colour")
    assert "nothing to set: name a setting" in refusal()
    assert "--env 'MODE' is not NAME=VALUE" in refusal("--env", "MODE")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("threads = ", "is not a TOML file: Invalid value"),
        ("thread = 1", "is not valid: Object contains unknown field `thread`"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused(
    catalog: Catalog, tmp_path: Path, text: str | None, sentence: str
) -> None:
    file = tmp_path / "f.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        run("set", "mlp", "--file", file, "--root", catalog.root)
    assert str(caught.value).startswith(f"settings file {file} {sentence}")


def test_the_door_needs_the_key_and_refuses_what_is_no_setting(
    service: Service, gateway: Address
) -> None:
    with pytest.raises(GatewayRefused, match="the server needs a key"):
        set_function(gateway, "mlp", Settings(threads=2), key=None)
    for settings in ("[1]", "{", '{"threads": 0}', '{"threads": "2"}'):
        request = pb.SetFunctionRequest(name="mlp", settings=settings).SerializeToString()
        with pytest.raises(SettingsError, match="settings is not "):
            CALLS["SetFunction"](service, request)
    assert dict(service.specifications.show("mlp").own) == {}


def test_an_empty_registry_has_no_functions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", "--root", tmp_path / "r") == 0
    assert capsys.readouterr() == (
        "", "there are no functions: `isthmus registry push MODEL.onnx`\n"
    )  # fmt: skip
