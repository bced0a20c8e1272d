"""Codecs: how a boundary tensor is written on the wire.

``raw`` keeps every bit. ``fp16`` halves float32. ``int8`` stores one byte per element and a scale
and zero per channel. ``jpeg:90`` and ``webp:75`` are for images, WebP for those with colours.
``+zstd`` compresses what the codec wrote. A coded tensor keeps its decoded datatype and shape in
its header; only the contents change.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, cast

import numpy as np
import zstandard
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile

from protos import affine, tensors
from protos.errors import WireError
from protos.tensors import Array, Buffer

Kind = Literal["raw", "fp16", "int8", "jpeg", "webp"]

MAX_EXPANDED_BYTES = 256 << 20
"""The most that compressed contents may grow to; a few bytes can claim any size."""

_NAME = re.compile(r"(raw|fp16|int8|jpeg|webp)(?::([0-9]{1,3}))?(\+zstd)?")
_QUALITY: Mapping[Kind, int] = MappingProxyType({"jpeg": 90, "webp": 75})
"""The kinds that have a quality, and what it is where none is named."""

_WEBP_METHOD = 2  # half the time of Pillow's default, 4, for 2 to 4 % more bytes (2026-11)
_ZSTD_LEVEL = 1  # level 3 gains nothing on activations
_MAX_SIDE: Mapping[Kind, int] = MappingProxyType({"jpeg": 65_500, "webp": 16_383})
"""What the formats, or their libraries, can hold."""

_WEBP_HEAD = 30
"""Bytes of a lossy file up to and with its size."""

_CHANNELS: Mapping[Kind, tuple[int, ...]] = MappingProxyType({"jpeg": (1, 3), "webp": (3,)})
_FILES = MappingProxyType({"jpeg": JpegImageFile, "webp": WebPImageFile})
_SPELT: Mapping[Kind, str] = MappingProxyType({"jpeg": "JPEG", "webp": "WebP"})


@dataclass(frozen=True, slots=True)
class Codec:
    """How contents are written; ``str(codec)`` is its name on the wire, for :func:`parse`."""

    kind: Kind = "raw"
    quality: int | None = None
    zstd: bool = False

    def __post_init__(self) -> None:
        if (self.kind in _QUALITY) != (self.quality is not None):
            raise ValueError("jpeg and webp have a quality, and no other codec has one")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be 1 to 100, got {self.quality}")
        if self.kind in _QUALITY and self.zstd:
            raise ValueError(f"{self.kind} is entropy-coded already: leave zstd out")

    def __str__(self) -> str:
        quality = "" if self.quality is None else f":{self.quality}"
        return f"{self.kind}{quality}{'+zstd' if self.zstd else ''}"

    @property
    def lossy(self) -> bool:
        """Whether a decoded tensor may differ from the one encoded."""
        return self.kind != "raw"


RAW = Codec()


def parse(text: str) -> Codec:
    """Read a codec's name: ``raw``, ``int8+zstd``, ``jpeg:90`` (``jpeg`` is ``jpeg:90``).

    Raises:
        WireError: no codec has that name.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise WireError(
            f"codec {text[:40]!r} is unknown: use raw, fp16 or int8, each with or without +zstd, "
            "jpeg:90 or webp:75"
        )
    kind, quality, zstd = cast("Kind", found[1]), found[2], found[3]
    try:
        return Codec(
            kind, _QUALITY.get(kind) if quality is None else int(quality), zstd is not None
        )
    except ValueError as error:
        raise WireError(f"codec {text!r} is not one: {error}") from error


def suits(codec: Codec, datatype: str, shape: Sequence[int]) -> bool:
    """Whether *codec* can write tensors of this datatype and shape.

    A value may still be refused: NaN by int8, one above 65504 by fp16.
    """
    match codec.kind:
        case "raw":
            return datatype in tensors.DATATYPES
        case "fp16" | "int8":
            return datatype == "FP32"
        case "jpeg" | "webp":
            return datatype == "UINT8" and _image_size(codec.kind, shape) is not None


def check_suits(codec: Codec, datatype: str, shape: Sequence[int]) -> None:
    """Refuse what :func:`suits` denies.

    Raises:
        WireError: *codec* cannot write such a tensor, or there is no such datatype.
    """
    tensors.element_bytes(datatype)
    if not suits(codec, datatype, shape):
        raise WireError(
            f"codec {codec} does not suit {datatype} of shape {list(shape)[:9]}: use raw "
            "(fp16 and int8 take FP32; jpeg takes UINT8 images, height x width x 3, or grey; webp "
            "those with 3)"
        )


def encode(codec: Codec, array: Array, datatype: str | None = None) -> bytes:
    """Write *array* with *codec*.

    Args:
        codec: must suit the array.
        array: see :func:`protos.tensors.to_raw`.
        datatype: by default the array's own; BF16 must be asked for.

    Raises:
        WireError: the codec does not suit the array or cannot hold one of its values; the caller
            sends this tensor raw.
    """
    datatype = datatype or tensors.datatype_of(array)
    check_suits(codec, datatype, array.shape)
    match codec.kind:
        case "raw":
            data = tensors.to_raw(array, datatype)
        case "fp16":
            data = _to_fp16(array)
        case "int8":
            data = affine.encode(array)
        case "jpeg" | "webp":
            data = _to_image(codec, array)
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(data) if codec.zstd else data


