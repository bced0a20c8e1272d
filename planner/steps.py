"""Steps: the operations around the network, declared in ``steps.json`` beside the model.

Device, cloud and planner read the same file, so a cut may fall between any two of them: sending
the camera's JPEG is the cut before ``decode``, sending 8-bit pixels the cut before ``normalise``.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal, assert_never

import msgspec
import numpy as np
from PIL import Image, UnidentifiedImageError

from planner.errors import InputError, StepsError
from planner.graph import UNKNOWN, Op, TensorInfo
from protos.documents import DocumentError, read_json

SOURCE = "bytes"
"""The name of the sensor's message: a BYTES tensor of shape (1,)."""

MAX_PIXELS = 64_000_000


class Decode(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="step",
    tag="decode",
):
    """An image file (JPEG, PNG, WebP, BMP) to uint8 pixels, shape ``(height, width, channels)``."""

    colour: Literal["RGB", "BGR", "L"] = "RGB"


class Resize(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="step",
    tag="resize",
):
    """Bilinear, to ``short`` pixels on the shorter side or to exactly ``width`` x ``height``."""

    short: int | None = None
    width: int | None = None
    height: int | None = None


class Crop(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="step",
    tag="crop",
):
    """The middle ``width`` x ``height`` pixels."""

    width: int
    height: int


class Normalise(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="step",
    tag="normalise",
):
    """``(x * scale - mean) / std`` per channel, to float32 of the same shape."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1 / 255


class Layout(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="step",
    tag="layout",
):
    """From ``(height, width, channels)`` to a batch of one in the named order."""

    order: Literal["NCHW", "NHWC"] = "NCHW"


class TopK(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="step",
    tag="top_k",
):
    """The ``k`` best classes of the network's output ``tensor``, shape ``(1, classes)``.

    Makes ``label`` (BYTES, shape ``(k,)``) and ``score`` (FP32, shape ``(k,)``), best first;
    ``softmax`` turns logits into probabilities first.
    """

    tensor: str
    labels: tuple[str, ...]
    k: int = 1
    softmax: bool = False


Before = Decode | Resize | Crop | Normalise | Layout
After = TopK


class Steps(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The steps of one model: ``before`` makes the network's ``input``, ``after`` the answer."""

    schema: Literal["isthmus.steps/1"]
    input: str
    before: tuple[Before, ...]
    after: tuple[After, ...] = ()


Values = dict[str, np.ndarray]
Run = Callable[[Values], Values]


def read_steps(path: Path) -> Steps:
    """Read and check a ``steps.json``.

    Raises:
        StepsError: unreadable, or a field is missing, unknown or out of range.
    """
    try:
        steps = read_json(path, Steps, what="steps file")
    except DocumentError as error:
        raise StepsError(str(error)) from error
    for index, step in enumerate((*steps.before, *steps.after)):
        if problem := _problem(step):
            raise StepsError(f"steps file {path} is not valid: step {index} {problem}")
    if not steps.before or not isinstance(steps.before[0], Decode):
        raise StepsError(f"steps file {path} is not valid: the first step must be decode")
    return steps


def graph_of(steps: Steps, network: TensorInfo) -> tuple[tuple[Op, ...], dict[str, TensorInfo]]:
    """The ``before`` steps as ops, with their tensors.

    Args:
        steps: what ``steps.json`` says.
        network: the network's input that they feed.

    Raises:
        StepsError: the last step does not make what the network takes.
    """
    if network.name == SOURCE:
        raise StepsError(f"the network's input is itself called {SOURCE!r}: rename it to add steps")
    info = TensorInfo(name=SOURCE, datatype="BYTES", shape=(1,))
    tensors, ops = {SOURCE: info}, []
    last = len(steps.before) - 1
    for index, step in enumerate(steps.before):
        kind = _kind(step)
        name = network.name if index == last else kind
        if name in tensors:
            name = f"{kind}#{index}"
        made = _shape(step, info, name)
        ops.append(
            Op(name=f"step:{name}", kind=f"step:{kind}", inputs=(info.name,), outputs=(name,))
        )
        tensors[name] = info = made
    fits = len(info.shape) == len(network.shape) and all(
        a == b or UNKNOWN in (a, b) for a, b in zip(info.shape, network.shape, strict=True)
    )
    if info.datatype != network.datatype or not fits:
        raise StepsError(
            f"the steps make {info.datatype} {list(info.shape)} but the network's input "
            f"{network.name} takes {network.datatype} {list(network.shape)}: mend steps.json"
        )
    tensors[network.name] = network
    return tuple(ops), tensors


def after_of(
    steps: Steps, tensors: dict[str, TensorInfo]
) -> tuple[tuple[Op, ...], dict[str, TensorInfo]]:
    """The ``after`` steps as ops, with the tensors they make; *tensors* are the network's.

    Raises:
        StepsError: a step reads a tensor that the network does not make, or has too few labels.
    """
    ops, made = [], {}
    for step in steps.after:
        info = tensors.get(step.tensor)
        if info is None:
            raise StepsError(f"step top_k reads {step.tensor!r}, which the network does not make")
        classes = info.shape[-1] if info.shape else 1
        if classes not in (UNKNOWN, len(step.labels)):
            raise StepsError(f"step top_k names {len(step.labels)} labels for {classes} classes")
        suffix = "" if "label" not in made else f"_{step.tensor}"
        names = (f"label{suffix}", f"score{suffix}")
        made[names[0]] = TensorInfo(name=names[0], datatype="BYTES", shape=(step.k,))
        made[names[1]] = TensorInfo(name=names[1], datatype="FP32", shape=(step.k,))
        ops.append(
            Op(name=f"step:{names[0]}", kind="step:top_k", inputs=(step.tensor,), outputs=names)
        )
    return tuple(ops), made


