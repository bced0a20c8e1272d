"""How an instance comes by its pieces: ready from the registry, ready on the node, or made."""
# ruff: noqa: ANN401  (builders take any field)

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cloud_fn.functions import Function, gpus, loading, made_here, pages, prepacking
from cloud_fn.functions.loading import Loaded, Loader
from cloud_fn.functions.node_cache import NodeCache
from cloud_fn.functions.prepacking import Copying, Prepacking
from cloud_fn.registry import Catalog
from cloud_fn.registry.push import push
from planner.compiling import compile_ready
from planner.errors import ModelError
from planner.model import read
from planner.ready import Ready
from planner.sessions import open_session
from planner.store import Store

X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 64)


@pytest.fixture
def gelu(tmp_path: Path) -> Path:
    """``x`` to ``m``, to a GELU fused out of ``up``, ``d``, ``e``, ``e1`` and ``g``, to ``y``."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w1"], ["m"]),
        node("Add", ["m", "b1"], ["up"]),
        node("Div", ["up", "root2"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["e1"]),
        node("Mul", ["up", "e1"], ["g"]),
        node("Mul", ["g", "half"], ["gelu"]),
        node("MatMul", ["gelu", "w2"], ["y"]),
    ]
    values = {"w1": (64, 64), "b1": (64,), "w2": (64, 64)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in values.items()
    ]
    scalars = {"root2": 2**0.5, "one": 1.0, "half": 0.5}
    weights += [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in scalars.items()]
    value = helper.make_tensor_value_info
    ends = [value(name, TensorProto.FLOAT, [1, 64]) for name in "xy"]
    graph = helper.make_graph(nodes, "gelu", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(tmp_path / "gelu"))
    return tmp_path / "gelu"


@pytest.fixture
def function(catalog: Catalog, gelu: Path) -> Function:
    return Function.of(push(catalog, gelu, name="gelu")[0], catalog)


@pytest.fixture
def wanted(gelu: Path) -> dict[str, np.ndarray]:
    names = ["m", "up", "e1", "gelu", "y"]
    return {"x": X} | read(gelu).piece(["x"], names).run({"x": X})


def without(function: Function, *, original: bool = True, ready: bool = True) -> Function:
    """*function* for a machine that has lost something."""
    changes: dict[str, Any] = {}
    if not original:
        changes["model_path"] = "/nowhere/model"
    if not ready:
        changes["ready"] = ()
    return msgspec.structs.replace(function, **changes)


def answers(loaded: Loaded, values: dict[str, np.ndarray]) -> np.ndarray:
    return loaded.piece.run({name: values[name] for name in loaded.piece.inputs})["y"]


def load(loader: Loader, *names: str) -> Loaded:
    return loader.load(sorted(names), (), is_cut=names != ("x",))


def finish(loader: Loader) -> None:
    assert loader._making is not None
    loader._making.join(30)
    assert not loader._making.is_alive()


@pytest.mark.parametrize("names", [("x",), ("m",), ("gelu",)])
def test_what_was_made_ready_answers_without_the_original(
    function: Function, wanted: dict[str, np.ndarray], names: tuple[str, ...]
) -> None:
    loaded = load(Loader(without(function, original=False)), *names)
    np.testing.assert_allclose(answers(loaded, wanted), wanted["y"], rtol=1e-4, atol=1e-4)


def test_a_file_that_was_copied_is_read_before_it_is_trusted(
    function: Function, wanted: dict[str, np.ndarray]
) -> None:
    """Its time is another then, or its inode."""
    for stamp in function.ready[0].stamps:
        os.utime(stamp.path, ns=(0, 0))
    loaded = load(Loader(without(function, original=False)), "x")
    np.testing.assert_allclose(answers(loaded, wanted), wanted["y"], rtol=1e-4, atol=1e-4)


def test_another_kind_of_machine_starts_from_the_original_and_leaves_it_ready(
    function: Function, wanted: dict[str, np.ndarray]
) -> None:
    other = msgspec.structs.replace(
        function, ready=tuple(msgspec.structs.replace(r, target="vax-0") for r in function.ready)
    )
    first = Loader(other)
    np.testing.assert_allclose(answers(load(first, "x"), wanted), wanted["y"], atol=1e-4)
    finish(first)
    second = load(Loader(without(other, original=False)), "x")
    np.testing.assert_allclose(answers(second, wanted), wanted["y"], rtol=1e-4, atol=1e-4)


def test_several_instances_make_a_version_ready_once(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(*args: Any) -> Any:
        made.append(args)
        return compile_ready(*args)

    monkeypatch.setattr(made_here, "compile_ready", counted)
    together = threading.Barrier(3)

    def start(_: int) -> None:
        loader = Loader(without(function, ready=False))
        together.wait(10)
        load(loader, "x")
        finish(loader)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(start, range(3)))
    assert len(made) == 1


def test_a_cut_that_was_fused_away_is_made_once_on_a_node(
    function: Function, wanted: dict[str, np.ndarray]
) -> None:
    first = load(Loader(function), "e1", "up")
    np.testing.assert_allclose(answers(first, wanted), wanted["y"], rtol=1e-4, atol=1e-4)
    again = load(Loader(without(function, original=False)), "e1", "up")
    np.testing.assert_allclose(answers(again, wanted), wanted["y"], rtol=1e-4, atol=1e-4)
    belied = dict(wanted, e1=np.zeros_like(wanted["e1"]))
    assert not np.allclose(answers(again, belied), wanted["y"], atol=1e-2)


def cut_short(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_short, flip, Path.unlink])
@pytest.mark.parametrize("which", ["graph", "document", "weights"])
def test_a_damaged_file_costs_time_and_is_made_again_by_a_push(
    catalog: Catalog,
    gelu: Path,
    function: Function,
    wanted: dict[str, np.ndarray],
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    which: str,
) -> None:
    file = getattr(function.ready[0], which)
    damage(Path(function.ready[0].folder) / file.digest)
    loaded = load(Loader(msgspec.structs.replace(function, cache_path=None)), "x")
    np.testing.assert_allclose(answers(loaded, wanted), wanted["y"], rtol=1e-4, atol=1e-4)
    assert caplog.text.count("ready model damaged: function=gelu:1") == 1
    manifest = catalog.manifest("gelu")
    assert Function.of(manifest, catalog).ready == ()
    assert push(catalog, gelu, name="gelu") == (manifest, False)
    mended = Function.of(manifest, catalog)
    loaded = load(Loader(without(mended, original=False)), "x")
    np.testing.assert_allclose(answers(loaded, wanted), wanted["y"], rtol=1e-4, atol=1e-4)


def test_a_damaged_entry_of_the_node_is_made_again(
    function: Function, wanted: dict[str, np.ndarray]
) -> None:
    first = Loader(without(function, ready=False))
    load(first, "x")
    finish(first)
    assert function.cache_path is not None
    (weights,) = Path(function.cache_path).glob("ready-*/weights.bin")
    flip(weights)
    second = Loader(without(function, ready=False))
    np.testing.assert_allclose(answers(load(second, "x"), wanted), wanted["y"], atol=1e-4)
    finish(second)
    third = load(Loader(without(function, ready=False, original=False)), "x")
    np.testing.assert_allclose(answers(third, wanted), wanted["y"], rtol=1e-4, atol=1e-4)


def test_a_full_disk_is_said_once_and_costs_time_only(
    function: Function,
    wanted: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "_build", full)
    loader = Loader(function)
    for names in (("e1", "up"), ("d", "up")):
        values = wanted | {"d": wanted["up"] / np.float32(2**0.5)}
        loaded = load(loader, *names)
        np.testing.assert_allclose(answers(loaded, values), wanted["y"], rtol=1e-4, atol=1e-4)
    assert caplog.text.count("No space left on device") == 1


def test_a_version_that_onnx_runtime_will_not_open_ready_starts_from_the_original(
    function: Function,
    wanted: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise ModelError("onnxruntime refuses the model")

    monkeypatch.setattr(Ready, "session", refused)
    loader = Loader(msgspec.structs.replace(function, cache_path=None))
    for names in (("x",), ("m",)):
        np.testing.assert_allclose(answers(load(loader, *names), wanted), wanted["y"], atol=1e-4)
    assert caplog.text.count("ready model refused") == 1


def test_where_it_has_too_little_memory_an_instance_makes_nothing_ready(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "has_room", lambda *_: False)
    loader = Loader(without(function, ready=False))
    load(loader, "x")
    assert loader._making is None


def test_a_graphics_processor_gets_the_original_or_a_sentence(function: Function) -> None:
    on_gpu = msgspec.structs.replace(function, providers=("cuda", "cpu"))
    with pytest.raises(ModelError, match="this onnxruntime has no cuda"):
        load(Loader(on_gpu), "x")


def test_on_a_graphics_processor_an_instance_takes_its_share_of_the_memory(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def opened(model: bytes, providers: Any, **told: Any) -> Any:
        asked.update(told, providers=providers)
        return open_session(model, folder=told["folder"])

    monkeypatch.setattr(loading, "open_on", opened)
    monkeypatch.setenv(gpus.MEMORY, str(16 << 30))
    on_gpu = msgspec.structs.replace(function, providers=("cuda", "cpu"), gpu=0.25)
    loaded = load(Loader(on_gpu), "x")
    assert (asked["providers"], asked["gpu_memory_bytes"]) == (("cuda", "cpu"), 4 << 30)
    assert loaded.piece.run({"x": X})["y"].shape == (1, 64)


def copied(loaded: Loaded, size_bytes: int = 1) -> Copying:
    """How *loaded* would get a copy if it paid."""
    data = loaded.piece._held
    assert data is not None
    return Copying(open=lambda: data.session, size_bytes=size_bytes)


def test_weights_that_are_not_in_memory_are_asked_for(
    function: Function, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, np.ndarray]
) -> None:
    brought: list[Path] = []
    done = threading.Event()

    def bring(weights: Path, mapped: threading.Event) -> None:
        assert mapped.wait(30)
        brought.append(weights)
        done.set()

    monkeypatch.setattr(pages, "is_large", lambda _: True)
    monkeypatch.setattr(pages, "is_cold", lambda _: True)
    monkeypatch.setattr(pages, "_bring", bring)
    load(Loader(function), "x")
    assert done.wait(30)
    weights = function.ready[0].weights
    assert weights is not None
    assert brought == [Path(function.ready[0].folder) / weights.digest]


def test_a_piece_that_is_asked_for_again_gets_a_copy_and_no_other_does(function: Function) -> None:
    paying = msgspec.structs.replace(
        function,
        ready=tuple(msgspec.structs.replace(r, prepacking_pays=True) for r in function.ready),
    )
    loader = Loader(paying)
    whole, tail = load(loader, "x"), load(loader, "gelu")
    assert whole.copying is not None
    assert tail.copying is not None
    before = whole.piece.run({"x": X})["y"]
    mapped = whole.piece._held
    copies = Prepacking()
    assert copies.answered(whole.piece, whole.copying) is None
    copying = copies.answered(whole.piece, whole.copying)
    assert copying is not None
    copying.join(30)
    assert whole.piece._held is not mapped
    np.testing.assert_allclose(whole.piece.run({"x": X})["y"], before, rtol=1e-5, atol=1e-5)
    for _ in range(3):
        assert copies.answered(whole.piece, whole.copying) is None
        assert copies.answered(tail.piece, tail.copying) is None


def test_a_copy_that_does_not_pay_or_has_no_room_is_not_made(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpaying = msgspec.structs.replace(
        function,
        ready=tuple(msgspec.structs.replace(r, prepacking_pays=False) for r in function.ready),
    )
    loaded = load(Loader(unpaying), "x")
    assert loaded.copying is None
    monkeypatch.setattr(prepacking, "has_room", lambda *_: False)
    copies = Prepacking()
    assert [copies.answered(loaded.piece, copied(loaded)) for _ in range(3)] == [None] * 3


def test_a_copy_that_fails_leaves_the_piece_as_it_is(
    function: Function, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise ModelError("std::bad_alloc")

    loaded = load(Loader(function), "x")
    mapped = loaded.piece._held
    copies = Prepacking()
    threads = [copies.answered(loaded.piece, Copying(open=fails, size_bytes=1)) for _ in range(4)]
    (thread,) = [each for each in threads if each is not None]
    thread.join(30)
    assert loaded.piece._held is mapped
    assert caplog.text.count("no prepacked weights: error=std::bad_alloc") == 1


def test_a_folder_that_cannot_be_written_is_none(
    catalog: Catalog, function: Function, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        found = Function.of(
            catalog.manifest("gelu"), catalog, cache=NodeCache(tmp_path / "file" / "cache")
        )
    assert found.cache_path is None
    assert "no cache of versions" in caplog.text
    assert found.ready == function.ready
