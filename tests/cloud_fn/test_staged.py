"""Functions in stages, chosen by what the registry has of their version."""

# ruff: noqa: ARG002  (fakes take what the real ones take)
import argparse
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud_fn import cli
from cloud_fn.errors import RegistryError
from cloud_fn.functions import Answer, Function
from cloud_fn.functions.instance import Instance
from cloud_fn.functions.staged import Staged
from cloud_fn.functions.warming import Warming
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.registry.stage_store import StageStore
from planner.errors import NoFeasiblePlan
from planner.stagings import Staging
from protos import wire
from protos.invocation import Request, Tensor

X = np.array([[1, -2, 3, 0.5]], np.float32)
BODY = wire.encode_request(Request(model="mlp", inputs=(Tensor.of("x", X),)))
TWO_STAGES_BYTES = 200
"""The first product's weights take 128 bytes, the second's 96: each fits alone."""


@dataclass
class Instances:
    """Runs each function in an instance of this process, and keeps what it was asked."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    made: dict[str, Instance] = field(default_factory=dict)

    @property
    def cuts(self) -> Warming:
        raise AssertionError("no cut is deployed here")

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        self.asked.append(("call", function.model))
        instance = self.made.setdefault(function.key, Instance(function))
        done = instance.execute(body)
        return Answer(
            body=done.body, instance="i", handed_s=0.0, init_s=0.0, load_s=0.0, infer_s=0.0
        )

    def expect(self, function: Function) -> None:
        self.asked.append(("expect", function.model))

    def deploy(self, function: Function) -> None:
        self.asked.append(("deploy", function.model))


def run(*argv: object) -> int:
    parser = argparse.ArgumentParser()
    cli.mount(parser.add_subparsers(required=True))
    args = parser.parse_args(["functions", "stage", *map(str, argv)])
    return int(args.run(args))


@pytest.fixture
def root(catalog: Catalog, published: dict[str, Manifest]) -> Path:
    return catalog.root


def stage_in_two(root: Path) -> Staging:
    assert run("mlp", "--max-memory-bytes", TWO_STAGES_BYTES, "--root", root) == 0
    found = StageStore(root).get("mlp", 1)
    assert found is not None
    return found


def test_a_version_in_stages_is_answered_as_a_whole_one(
    root: Path, functions: dict[str, Function]
) -> None:
    instances = Instances()
    staged = Staged(instances, StageStore(root).get)
    whole = wire.decode_reply(staged.call(functions["mlp"], BODY).body)
    assert len(stage_in_two(root).stages) == 2
    parted = wire.decode_reply(staged.call(functions["mlp"], BODY).body)
    np.testing.assert_allclose(parted.outputs[0].array(), whole.outputs[0].array(), rtol=1e-6)
    assert instances.asked == [
        ("call", "mlp"),
        ("expect", "mlp@2of2"),
        ("call", "mlp@1of2"),
        ("call", "mlp@2of2"),
    ]


def test_a_version_that_is_made_whole_again_is_called_whole(
    root: Path, functions: dict[str, Function]
) -> None:
    instances = Instances()
    staged = Staged(instances, StageStore(root).get)
    stage_in_two(root)
    staged.call(functions["mlp"], BODY)
    assert run("mlp", "--whole", "--root", root) == 0
    instances.asked.clear()
    staged.call(functions["mlp"], BODY)
    assert instances.asked == [("call", "mlp")]


def test_every_stage_of_a_function_is_deployed(root: Path, functions: dict[str, Function]) -> None:
    instances = Instances()
    stage_in_two(root)
    Staged(instances, StageStore(root).get).deploy(functions["mlp"])
    assert instances.asked == [("deploy", "mlp@1of2"), ("deploy", "mlp@2of2")]


def test_what_is_planned_is_printed_and_kept(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_in_two(root)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["stage", "1"], ["stage", "2"]]
    assert lines[2] == "mlp:1 runs in 2 stages; no fewer will do"


def test_an_op_that_no_stage_can_hold_is_named_and_nothing_is_kept(root: Path) -> None:
    with pytest.raises(NoFeasiblePlan, match="MatMul"):
        run("mlp", "--max-memory-bytes", 50, "--root", root)
    assert StageStore(root).get("mlp", 1) is None


def test_stages_of_another_model_are_refused(
    catalog: Catalog, root: Path, published: dict[str, Manifest]
) -> None:
    strange = msgspec.structs.replace(stage_in_two(root), digest="0" * 64)
    with pytest.raises(RegistryError, match="plan them for this version"):
        StageStore(root).put(published["mlp"], strange)


def test_stages_that_make_no_sense_say_how_to_make_them_again(root: Path) -> None:
    stage_in_two(root)
    (root / "stages" / "mlp" / "1.json").write_text("{}")
    with pytest.raises(RegistryError, match="isthmus functions stage mlp:1"):
        StageStore(root).get("mlp", 1)
