"""What ``--evaluate DATA`` may be, and how it is refused."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.dataset import Dataset, read_dataset
from planner.errors import InputError
from planner.model import Model, read


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Two inputs, ``a`` FP32 (1, 2) and ``b`` INT64 (3,)."""
    nodes = [
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Abs", ["b"], ["s"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [
            helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("b", onnx.TensorProto.INT64, [3]),
        ],
        [
            helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("s", onnx.TensorProto.INT64, [3]),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("two") / "two.onnx"
    onnx.save(made, str(path))
    return read(path)


def files(folder: Path, *names: str) -> Path:
    """Each file holds its own name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def contents(dataset: Dataset) -> list[tuple[str, bytes]]:
    return [(name, sample["bytes"][0]) for name, sample in dataset]


def test_files_are_taken_in_the_order_of_their_names(model: Model, tmp_path: Path) -> None:
    """Hidden files are no messages."""
    folder = files(tmp_path, "b.png", "a.png", ".DS_Store", "Thumbs.db")
    dataset = read_dataset(folder, model)
    assert contents(dataset) == [("a.png", b"a.png"), ("b.png", b"b.png")]
    assert (dataset.given, dataset.labels, len(dataset)) == (("bytes",), None, 2)


def test_a_folder_for_each_label_gives_the_labels(model: Model, tmp_path: Path) -> None:
    folder = files(tmp_path, "dog/1.png", "cat/2.png", "cat/1.png", "cat/.hidden", ".git/x")
    dataset = read_dataset(folder, model)
    assert dataset.names == ("cat/1.png", "cat/2.png", "dog/1.png")
    assert dataset.labels == ("cat", "cat", "dog")


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("labels.csv", "file,label\r\nb.png,dog\r\n\r\nsub/a.png, big cat \r\n"),
        ("labels.csv", "\ufeffsub/a.png,big cat\nb.png,dog\n"),
        ("labels.json", json.dumps({"b.png": "dog", "sub/a.png": "big cat"})),
    ],
)
def test_a_labels_file_gives_the_labels(
    model: Model, tmp_path: Path, table: str, text: str
) -> None:
    folder = files(tmp_path, "b.png", "sub/a.png")
    (folder / table).write_text(text)
    dataset = read_dataset(folder, model)
    assert (dataset.names, dataset.labels) == (("b.png", "sub/a.png"), ("dog", "big cat"))


def test_whole_numbers_in_a_json_file_are_labels_too(model: Model, tmp_path: Path) -> None:
    (files(tmp_path, "a.png") / "labels.json").write_text('{"a.png": 967}')
    assert read_dataset(tmp_path, model).labels == ("967",)


@pytest.mark.parametrize(
    ("table", "text", "told"),
    [
        ("labels.csv", "a.png,x\n../secret,y\n", "labels '../secret', which is no file beside it"),
        ("labels.csv", "/etc/passwd,x\n", "labels '/etc/passwd', which is no file beside it"),
        ("labels.json", '{"a.png/../../secret": "x"}', "is no file beside it"),
        ("labels.csv", "a.png,x\na.png,y\n", "labels 'a.png' twice"),
        ("labels.csv", "a.png,x\n", "has no label for 'b.png'"),
        ("labels.csv", "a.png,x\nb.png\n", "row 2, is not of the form file,label"),
        ("labels.csv", "a.png,x\nb.png,\n", "row 2, is not of the form file,label"),
        ("labels.csv", 'a.png,"x\n', "is no CSV in UTF-8"),
        ("labels.json", "[1]", "is not valid"),
        ("labels.json", '{"a.png": 1.5}', "is not valid"),
        ("labels.json", "{", "is not a JSON document"),
    ],
)
def test_labels_that_do_not_fit_the_files_are_refused(
    model: Model, tmp_path: Path, table: str, text: str, told: str
) -> None:
    """No path is made from a name in the file: only files that were found can be named."""
    folder = files(tmp_path / "data", "a.png", "b.png")
    files(tmp_path, "secret")
    (folder / table).write_text(text)
    with pytest.raises(InputError) as refused:
        read_dataset(folder, model)
    assert told in str(refused.value)


def test_labels_in_another_encoding_are_refused(model: Model, tmp_path: Path) -> None:
    (files(tmp_path, "a.png") / "labels.csv").write_bytes(b"a.png,caf\xe9\n")
    with pytest.raises(InputError, match="is no CSV in UTF-8"):
        read_dataset(tmp_path, model)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "holds no files"),
        (("a.png", "cat/b.png"), "holds both files and folders"),
        (("a.png", "labels.csv", "labels.json"), "holds both labels.csv and labels.json"),
        (("labels.csv",), "holds no files"),
    ],
)
def test_a_folder_that_is_not_clear_is_refused(
    model: Model, tmp_path: Path, names: tuple[str, ...], told: str
) -> None:
    folder = files(tmp_path, *names)
    if names == ("labels.csv",):
        (folder / "labels.csv").write_text("file,label\n")
    with pytest.raises(InputError, match=told):
        read_dataset(folder, model)


def test_a_limit_takes_samples_from_everywhere(model: Model, tmp_path: Path) -> None:
    """Not the first ones: they would all have the first label."""
    folder = files(tmp_path, *(f"{label}/{n}.png" for label in "abc" for n in range(4)))
    assert read_dataset(folder, model, limit=3).labels == ("a", "b", "c")
    assert len(read_dataset(folder, model, limit=99)) == 12
    with pytest.raises(InputError, match="take at least 1"):
        read_dataset(folder, model, limit=0)


@pytest.mark.parametrize("name", ["nothing", "one.png", "text.npz/x"])
def test_a_path_that_is_no_data_is_refused(model: Model, tmp_path: Path, name: str) -> None:
    files(tmp_path, "one.png")
    with pytest.raises(InputError, match=r"does not exist|neither a folder nor an \.npz"):
        read_dataset(tmp_path / name, model)


def test_files_are_read_when_they_are_used(model: Model, tmp_path: Path) -> None:
    """Memory stays bounded, and an unreadable file is named then."""
    dataset = read_dataset(files(tmp_path, "a.png", "b.png"), model)
    (tmp_path / "b.png").unlink()
    assert dataset.samples[0]["bytes"].tolist() == [b"a.png"]
    with pytest.raises(InputError, match=r"b\.png cannot be read: No such file"):
        dataset.samples[1]


def test_a_pipe_is_no_message(model: Model, tmp_path: Path) -> None:
    """Opening one would wait for ever."""
    os.mkfifo(files(tmp_path, "a.png") / "pipe")
    assert read_dataset(tmp_path, model).names == ("a.png",)


def test_a_folder_is_refused_for_a_model_that_takes_arrays(arrays: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"takes arrays \(a, b\), no files"):
        read_dataset(files(tmp_path, "a.png"), arrays)


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A message of two numbers, and a state ``b`` beside it."""
    folder = tmp_path_factory.mktemp("recurrent")
    nodes = [helper.make_node("Add", ["a", "b"], ["r"])]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "state",
        [info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "ab"],
        [info("r", onnx.TensorProto.FLOAT, [1, 2])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, str(folder / "state.onnx"))
    before = [{"step": "decode_array", "datatype": "FP32", "shape": [1, 2]}]
    steps = {"schema": "isthmus.steps/1", "input": "a", "before": before}
    (folder / "steps.json").write_text(json.dumps(steps))
    return read(folder / "state.onnx", steps=folder / "steps.json")


def test_what_a_model_takes_besides_the_message_is_the_same_for_every_sample(
    recurrent: Model, tmp_path: Path
) -> None:
    state = np.array([[1.0, 2.0]], np.float32)
    np.savez(files(tmp_path, "a", "b") / "inputs.npz", allow_pickle=False, b=state)
    dataset = read_dataset(tmp_path, recurrent)
    assert (dataset.given, dataset.names) == (("bytes", "b"), ("a", "b"))
    assert [sample["b"].tolist() for _, sample in dataset] == [[[1.0, 2.0]]] * 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "the model also takes b: save them with numpy.savez as .*inputs.npz"),
        ({"c": np.zeros((1, 2), np.float32)}, r"inputs\.npz holds c: it must hold b"),
        ({"b": np.zeros((1, 2))}, "b is FP64: it must be FP32"),
        ({"b": np.zeros(2, np.float32)}, r"b has shape \[2\]: it must be \[1, 2\]"),
    ],
)
def test_other_inputs_that_are_missing_or_wrong_are_refused(
    recurrent: Model, tmp_path: Path, given: dict[str, np.ndarray] | None, told: str
) -> None:
    files(tmp_path, "a")
    if given is not None:
        np.savez(tmp_path / "inputs.npz", allow_pickle=False, **given)
    with pytest.raises(InputError, match=told):
        read_dataset(tmp_path, recurrent)