def decode(codec: Codec, data: Buffer, datatype: str, shape: Sequence[int]) -> Array:
    """Read contents that :func:`encode` wrote.

    Contents that would expand beyond what *datatype* and *shape* need are refused unexpanded.

    Returns:
        An array as :func:`protos.tensors.from_raw` gives it; read-only where it shares memory.

    Raises:
        WireError: the codec does not suit the tensor, or the contents are not what it writes.
    """
    check_suits(codec, datatype, shape)
    if codec.zstd:
        data = _expand(data, _most_bytes(codec, datatype, shape))
    match codec.kind:
        case "raw":
            return tensors.from_raw(data, datatype, shape)
        case "fp16":
            return tensors.from_raw(data, "FP16", shape).astype(np.float32)
        case "int8":
            return affine.decode(data, shape)
        case "jpeg" | "webp":
            return _from_image(codec.kind, data, shape)


def _most_bytes(codec: Codec, datatype: str, shape: Sequence[int]) -> int:
    match codec.kind:
        case "fp16":
            return 2 * tensors.count(shape)
        case "int8":
            return affine.most_bytes(shape)
        case _:
            exact = tensors.raw_bytes(datatype, shape)
            return MAX_EXPANDED_BYTES if exact is None else exact


def _expand(data: Buffer, most_bytes: int) -> bytes:
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= min(most_bytes, MAX_EXPANDED_BYTES):
            raise WireError(
                f"zstd contents claim {size} bytes, but the tensor takes at most "
                f"{min(most_bytes, MAX_EXPANDED_BYTES)}: state the exact size in the frame"
            )
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError(f"zstd contents cannot be read: {error}") from error


def _to_fp16(array: Array) -> bytes:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        half = array.astype("<f2")
    infinite = (half.view("<u2") & 0x7FFF) == 0x7C00
    if infinite.any() and np.isfinite(array[infinite]).any():
        raise WireError("a value is beyond 65504, which fp16 cannot hold: send the tensor raw")
    return half.tobytes()


def _image_size(kind: Kind, shape: Sequence[int]) -> tuple[int, int, int] | None:
    """(height, width, channels) of an image that the format can hold."""
    if len(shape) not in {2, 3}:
        return None
    height, width, channels = (*shape, 1)[:3]
    sides = all(0 < side <= _MAX_SIDE[kind] for side in (height, width))
    return (height, width, channels) if sides and channels in _CHANNELS[kind] else None


def _to_image(codec: Codec, array: Array) -> bytes:
    grey = array.shape[2:] == (1,)
    image = Image.fromarray(np.ascontiguousarray(array[..., 0] if grey else array))
    file = io.BytesIO()
    quality = codec.quality or _QUALITY[codec.kind]
    if codec.kind == "jpeg":
        image.save(file, "JPEG", quality=quality, subsampling=0 if quality >= 95 else 2)
    else:
        image.save(file, "WEBP", quality=quality, method=_WEBP_METHOD)
    return file.getvalue()


def _from_image(kind: Kind, data: Buffer, shape: Sequence[int]) -> Array:
    size = _image_size(kind, shape)
    assert size is not None
    height, width, channels = size
    if height * width * channels > MAX_EXPANDED_BYTES:
        raise WireError(f"an image of shape {list(shape)} is too large: send it in smaller tiles")
    if kind == "webp":
        _check_webp(data, width, height)
    try:
        # not Image.open, which would try other formats and warn about sizes we check here
        with _FILES[kind](io.BytesIO(data)) as image:
            if image.size != (width, height) or image.mode != ("RGB" if channels == 3 else "L"):
                raise WireError(
                    f"the {_SPELT[kind]} holds {image.size[1]} x {image.size[0]} pixels of "
                    f"{image.mode}, but the tensor's shape is {list(shape)}: send the shape of the "
                    "image"
                )
            return np.asarray(image).reshape(shape)
    except (OSError, SyntaxError, ValueError) as error:
        raise WireError(f"{_SPELT[kind]} contents cannot be read: {error}") from error


def _check_webp(data: Buffer, width: int, height: int) -> None:
    """Refuse all but the plain lossy files that :func:`encode` writes, and other sizes.

    Pillow's reader makes room for what a file claims, with all its frames, as soon as it opens it.
    The header's layout is that of RFC 9649, sections 2.5 and 9.1 of RFC 6386.
    """
    head = bytes(memoryview(data)[:_WEBP_HEAD])
    plain = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8 "
    if len(head) < _WEBP_HEAD or not plain:
        raise WireError("WebP contents cannot be read: send a plain lossy file, with no alpha")
    across, down = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    if (across, down) != (width, height):
        raise WireError(
            f"the WebP holds {down} x {across} pixels, but the tensor's shape is "
            f"{[height, width, 3]}: send the shape of the image"
        )
