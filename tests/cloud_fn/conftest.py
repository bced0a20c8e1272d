"""Tiny models, a registry that holds them, and directories short enough for sockets."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cloud_fn.functions import Function, Limits, Pool
from cloud_fn.functions.scaling import FixedPolicy
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.registry.push import push
from tests.cloud_fn.pools import DONE, FakeLauncher, Opener, Script

STEPS: dict[str, Any] = {
    "schema": "isthmus.steps/1",
    "input": "x",
    "before": [
        {"step": "decode", "colour": "RGB"},
        {"step": "resize", "width": 2, "height": 2},
        {"step": "normalise", "mean": [0, 0, 0], "std": [1, 1, 1]},
        {"step": "layout", "order": "NCHW"},
    ],
    "after": [{"step": "top_k", "tensor": "y", "labels": ["red", "green", "blue"], "k": 1}],
}


def _save(path: Path, graph: onnx.GraphProto, *, external: bool = False) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=external,
        location=f"{path.stem}.weights",
        size_threshold=0,
    )
    return path


def _mlp(path: Path, *, seed: int = 0, external: bool = False) -> Path:
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"]),
        helper.make_node("Relu", ["m"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "w2"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("w1", (4, 8)), ("w2", (8, 3)))
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        weights,
    )
    return _save(path, graph, external=external)


def _colours(folder: Path) -> tuple[Path, Path]:
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["y"]),
        ],
        "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    steps = folder / "colours-steps.json"
    steps.write_text(json.dumps(STEPS))
    return _save(folder / "colours.onnx", graph), steps


@pytest.fixture(scope="session")
def build_mlp() -> Callable[..., Path]:
    """Make a model file: ``x`` (1, 4) to ``hidden`` (1, 8), never negative, to ``y`` (1, 3)."""
    return _mlp


@pytest.fixture(scope="session")
def build_colours() -> Callable[[Path], tuple[Path, Path]]:
    """Make a model with steps that says which of red, green and blue an image mostly is."""
    return _colours


@pytest.fixture
def mlp(tmp_path: Path) -> Callable[..., Path]:
    """As :func:`build_mlp`, in the test's own directory."""

    def make(name: str = "mlp.onnx", *, seed: int = 0, external: bool = False) -> Path:
        return _mlp(tmp_path / name, seed=seed, external=external)

    return make


@pytest.fixture
def colours(tmp_path: Path) -> tuple[Path, Path]:
    """As :func:`build_colours`, in the test's own directory."""
    return _colours(tmp_path)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "registry")


@pytest.fixture
def published(
    catalog: Catalog, mlp: Callable[..., Path], colours: tuple[Path, Path]
) -> dict[str, Manifest]:
    """``mlp`` and ``colours`` in the registry, by name."""
    model, steps = colours
    made = [push(catalog, mlp()), push(catalog, model, steps=steps)]
    return {manifest.name: manifest for manifest, _ in made}


@pytest.fixture
def functions(catalog: Catalog, published: dict[str, Manifest]) -> dict[str, Function]:
    return {name: Function.of(manifest, catalog) for name, manifest in published.items()}


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name, which pytest's own do not."""
    path = Path(tempfile.mkdtemp(prefix="is-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def open_pool(short: Path) -> Iterator[Opener]:
    """Open a pool with a launcher, by default one whose instances follow a script; closed later."""
    pools: list[Pool] = []

    def make(
        script: Script = lambda _: DONE,
        launcher: FakeLauncher | None = None,
        **limits: Any,  # noqa: ANN401  any of the limits
    ) -> tuple[Pool, FakeLauncher]:
        launcher = launcher or FakeLauncher(short, script)
        if "keep_alive_s" in limits:
            limits["policy"] = FixedPolicy(keep_alive_s=limits.pop("keep_alive_s"))
        given = Limits(**limits)
        pool = Pool(launcher, lambda _: given)
        pool.start()
        pools.append(pool)
        return pool, launcher

    yield make
    for pool in pools:
        pool.close()
