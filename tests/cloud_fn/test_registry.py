"""Publishing, and finding again what was published."""

import io
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from cloud_fn.errors import RegistryError, UnknownModel
from cloud_fn.functions import Function
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.registry.manifest import TensorSpec
from cloud_fn.registry.push import push
from planner.model import read


def files_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_push_publishes_version_1_and_the_next_one_version_2(
    catalog: Catalog, mlp: Callable[..., Path]
) -> None:
    pushed = [push(catalog, mlp(seed=seed), name="m") for seed in (0, 1)]
    assert [(manifest.version, new) for manifest, new in pushed] == [(1, True), (2, True)]
    assert catalog.names() == ("m",)
    assert catalog.versions("m") == (1, 2)
    assert catalog.manifest("m") == pushed[1][0]
    assert catalog.manifest("m", "1") == pushed[0][0]
    assert Catalog(catalog.root).manifests() == (pushed[0][0], pushed[1][0])


@pytest.mark.parametrize("age_s", [0, 3600])
def test_a_version_that_another_process_adds_is_there_at_the_next_look(
    catalog: Catalog, published: dict[str, Manifest], age_s: float
) -> None:
    folder = catalog.root / "models" / "mlp"
    made_ns = time.time_ns() - int(age_s * 1e9)
    os.utime(folder, ns=(made_ns, made_ns))
    assert catalog.versions("mlp") == (1,)
    assert catalog.versions("mlp") == (1,)
    (folder / "2.json").write_bytes((folder / "1.json").read_bytes())
    if not age_s:  # within the same tick of the folder's clock
        os.utime(folder, ns=(made_ns, made_ns))
    assert catalog.versions("mlp") == (1, 2)


def test_identical_content_pushed_again_is_the_version_it_was(
    catalog: Catalog, mlp: Callable[..., Path]
) -> None:
    first, _ = push(catalog, mlp("mlp.onnx"))
    before = files_below(catalog.root)
    assert push(catalog, mlp("copy.onnx"), name="mlp") == (first, False)
    assert files_below(catalog.root) == before


def test_a_manifest_says_what_the_version_takes_and_gives(published: dict[str, Manifest]) -> None:
    interface = published["colours"].interface
    assert interface.inputs == (TensorSpec(name="x", datatype="FP32", shape=(1, 3, 2, 2)),)
    assert interface.outputs == (TensorSpec(name="y", datatype="FP32", shape=(1, 3)),)
    assert interface.source == (TensorSpec(name="bytes", datatype="BYTES", shape=(1,)),)
    assert [spec.name for spec in interface.answers] == ["label", "score"]


def test_a_manifest_names_the_digest_that_a_plan_names(
    published: dict[str, Manifest], colours: tuple[Path, Path]
) -> None:
    model, steps = colours
    assert published["colours"].digest == read(model, steps=steps).digest


def test_files_are_stored_once_under_their_digest_and_cannot_be_written(
    catalog: Catalog, published: dict[str, Manifest]
) -> None:
    stored = {file.digest for each in published.values() for file in each.content.files}
    made = [variant for each in published.values() for variant in catalog.variants(each)]
    stored |= {file.digest for variant in made for file in variant.files}
    blobs = catalog.root / "blobs" / "sha256"
    assert {path.name for path in blobs.iterdir()} == stored
    assert {path.stat().st_mode & 0o777 for path in blobs.iterdir()} == {0o444}


def test_weights_in_other_files_come_along_and_are_found_again(
    catalog: Catalog, mlp: Callable[..., Path]
) -> None:
    path = mlp(external=True)
    expected = read(path).piece(["x"]).run({"x": np.ones((1, 4), np.float32)})
    manifest, _ = push(catalog, path)
    path.unlink()
    path.with_name("mlp.weights").unlink()
    assert [file.name for file in manifest.content.data] == ["mlp.weights"]
    stored = read(catalog.blobs.path(manifest.content.model))
    made = stored.piece(["x"]).run({"x": np.ones((1, 4), np.float32)})
    assert made["y"].tolist() == expected["y"].tolist()


def test_a_model_whose_weights_lie_elsewhere_is_refused(
    catalog: Catalog, mlp: Callable[..., Path], tmp_path: Path
) -> None:
    path = mlp(external=True)
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret"
    (tmp_path.parent / "secret").write_bytes(b"0" * 4096)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RegistryError, match="they must be in files beside the model"):
        push(catalog, path)


