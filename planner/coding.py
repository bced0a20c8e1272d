"""What codecs do to a model's tensors: the bytes they write, and the time they take."""

from collections.abc import Callable, Mapping

import numpy as np

from planner.graph import Graph
from planner.profiles import CodecRate, TensorSize
from planner.timing import timed
from protos import codecs
from protos.errors import WireError

LOSSLESS = ("raw", "raw+zstd")
LOSSY = ("fp16", "fp16+zstd", "int8", "int8+zstd")
IMAGE = ("jpeg:75", "jpeg:90", "jpeg:95", "jpeg:98", "webp:75", "webp:90")
REPEATS = 5
LARGE_BYTES = 200_000
"""A codec's time per byte is taken from the smallest tensor and one of at least this size."""


def coded_sizes(
    graph: Graph, values: Mapping[str, np.ndarray], said: Callable[[float], None]
) -> tuple[TensorSize, ...]:
    """The bytes of each tensor that may cross, as each codec writes its value.

    *said* is told the share that is done, 0 to 1.
    """
    out = []
    names = list(dict.fromkeys((*graph.consumers, *graph.answers)))
    for at, name in enumerate(names):
        said(at / len(names))
        value = values.get(name)
        if value is None or not graph.info(name).crosses:
            continue
        coded = {}
        # A sensor's message is an image or sound file as a rule: compressed already.
        tried = ("raw",) if value.dtype == np.object_ else (*LOSSLESS, *LOSSY, *IMAGE)
        for text in tried:
            codec = codecs.parse(text)
            if codecs.suits(codec, graph.info(name).datatype, value.shape):
                try:
                    coded[text] = len(codecs.encode(codec, value))
                except WireError:
                    continue  # it holds values that this codec cannot write
        out.append(TensorSize(name=name, raw_bytes=coded["raw"], coded_bytes=coded))
    return tuple(out)


def codec_times(values: Mapping[str, np.ndarray]) -> tuple[CodecRate, ...]:
    """A line through two sizes for each codec, on the model's own tensors."""
    floats = sorted(
        (v for v in values.values() if v.dtype == np.float32 and v.size), key=lambda v: v.nbytes
    )
    images = [v for v in values.values() if v.dtype == np.uint8 and v.ndim == 3]
    out = []
    for text in (*LOSSLESS, *LOSSY, *IMAGE):
        codec = codecs.parse(text)
        pool = images if text in IMAGE else floats
        pool = [value for value in pool if _writes(codec, value)]
        if not pool:
            continue  # no tensor of this model suits it
        large = next((v for v in pool if v.nbytes >= LARGE_BYTES), pool[-1])
        fits = [(value.nbytes, *_both_ways(codec, value)) for value in (pool[0], large)]
        (small_n, small_e, small_d), (large_n, large_e, large_d) = fits
        encode = _line(small_n, small_e, large_n, large_e)
        decode = _line(small_n, small_d, large_n, large_d)
        out.append(
            CodecRate(
                codec=text,
                encode_fixed_s=encode[0],
                encode_per_byte_s=encode[1],
                decode_fixed_s=decode[0],
                decode_per_byte_s=decode[1],
            )
        )
    return tuple(out)


def _writes(codec: codecs.Codec, value: np.ndarray) -> bool:
    """Whether *codec* can hold the values: fp16 not those beyond 65504, int8 no NaN."""
    try:
        codecs.encode(codec, value)
    except WireError:
        return False
    return True


def _both_ways(codec: codecs.Codec, value: np.ndarray) -> tuple[float, float]:
    datatype = "UINT8" if value.dtype == np.uint8 else "FP32"
    data = codecs.encode(codec, value)
    encode = [timed(lambda: codecs.encode(codec, value)) for _ in range(REPEATS)]
    decode = [
        timed(lambda: codecs.decode(codec, data, datatype, value.shape)) for _ in range(REPEATS)
    ]
    return float(np.median(encode)), float(np.median(decode))


def _line(x0: int, y0: float, x1: int, y1: float) -> tuple[float, float]:
    """Intercept and slope, neither below 0."""
    if x1 == x0:
        return 0.0, max(y0, y1) / max(x0, 1)
    slope = max((y1 - y0) / (x1 - x0), 0.0)
    return max(y0 - slope * x0, 0.0), slope
