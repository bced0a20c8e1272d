"""Large models: weights that nobody loads, one file of them for all pieces, kept between reads."""

import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import planner
from planner import normal, source, store
from planner.errors import ModelError
from planner.memo import Memo, sha256_of
from planner.model import Model, read, sample_inputs
from planner.outline import NoMessage, outline
from planner.store import Kept, Store
from planner.verify import Whole

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 64
LAYERS = 4


@pytest.fixture(autouse=True)
def few_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that models of 70 kB go the way of large ones."""
    monkeypatch.setattr(source, "EXTERNAL_FROM_BYTES", 4096)


def a_large_model(*, constants: bool = False, seed: int = 0) -> onnx.ModelProto:
    """Four layers of Gemm and Relu, with the weights as initializers or in ``Constant`` nodes."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], []
    for layer in range(LAYERS):
        weight = numpy_helper.from_array(
            rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 8, f"w{layer}"
        )
        if constants:
            nodes.append(helper.make_node("Constant", [], [f"w{layer}"], value=weight))
        else:
            weights.append(weight)
        before = f"r{layer - 1}" if layer else "x"
        nodes.append(helper.make_node("Gemm", [before, f"w{layer}"], [f"g{layer}"]))
        nodes.append(helper.make_node("Relu", [f"g{layer}"], [f"r{layer}"]))
    x, y = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, WIDTH])
        for name in ("x", f"r{LAYERS - 1}")
    )
    graph = helper.make_graph(nodes, "mlp", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save_beside(proto: onnx.ModelProto, path: Path) -> None:
    """With the weights in ``mlp.data``."""
    onnx.save(proto, str(path), save_as_external_data=True, location="mlp.data", size_threshold=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(a_large_model(), str(tmp_path / "mlp.onnx"))
    return tmp_path / "mlp.onnx"


@pytest.fixture
def kept_in(tmp_path: Path) -> Path:
    return tmp_path / "normal"


def answers(path: Path, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of the file itself, by ONNX Runtime alone."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(inputs))
    return np.asarray(found)


def is_right(model: Model, path: Path) -> bool:
    """Whether head and tail at every Relu say what the file says."""
    inputs = sample_inputs(model)
    want = answers(path, inputs)
    whole = Whole(path, model, inputs)
    for layer in range(LAYERS - 1):
        crossing = [f"r{layer}"]
        got = model.tail(crossing).run(model.head(crossing).run(inputs))
        if not np.allclose(got[model.answers[0]], want, atol=1e-6):
            return False
        if not whole.against(*model.split(crossing)).holds:
            return False
    return True


def entries(kept_in: Path) -> list[Path]:
    return [path for path in kept_in.iterdir() if (path / "index.json").exists()]


def weights_of(model: Model) -> Path:
    assert model.weights is not None
    return model.weights.path


def no_fold(*_: object) -> onnx.ModelProto:
    raise AssertionError("the model was folded again")


@pytest.mark.parametrize("form", ["initializers", "constant-nodes"])
def test_pieces_hold_no_weights_and_equal_the_whole(
    tmp_path: Path, kept_in: Path, form: str
) -> None:
    path = tmp_path / "mlp.onnx"
    onnx.save(a_large_model(constants=form == "constant-nodes"), str(path))
    model = read(path, kept_in=kept_in)
    assert is_right(model, path)
    every = [model.proto, *model.split(["r0"]), *model.split(["r2"])]
    assert all(proto.ByteSize() < 2000 for proto in every)
    assert weights_of(model).stat().st_size >= LAYERS * WIDTH * WIDTH * 4


def test_a_model_with_weights_in_files_beside_it(tmp_path: Path, kept_in: Path) -> None:
    path = tmp_path / "mlp.onnx"
    save_beside(a_large_model(), path)
    model = read(path, kept_in=kept_in)
    assert is_right(model, path)
    data = (tmp_path / "mlp.data").read_bytes()
    (tmp_path / "mlp.data").write_bytes(data[:-100])
    with pytest.raises(ModelError, match="in a file beside it that is truncated"):
        read(path, kept_in=kept_in)
    (tmp_path / "mlp.data").unlink()
    with pytest.raises(ModelError, match=r"cannot be read: 'mlp\.data' is no file there"):
        read(path, kept_in=kept_in)


def test_weights_outside_the_models_folder_are_refused(tmp_path: Path, kept_in: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = folder / "mlp.onnx"
    save_beside(a_large_model(), path)
    (folder / "mlp.data").rename(tmp_path / "mlp.data")
    proto = onnx.load(str(path), load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = "../mlp.data"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="is no file there"):
        read(path, kept_in=kept_in)


@pytest.mark.parametrize("form", ["initializers", "constant-nodes", "outside"])
def test_the_digest_does_not_tell_how_the_model_was_read(
    tmp_path: Path, kept_in: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Plans and registries refer to it: SHA-256 of the file and of each initializer's bytes."""
    path = tmp_path / "mlp.onnx"
    proto = a_large_model(constants=form == "constant-nodes")
    if form == "outside":
        save_beside(proto, path)
    else:
        onnx.save(proto, str(path))
    large = read(path, kept_in=kept_in)
    monkeypatch.setattr(source, "EXTERNAL_FROM_BYTES", 2**20)
    small = read(path, kept_in=kept_in)
    assert (large.weights is None, small.weights) == (False, None)
    assert large.digest == small.digest
    assert large.graph == small.graph


def test_an_unchanged_model_is_folded_once(
    path: Path, kept_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(path, kept_in=kept_in)
    monkeypatch.setattr(normal, "fold", no_fold)
    again = read(path, kept_in=kept_in)
    assert again == first
    assert is_right(again, path)


def test_a_changed_model_is_folded_again(path: Path, kept_in: Path) -> None:
    first = read(path, kept_in=kept_in)
    onnx.save(a_large_model(seed=1), str(path))
    other = read(path, kept_in=kept_in)
    assert other.digest != first.digest
    assert is_right(other, path)
    assert len(entries(kept_in)) == 2


def test_other_dims_make_another_normal_form(tmp_path: Path, kept_in: Path) -> None:
    proto = a_large_model()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    path = tmp_path / "mlp.onnx"
    onnx.save(proto, str(path))
    models = [read(path, dims={"batch": size}, kept_in=kept_in) for size in (1, 3)]
    assert [model.graph.info("r1").shape for model in models] == [(1, WIDTH), (3, WIDTH)]
    assert models[0].digest == models[1].digest


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.chmod(0o644)
    path.write_bytes(data)


def _cut_short(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [_flip, _cut_short, Path.unlink], ids=["flip", "cut", "gone"])
@pytest.mark.parametrize("which", ["weights", "model.onnx", "values.json", "index.json"])
def test_a_damaged_entry_is_made_again(
    path: Path, kept_in: Path, which: str, damage: Callable[[Path], None]
) -> None:
    first = read(path, kept_in=kept_in)
    victim = weights_of(first) if which == "weights" else weights_of(first).parent / which
    want = {p.name: sha256_of(p) for p in victim.parent.iterdir()}
    damage(victim)
    assert is_right(read(path, kept_in=kept_in), path)
    assert {p.name: sha256_of(p) for p in victim.parent.iterdir()} == want


def test_a_file_cut_short_is_named(path: Path, kept_in: Path) -> None:
    os.truncate(path, path.stat().st_size - 5000)
    with pytest.raises(ModelError, match="is no ONNX model or is truncated"):
        read(path, kept_in=kept_in)
    path.write_bytes(b"no protobuf at all" * 1000)
    with pytest.raises(ModelError, match="is no ONNX model or is truncated"):
        read(path, kept_in=kept_in)


def test_every_truncation_of_an_outline_is_noticed(path: Path) -> None:
    """Or leaves a shorter message that still is one; never anything else."""
    data = path.read_bytes()
    whole = outline(path, least_bytes=1024).proto
    for size in range(1, len(data), 997):
        path.write_bytes(data[:size])
        try:
            part = outline(path, least_bytes=1024).proto
        except NoMessage:
            continue
        assert part != whole


def test_two_processes_make_one_entry(path: Path, kept_in: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from planner import read, source;"
        "source.EXTERNAL_FROM_BYTES = 4096;"
        "model = read(Path(sys.argv[1]), kept_in=Path(sys.argv[2])); print(model.weights.path)"
    )
    words = [sys.executable, "-c", code, str(path), str(kept_in)]
    running = [
        subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=60) for process in running]
    assert [(process.returncode, err) for process, (_, err) in zip(running, said, strict=True)] == [
        (0, "")
    ] * 3
    assert len({out for out, _ in said}) == 1
    assert len(entries(kept_in)) == 1
    assert [p.name for p in kept_in.iterdir() if p.name.startswith(".")] == []


def test_a_folder_that_cannot_be_written_is_replaced_by_one_of_our_own(
    path: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    model = read(path, kept_in=tmp_path / "file" / "normal")
    assert is_right(model, path)
    folder = weights_of(model).parent
    del model
    gc.collect()
    assert not folder.exists()


def test_a_full_disk_is_said_in_one_sentence(
    path: Path, kept_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ModelError, match="normal form cannot be written: no room for 0 MB"):
        read(path, kept_in=kept_in)


def an_entry(folder: Path) -> dict[str, str]:
    (folder / "data").write_bytes(bytes(1000))
    return {}


def test_the_store_is_bounded_and_what_was_unused_longest_goes_first(tmp_path: Path) -> None:
    small = Store(tmp_path, most_bytes=4000)
    for age_s, key in ((30, "a"), (20, "b"), (10, "c")):
        small.get(key, an_entry)
        at = time.time() - age_s
        os.utime(tmp_path / key, (at, at))
    gc.collect()
    assert [path.name for path in sorted(entries(tmp_path))] == ["a", "b", "c"]
    small.get("a", an_entry)  # used again, so b is the oldest
    small.get("d", an_entry)
    gc.collect()
    assert [path.name for path in sorted(entries(tmp_path))] == ["a", "c", "d"]


def test_an_entry_that_somebody_holds_stays(tmp_path: Path) -> None:
    tight = Store(tmp_path, most_bytes=1)
    held: list[Kept] = [tight.get("a", an_entry)]
    tight.get("b", an_entry)
    gc.collect()
    assert sorted(path.name for path in entries(tmp_path)) == ["a", "b"]
    held.clear()
    gc.collect()
    tight.get("c", an_entry)
    assert sorted(path.name for path in entries(tmp_path)) == ["c"]


def test_what_a_killed_builder_left_goes_after_a_day(tmp_path: Path) -> None:
    for name, age_s in ((".building-old", 2 * store.ABANDONED_S), (".building-new", 60.0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    Store(tmp_path).get("a", an_entry)
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert left == [".building-new"]


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file, memo = tmp_path / "f", Memo(tmp_path / "digests")
    file.write_bytes(b"one")
    memo.remember([file], "d1")
    assert memo.recall([file]) is None  # it may still be being written
    os.utime(file, (time.time() - 60,) * 2)
    memo.remember([file], "d1")
    assert memo.recall([file]) == "d1"
    file.write_bytes(b"two")
    assert memo.recall([file]) is None
    file.unlink()
    memo.forget_missing()
    assert list((tmp_path / "digests").iterdir()) == []


def run_files(head: Path, tail: Path, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    values = dict(inputs)
    for path in (head, tail):
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        feeds = {i.name: values[i.name] for i in session.get_inputs()}
        names = [output.name for output in session.get_outputs()]
        values |= dict(zip(names, session.run(names, feeds), strict=True))
    return values[names[0]]


def test_split_links_the_weights_once_for_any_number_of_cuts(
    path: Path, kept_in: Path, tmp_path: Path
) -> None:
    model, folder = read(path, kept_in=kept_in), tmp_path / "pieces"
    inputs = sample_inputs(model)
    for layer in range(LAYERS - 1):
        written = planner.split(model, [f"r{layer}"], folder)
        assert written.weights is not None
        assert written.weights.samefile(weights_of(model))
        assert written.copied_bytes == 0
        assert {p.name for p in folder.iterdir()} == {
            "head.onnx",
            "tail.onnx",
            weights_of(model).name,
        }
        got = run_files(written.head, written.tail, inputs)
        assert np.allclose(got, answers(path, inputs), atol=1e-6)


def test_split_copies_where_it_cannot_link_and_checks_what_is_there(
    path: Path, kept_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    model, folder = read(path, kept_in=kept_in), tmp_path / "pieces"
    size = weights_of(model).stat().st_size
    assert planner.split(model, ["r0"], folder).copied_bytes == size
    assert planner.split(model, ["r1"], folder).copied_bytes == 0
    _flip(folder / weights_of(model).name)
    written = planner.split(model, ["r1"], folder)
    assert written.copied_bytes == size
    inputs = sample_inputs(model)
    got = run_files(written.head, written.tail, inputs)
    assert np.allclose(got, answers(path, inputs), atol=1e-6)


def test_a_small_models_pieces_hold_their_weights(
    path: Path, kept_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "EXTERNAL_FROM_BYTES", 2**20)
    written = planner.split(read(path, kept_in=kept_in), ["r1"], tmp_path / "pieces")
    assert (written.weights, written.copied_bytes) == (None, 0)
    assert not kept_in.exists()


@pytest.mark.skipif(
    "ISTHMUS_SLOW" not in os.environ, reason="slow: writes 2.3 GB of weights; set ISTHMUS_SLOW=1"
)
@pytest.mark.timeout(600)
def test_a_model_above_two_gigabytes(tmp_path: Path, kept_in: Path) -> None:
    """Its weights are a file of zeros that takes no room, until the normal form is written."""
    wide, layers = 12_000, 4
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", [f"h{i}" if i else "x", f"w{i}"], [f"h{i + 1}"])
            for i in range(layers)
        ],
        "wide",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, wide])],
        [helper.make_tensor_value_info(f"h{layers}", onnx.TensorProto.FLOAT, [1, wide])],
    )
    for index in range(layers):
        tensor = graph.initializer.add(name=f"w{index}", data_type=1, dims=[wide, wide])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        size = wide * wide * 4
        for key, text in (("location", "wide.data"), ("offset", index * size), ("length", size)):
            tensor.external_data.add(key=key, value=str(text))
    with (tmp_path / "wide.data").open("wb") as file:
        file.truncate(layers * wide * wide * 4)
    onnx.save(helper.make_model(graph, ir_version=8), str(tmp_path / "wide.onnx"))
    model = read(tmp_path / "wide.onnx", kept_in=kept_in)
    written = planner.split(model, ["h2"], tmp_path / "pieces")
    assert weights_of(model).stat().st_size > 2**31
    assert written.copied_bytes == 0
    inputs = sample_inputs(model)
    found = Whole(tmp_path / "wide.onnx", model, inputs).against(
        written.head_proto, written.tail_proto
    )
    assert found.holds
