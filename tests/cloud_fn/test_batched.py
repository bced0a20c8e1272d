"""Whether a published version may answer several requests at once: found at push, and kept."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cloud_fn.functions import Function
from cloud_fn.functions.curve import Curve
from cloud_fn.registry import Catalog, Manifest, batching
from cloud_fn.registry.optimising import optimise
from cloud_fn.registry.push import push
from cloud_fn.registry.variants import Batched

FLAT = Curve(points=((1, 0.010), (2, 0.011), (8, 0.012)))
"""Eight rows take little more than one."""

Build = Callable[..., Path]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Curve], None]:
    """Have every version's batches take what a curve says."""

    def use(curve: Curve) -> None:
        monkeypatch.setattr(batching, "measure", lambda *_, **__: curve)

    use(FLAT)
    return use


@pytest.fixture
def network(tmp_path: Path) -> Build:
    """Make ``x`` (batch, 64) to ``y``, in which rows may *meet*."""

    def make(*, meet: bool = False, batch: int | str = "batch") -> Path:
        weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
        nodes = [helper.make_node("MatMul", ["x", "w"], ["m"])]
        if meet:
            nodes.append(helper.make_node("ReduceMean", ["m"], ["mean"], axes=[0]))
        nodes.append(helper.make_node("Sub", ["m", "mean"] if meet else ["m", "m0"], ["y"]))
        ends: Sequence[Any] = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 64]) for name in "xy"
        ]
        zero = numpy_helper.from_array(np.ones(1, np.float32), "m0")
        initializers = [numpy_helper.from_array(weights, "w"), zero]
        graph = helper.make_graph(nodes, "n", ends[:1], ends[1:], initializers)
        opset = [helper.make_opsetid("", 17)]
        path = tmp_path / "network.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
        return path

    return make


def batched_of(catalog: Catalog, manifest: Manifest) -> Batched:
    (variant,) = catalog.variants(manifest)
    assert variant.batched is not None
    return variant.batched


@pytest.mark.usefixtures("measured")
def test_a_push_finds_that_requests_may_run_together_and_what_that_takes(
    catalog: Catalog, network: Build
) -> None:
    manifest, _ = push(catalog, network())
    found = batched_of(catalog, manifest)
    assert found.graph is not None
    assert (found.reason, found.weights) == ("", None)
    assert [each.shape for each in found.inputs] == [(-1, 64)]
    (ready,) = Function.of(manifest, catalog).ready
    assert ready.batched is not None
    assert (ready.batched.curve, ready.batched.files) == (FLAT, found.files)
    assert manifest.interface.inputs[0].shape == (1, 64)


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (
            Curve(points=((1, 0.010), (2, 0.0195))),
            "the best batch is 1.03 times as fast by the row: it is worth it from 1.4 on",
        ),
        (
            Curve(points=((1, 0.0002), (2, 0.0002))),
            "one row takes 0.2 ms, less than the rest of a request's way",
        ),
    ],
)
def test_what_does_not_pay_keeps_its_figures_and_no_file(
    catalog: Catalog,
    network: Build,
    measured: Callable[[Curve], None],
    curve: Curve,
    reason: str,
) -> None:
    measured(curve)
    manifest, _ = push(catalog, network())
    found = batched_of(catalog, manifest)
    assert (found.reason, found.files, found.points) == (reason, (), curve.points)
    assert Function.of(manifest, catalog).ready[0].batched is None


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"meet": True}, "output 'y' is another when two requests run together"),
        ({"batch": 1}, "axis 0 of input 'x' is fixed: publish the model with a dynamic one"),
    ],
)
def test_a_model_that_cannot_be_batched_says_why(
    catalog: Catalog, network: Build, changes: dict[str, Any], reason: str
) -> None:
    manifest, _ = push(catalog, network(**changes))
    assert batched_of(catalog, manifest) == Batched(reason=reason)


@pytest.mark.usefixtures("measured")
def test_a_variant_that_was_made_before_anybody_asked_is_completed_by_the_next_push(
    catalog: Catalog, network: Build
) -> None:
    manifest, _ = push(catalog, network())
    (variant,) = catalog.variants(manifest)
    catalog.add_variant(manifest, msgspec.structs.replace(variant, batched=None))
    (path,) = (catalog.root / "models" / "network" / "variants").glob("*.json")
    before = msgspec.json.decode(path.read_bytes())
    del before["variants"][0]["batched"]
    path.write_bytes(msgspec.json.encode(before))
    assert Function.of(manifest, catalog).ready[0].batched is None
    assert optimise(catalog, manifest) == (variant, True)
    assert catalog.variants(manifest) == (variant,)


@pytest.mark.usefixtures("measured")
def test_a_lost_graph_leaves_the_version_ready_and_is_made_again(
    catalog: Catalog, network: Build
) -> None:
    manifest, _ = push(catalog, network())
    found = batched_of(catalog, manifest)
    assert found.graph is not None
    catalog.blobs.path(found.graph).unlink()
    (ready,) = Function.of(manifest, catalog).ready
    assert ready.batched is None
    push(catalog, network())
    assert batched_of(catalog, manifest) == found
    assert catalog.blobs.is_intact(found.graph)


def test_a_full_disk_costs_the_batching_and_not_the_version_and_the_next_push_asks_again(
    catalog: Catalog, network: Build, measured: Callable[[Curve], None]
) -> None:
    def full(*_: object, **__: object) -> Curve:
        raise OSError(28, "No space left on device")

    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "measure", full)
        manifest, _ = push(catalog, network(), say=said.append)
    assert "No space left on device" in said[-2]
    (variant,) = catalog.variants(manifest)
    assert variant.batched is None
    measured(FLAT)
    push(catalog, network())
    assert batched_of(catalog, manifest).graph is not None