def runner(step: Before | After, op: Op) -> Run:
    """What runs *step*: takes a dict with the op's inputs, gives one with its outputs."""
    match step:
        case TopK():
            return lambda values: dict(
                zip(op.outputs, top_k(step, values[op.inputs[0]]), strict=True)
            )
        case Decode() | Resize() | Crop() | Normalise() | Layout():
            return lambda values: {op.outputs[0]: _before(step, values[op.inputs[0]])}
    assert_never(step)


def decode(step: Decode, message: bytes) -> np.ndarray:
    """Pixels of an image file, uint8, shape ``(height, width, channels)``.

    Raises:
        InputError: the bytes are no image, are truncated, or unpack to over 64 million pixels.
    """
    try:
        with Image.open(io.BytesIO(message)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"the image has {image.width} x {image.height} pixels: at most {MAX_PIXELS}"
                )
            pixels = np.asarray(image.convert("L" if step.colour == "L" else "RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"the message ({len(message)} bytes) is no image that can be decoded: "
            "send a JPEG, PNG, WebP or BMP file"
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(f"the image is too large: at most {MAX_PIXELS} pixels") from error
    if step.colour == "L":
        return pixels[..., None]
    return pixels[..., ::-1] if step.colour == "BGR" else pixels


def resize(step: Resize, pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    if step.short is not None:
        ratio = step.short / min(height, width)
        size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    else:
        assert step.width is not None
        assert step.height is not None
        size = (step.width, step.height)
    if size == (width, height):
        return pixels
    flat = pixels[..., 0] if pixels.shape[-1] == 1 else np.ascontiguousarray(pixels)
    out = np.asarray(Image.fromarray(flat).resize(size, Image.Resampling.BILINEAR))
    return out[..., None] if out.ndim == 2 else out


def crop(step: Crop, pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height < step.height or width < step.width:
        raise InputError(
            f"the image is {width} x {height} after resizing, smaller than the crop of "
            f"{step.width} x {step.height}: send a larger one"
        )
    top, left = (height - step.height) // 2, (width - step.width) // 2
    return np.ascontiguousarray(pixels[top : top + step.height, left : left + step.width])


def normalise(step: Normalise, pixels: np.ndarray) -> np.ndarray:
    """One multiply and one add: ``x * (scale / std) - mean / std``, in float32."""
    std = np.asarray(step.std, dtype=np.float32)
    factor = np.float32(step.scale) / std
    out = pixels.astype(np.float32)
    out *= factor
    out -= np.asarray(step.mean, dtype=np.float32) / std
    return out


def layout(step: Layout, pixels: np.ndarray) -> np.ndarray:
    ordered = pixels.transpose(2, 0, 1) if step.order == "NCHW" else pixels
    return np.ascontiguousarray(ordered[None])


def top_k(step: TopK, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = np.asarray(scores, dtype=np.float32).reshape(-1)
    if step.softmax:
        flat = np.exp(flat - flat.max())
        flat /= flat.sum()
    best = np.argsort(-flat, kind="stable")[: step.k]
    labels = np.array([step.labels[i].encode() for i in best], dtype=np.object_)
    return labels, flat[best]


def made_up_image(width: int = 640, height: int = 480) -> bytes:
    """A made-up photograph for where no sample is at hand: smooth shapes and some grain, JPEG."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (height, width, 3))
    pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


def _before(step: Before, value: np.ndarray) -> np.ndarray:
    match step:
        case Decode():
            return decode(step, bytes(value.reshape(-1)[0]))
        case Resize():
            return resize(step, value)
        case Crop():
            return crop(step, value)
        case Normalise():
            return normalise(step, value)
        case Layout():
            return layout(step, value)
    assert_never(step)


def _kind(step: Before) -> str:
    return str(type(step).__struct_config__.tag)


def _shape(step: Before, info: TensorInfo, name: str) -> TensorInfo:
    datatype, shape = info.datatype, info.shape
    match step:
        case Decode():
            datatype, shape = "UINT8", (UNKNOWN, UNKNOWN, 1 if step.colour == "L" else 3)
        case Resize(short=None, width=int(width), height=int(height)):
            shape = (height, width, shape[-1])
        case Resize():
            shape = (UNKNOWN, UNKNOWN, shape[-1])
        case Crop():
            shape = (step.height, step.width, shape[-1])
        case Normalise():
            if len(step.mean) != shape[-1] or len(step.std) != shape[-1]:
                raise StepsError(
                    f"step normalise has {len(step.mean)} means and {len(step.std)} deviations "
                    f"for {shape[-1]} channels"
                )
            datatype = "FP32"
        case Layout(order="NCHW"):
            shape = (1, shape[2], shape[0], shape[1])
        case Layout():
            shape = (1, *shape)
        case _:
            assert_never(step)
    return TensorInfo(name=name, datatype=datatype, shape=shape)


def _problem(step: Before | After) -> str | None:
    match step:
        case Resize(short=short, width=width, height=height):
            sizes = [n for n in (short, width, height) if n is not None]
            if (short is None) == (width is None or height is None) or min(sizes) < 1:
                return "resize needs either short or both width and height, each at least 1"
        case Crop(width=width, height=height) if min(width, height) < 1:
            return f"crop needs at least 1 x 1 pixels, got {width} x {height}"
        case Normalise(std=std) if not std or min(std) <= 0:
            return f"normalise needs deviations above 0, got {list(std)}"
        case TopK(k=k, labels=labels) if not 1 <= k <= len(labels):
            return f"top_k needs k between 1 and {len(labels)}, got {k}"
    return None