def stacked(count: int = 5) -> dict[str, np.ndarray]:
    return {
        "a": np.arange(count * 2, dtype=np.float32).reshape(count, 2),
        "b": np.arange(count * 3, dtype=np.int64).reshape(count, 3),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_sample_by_sample(
    arrays: Model, tmp_path: Path, save: Callable[..., None], order: Literal["C", "F"]
) -> None:
    """The batch of one is put back where the samples' axis took its place."""
    path, given = tmp_path / "data.npz", stacked()
    save(path, **{name: np.asarray(value, order=order) for name, value in given.items()})
    dataset = read_dataset(path, arrays)
    assert (dataset.names[1], dataset.given) == ("data.npz[1]", ("a", "b"))
    for at, (_, sample) in enumerate(dataset):
        assert sample["a"].tolist() == [given["a"][at].tolist()]
        assert sample["b"].tolist() == given["b"][at].tolist()


def test_a_batch_axis_of_its_own_is_taken_as_it_is(arrays: Model, tmp_path: Path) -> None:
    given = stacked() | {"labels": np.arange(5), "a": stacked()["a"][:, None]}
    np.savez(tmp_path / "data.npz", allow_pickle=False, **given)
    dataset = read_dataset(tmp_path / "data.npz", arrays, limit=2)
    assert (dataset.names, dataset.labels) == (("data.npz[0]", "data.npz[2]"), ("0", "2"))
    assert dataset.samples[1]["a"].tolist() == [[4.0, 5.0]]


def test_uncompressed_arrays_are_mapped_and_not_read(arrays: Model, tmp_path: Path) -> None:
    """So a file may be larger than the memory."""
    np.savez(tmp_path / "data.npz", allow_pickle=False, **stacked())
    dataset = read_dataset(tmp_path / "data.npz", arrays)
    held = dataset.samples._arrays["a"]  # type: ignore[attr-defined]  # how it is held is the point
    assert isinstance(held, np.memmap)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"a": None}, "holds b: it must hold a, b"),
        ({"c": np.zeros(5)}, "holds a, b, c: it must hold a, b"),
        ({"a": np.zeros((5, 2))}, "a is FP64: it must be FP32"),
        ({"a": np.zeros((5, 3), np.float32)}, r"has shape \[5, 3\]: it must be the number"),
        ({"a": np.float32(1)}, r"has shape \[\]: it must be the number"),
        ({"a": np.zeros((4, 2), np.float32)}, "different numbers of samples"),
        ({"labels": np.zeros(4, np.int64)}, r"different numbers of samples \(a 5, b 5, labels 4\)"),
        ({"labels": np.zeros((5, 1), np.int64)}, "labels must be one row"),
        ({"labels": np.zeros(5)}, "labels must be one row"),
        ({"a": np.zeros((0, 2), np.float32), "b": np.zeros((0, 3), np.int64)}, "no samples"),
        ({"a": np.zeros((5, 2), np.complex64)}, "no wire datatype"),
    ],
)
def test_arrays_that_do_not_fit_the_model_are_refused(
    arrays: Model, tmp_path: Path, changes: dict[str, np.ndarray | None], told: str
) -> None:
    given = {k: v for k, v in (stacked() | changes).items() if v is not None}
    np.savez(tmp_path / "data.npz", allow_pickle=False, **given)
    with pytest.raises(InputError, match=told):
        read_dataset(tmp_path / "data.npz", arrays)