def test_a_broken_model_is_refused_in_a_sentence_and_nothing_stays(
    catalog: Catalog, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(RegistryError) as caught:
        push(catalog, broken)
    assert str(caught.value) == (
        f"{broken} is no ONNX model or is truncated (8 bytes): export or copy it again"
    )
    assert files_below(catalog.root) == set()
    assert catalog.names() == ()


def test_steps_that_do_not_fit_are_refused_and_nothing_stays(
    catalog: Catalog, mlp: Callable[..., Path], tmp_path: Path
) -> None:
    steps = tmp_path / "steps.json"
    steps.write_text('{"schema": "isthmus.steps/1", "input": "q", "before": [{"step": "decode"}]}')
    with pytest.raises(RegistryError, match="steps feed the input 'q'"):
        push(catalog, mlp(), steps=steps)
    assert files_below(catalog.root) == set()


def with_labels(steps: Path, labels: str, data: bytes = b"red\ngreen\nblue\n") -> Path:
    """*steps*, with the labels of its answer in a file beside it."""
    document = json.loads(steps.read_text())
    document["after"][0] |= {"labels": None, "labels_file": labels}
    steps.write_text(json.dumps(document))
    (steps.parent / "lists").mkdir(exist_ok=True)
    (steps.parent / "lists" / "colours.txt").write_bytes(data)
    return steps


def test_files_that_the_steps_name_come_along_and_are_found_again(
    catalog: Catalog, colours: tuple[Path, Path]
) -> None:
    model, steps = colours
    with_labels(steps, "lists/colours.txt")
    digest = read(model, steps=steps).digest
    manifest, _ = push(catalog, model, steps=steps)
    assert [file.name for file in manifest.content.beside] == ["lists/colours.txt"]
    steps.unlink()
    (steps.parent / "lists" / "colours.txt").unlink()
    function = Function.of(manifest, catalog)
    stored = read(Path(function.model_path), steps=Path(str(function.steps_path)))
    assert stored.digest == digest == manifest.digest
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), (0, 200, 0)).save(picture, "PNG")
    made = stored.whole().run({"bytes": np.array([picture.getvalue()], np.object_)})
    assert made["label"].tolist() == [b"green"]


def test_other_contents_of_such_a_file_make_another_version(
    catalog: Catalog, colours: tuple[Path, Path]
) -> None:
    model, steps = colours
    with_labels(steps, "lists/colours.txt")
    first, _ = push(catalog, model, steps=steps)
    assert push(catalog, model, steps=steps) == (first, False)
    with_labels(steps, "lists/colours.txt", b"rot\ngruen\nblau\n")
    second, _ = push(catalog, model, steps=steps)
    assert (first.version, second.version) == (1, 2)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ("/etc/hostname", "must lie in the steps file's own folder"),
        ("../secret.txt", "must lie in the steps file's own folder"),
        ("lists/none.txt", "which is no file: put it there"),
        ("lists/broken.txt", "names lists/broken.txt, which is no UTF-8 text"),
    ],
)
def test_such_a_file_that_cannot_be_used_is_refused_and_nothing_stays(
    catalog: Catalog, colours: tuple[Path, Path], labels: str, says: str
) -> None:
    model, steps = colours
    with_labels(steps, labels)
    (steps.parent / "lists" / "broken.txt").write_bytes(b"\xff")
    (steps.parent.parent / "secret.txt").write_bytes(b"a\n")
    with pytest.raises(RegistryError, match=says):
        push(catalog, model, steps=steps)
    assert files_below(catalog.root) == set()


def test_a_model_that_is_not_there_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="cannot be read: No such file or directory"):
        push(catalog, tmp_path / "none.onnx")


def test_a_registry_that_cannot_be_written_says_so(
    mlp: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="cannot be written"):
        push(Catalog(tmp_path / "file"), mlp())


@pytest.mark.parametrize(
    ("name", "version", "sentence"),
    [
        ("nope", "", "there is no model 'nope': the registry has colours, mlp"),
        ("../mlp", "", "there is no model '../mlp': the registry has colours, mlp"),
        ("mlp", "2", "model mlp has no version '2': it has 1"),
        ("mlp", "../1", "model mlp has no version '../1': it has 1"),
    ],
)
def test_what_is_not_there_is_said_to_be_unknown(
    catalog: Catalog, published: dict[str, Manifest], name: str, version: str, sentence: str
) -> None:
    with pytest.raises(UnknownModel) as caught:
        catalog.manifest(name, version)
    assert str(caught.value) == sentence


def test_a_push_that_was_killed_half_way_is_invisible(
    catalog: Catalog, published: dict[str, Manifest]
) -> None:
    """Only a whole manifest under its final name is a version."""
    folder = catalog.root / "models" / "mlp"
    (folder / ".new-abc").write_bytes(b'{"schema": "isthmus.mani')
    (catalog.root / "models" / "half").mkdir()
    assert catalog.versions("mlp") == (1,)
    assert catalog.names() == ("colours", "mlp")


def test_a_stored_file_that_was_tampered_with_is_noticed(
    catalog: Catalog, published: dict[str, Manifest]
) -> None:
    path = catalog.blobs.path(published["mlp"].content.model)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(RegistryError, match=r"has 5 bytes in place of \d+"):
        catalog.blobs.path(published["mlp"].content.model)


def test_a_manifest_that_is_damaged_is_an_error_in_a_sentence(
    catalog: Catalog, published: dict[str, Manifest]
) -> None:
    (catalog.root / "models" / "mlp" / "1.json").write_text("{}")
    with pytest.raises(RegistryError, match=r"is not valid: .* missing required field"):
        Catalog(catalog.root).manifest("mlp")


def test_pushes_at_the_same_time_each_get_a_number_of_their_own(
    catalog: Catalog, mlp: Callable[..., Path]
) -> None:
    """Two of the four are identical, and share one. The lock is a file's: processes are as good."""
    models = [mlp(f"{n}.onnx", seed=seed) for n, seed in enumerate((1, 2, 3, 3))]
    start = threading.Barrier(len(models))

    def push_one(model: Path) -> int:
        start.wait(10)
        return push(Catalog(catalog.root), model, name="m")[0].version

    with ThreadPoolExecutor(len(models)) as pushers:
        versions = list(pushers.map(push_one, models))
    assert sorted(set(versions)) == [1, 2, 3]
    assert versions[2] == versions[3]
    assert catalog.versions("m") == (1, 2, 3)
    assert list((catalog.root / "staging").iterdir()) == []