def test_objects_in_an_npz_are_refused_unread(arrays: Model, tmp_path: Path) -> None:
    """They are pickles."""
    given = stacked() | {"labels": np.array(["a"] * 5, dtype=object)}
    np.savez(tmp_path / "data.npz", allow_pickle=True, **given)
    with pytest.raises(InputError, match="holds objects: save numbers or plain text"):
        read_dataset(tmp_path / "data.npz", arrays)


def an_npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"no zip at all",
        b"PK\x03\x04 only its beginning",
        {"a.npy": b"no npy"},
        {"a.npy": an_npy(stacked()["a"])[:-4]},
        {"a.npy": an_npy(stacked()["a"]).replace(b"(5, 2)", b"(9, 9)")},
        {"a.npy": an_npy(stacked()["a"]).replace(b"(5, 2)", b"(-5,2")},
    ],
)
def test_a_file_that_is_broken_is_refused_in_a_sentence(
    arrays: Model, tmp_path: Path, content: bytes | dict[str, bytes]
) -> None:
    path = tmp_path / "data.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    with pytest.raises(InputError, match=r"data\.npz is no \.npz that can be read: "):
        read_dataset(path, arrays)


def test_a_compressed_array_that_is_large_is_refused_unpacked(
    arrays: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes can claim any size."""
    monkeypatch.setattr("planner.dataset.stacked.MAX_UNPACKED_BYTES", 39)
    np.savez_compressed(tmp_path / "data.npz", allow_pickle=False, **stacked())
    with pytest.raises(InputError, match=r"unpacks to 40 bytes: save it with numpy\.savez"):
        read_dataset(tmp_path / "data.npz", arrays)


def test_the_digest_is_of_what_the_samples_hold(model: Model, tmp_path: Path) -> None:
    """The same content elsewhere is the same data; another label or byte is not."""

    def digest(folder: str, content: bytes, label: str) -> str:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(content)
        (tmp_path / folder / "labels.csv").write_text(f"a.png,{label}\n")
        return read_dataset(tmp_path / folder, model).digest()

    first = digest("one", b"x", "cat")
    assert digest("two", b"x", "cat") == first
    assert len({first, digest("three", b"y", "cat"), digest("four", b"x", "dog")}) == 3
