"""Steps on images: an image file to pixels, and pixels to what a network takes."""

import io
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from PIL import Image, UnidentifiedImageError

from planner.errors import InputError
from planner.graph import UNKNOWN
from planner.steps.binding import (
    Ask,
    Bound,
    Count,
    Decoder,
    Finite,
    Offset,
    Positive,
    Step,
    Unfit,
    Value,
    check,
    message_of,
    single,
    spread,
)
from planner.steps.samples import made_up_image

MAX_PIXELS = 64_000_000

_CHANNELS = (1, 3, 4, UNKNOWN)
_NUMBERS = ("UINT8", "FP32")
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
_FLOATS = Annotated[tuple[Finite, ...], msgspec.Meta(min_length=1)]
_POSITIVES = Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)]


class Decode(Decoder, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="decode"):
    """An image file (JPEG, PNG, WebP, BMP) to uint8 pixels, shape ``(height, width, channels)``."""

    colour: Literal["RGB", "BGR", "L"] = "RGB"

    def bind(self, ask: Ask) -> Bound:
        check(ask.given[0], ("BYTES",), ranks=(1,), what="the sensor's message")
        shape = (UNKNOWN, UNKNOWN, 1 if self.colour == "L" else 3)
        made = Value(name=ask.makes[0], datatype="UINT8", shape=shape, colour=self.colour)
        return single(made, lambda value: decode(self, message_of(value)))

    def made_up(self) -> bytes:
        return made_up_image()


class Resize(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="resize"):
    """To ``short`` pixels on the shorter side, or to ``width`` x ``height``.

    With only one of ``width`` and ``height`` the other follows, up to ``max_width`` or
    ``max_height``: what would be longer is squeezed. Source of the filters: Pillow's, which
    average over all the pixels that an output pixel covers.
    """

    short: Count | None = None
    width: Count | None = None
    height: Count | None = None
    max_width: Count | None = None
    max_height: Count | None = None
    filter: Literal["bilinear", "bicubic", "box", "nearest"] = "bilinear"

    def problem(self) -> str | None:
        if (self.short is None) == (self.width is None and self.height is None):
            return "needs either short or width and height, or one of these"
        if self.max_width is not None and (self.height is None or self.width is not None):
            return "takes max_width only with height and without width"
        if self.max_height is not None and (self.width is None or self.height is not None):
            return "takes max_height only with width and without height"
        return None

    def bind(self, ask: Ask) -> Bound:
        channels = _image(ask.given[0], ("UINT8",))
        height = UNKNOWN if self.height is None else self.height
        width = UNKNOWN if self.width is None else self.width
        made = ask.given[0].made(ask.makes[0], shape=(height, width, channels))
        return single(made, lambda pixels: resize(self, pixels))


class Crop(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="crop"):
    """``width`` x ``height`` pixels, from ``left`` and ``top`` on or else from the middle."""

    width: Count
    height: Count
    left: Offset | None = None
    top: Offset | None = None

    def bind(self, ask: Ask) -> Bound:
        channels = _image(ask.given[0], _NUMBERS)
        made = ask.given[0].made(ask.makes[0], shape=(self.height, self.width, channels))
        return single(made, lambda pixels: crop(self, pixels))


class Pad(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pad"):
    """Up to ``width`` x ``height`` with ``value``; the image stays top left or in the middle."""

    width: Count
    height: Count
    value: Finite = 0.0
    at: Literal["start", "middle"] = "start"

    def bind(self, ask: Ask) -> Bound:
        channels = _image(ask.given[0], _NUMBERS)
        if ask.given[0].datatype == "UINT8" and not (
            0 <= self.value <= 255 and self.value % 1 == 0
        ):
            raise Unfit(f"has value {self.value}: 8-bit pixels take a whole number from 0 to 255")
        made = ask.given[0].made(ask.makes[0], shape=(self.height, self.width, channels))
        return single(made, lambda pixels: pad(self, pixels))


class Colour(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="colour"):
    """The pixels in another channel order, or as grey (L, by ITU-R BT.601's weights)."""

    to: Literal["RGB", "BGR", "L"]

    def bind(self, ask: Ask) -> Bound:
        _image(ask.given[0], ("UINT8",))
        before = ask.given[0].colour or ("RGB" if ask.given[0].shape[-1] == 3 else None)
        if before is None or (before == "L" and self.to != "L"):
            raise Unfit(f"reads {ask.given[0].name!r}, which has no colours: it takes RGB or BGR")
        shape = (*ask.given[0].shape[:2], 1 if self.to == "L" else 3)
        made = ask.given[0].made(ask.makes[0], shape=shape, colour=self.to)
        return single(made, lambda pixels: recolour(pixels, before, self.to))


class Normalise(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="normalise"):
    """``(x * scale - mean) / std`` per channel, to float32 of the same shape."""

    mean: _FLOATS
    std: _POSITIVES
    scale: Finite = 1 / 255

    def bind(self, ask: Ask) -> Bound:
        channels = _image(ask.given[0], _NUMBERS)
        std = spread(self.std, channels, "std").astype(np.float32)
        factor = np.float32(self.scale) / std
        offset = spread(self.mean, channels, "mean").astype(np.float32) / std
        made = ask.given[0].made(ask.makes[0], datatype="FP32")
        return single(made, lambda pixels: normalise(pixels, factor, offset))


class Layout(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="layout"):
    """From ``(height, width, channels)`` to a batch of one in the named order."""

    order: Literal["NCHW", "NHWC"] = "NCHW"

    def bind(self, ask: Ask) -> Bound:
        _image(ask.given[0], _NUMBERS)
        height, width, channels = ask.given[0].shape
        nchw = self.order == "NCHW"
        shape = (1, channels, height, width) if nchw else (1, height, width, channels)
        return single(
            ask.given[0].made(ask.makes[0], shape=shape), lambda pixels: layout(self, pixels)
        )


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
    except Image.DecompressionBombError as error:
        raise InputError(f"the image is too large: at most {MAX_PIXELS} pixels") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, LookupError) as error:
        raise InputError(
            f"the message ({len(message)} bytes) is no image that can be decoded: "
            "send a JPEG, PNG, WebP or BMP file"
        ) from error
    if step.colour == "L":
        return pixels[..., None]
    return pixels[..., ::-1] if step.colour == "BGR" else pixels


def resize(step: Resize, pixels: np.ndarray) -> np.ndarray:
    """The image in its new size.

    Raises:
        InputError: it is empty, or so narrow that its new size is over 64 million pixels.
    """
    height, width = pixels.shape[:2]
    if not pixels.size:
        raise InputError(f"the image is {width} x {height} pixels: send one with at least one")
    size = _new_size(step, width, height)
    if size == (width, height):
        return pixels
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError(
            f"the image of {width} x {height} pixels would be {size[0]} x {size[1]} after "
            f"resizing: at most {MAX_PIXELS} pixels"
        )
    flat = pixels[..., 0] if pixels.shape[-1] == 1 else np.ascontiguousarray(pixels)
    out = np.asarray(Image.fromarray(flat).resize(size, _FILTERS[step.filter]))
    return out[..., None] if out.ndim == 2 else out


def crop(step: Crop, pixels: np.ndarray) -> np.ndarray:
    """The part of the image.

    Raises:
        InputError: the image does not reach so far.
    """
    height, width = pixels.shape[:2]
    if height < step.height or width < step.width:
        raise InputError(
            f"the image is {width} x {height} after resizing, smaller than the crop of "
            f"{step.width} x {step.height}: send a larger one"
        )
    top = (height - step.height) // 2 if step.top is None else step.top
    left = (width - step.width) // 2 if step.left is None else step.left
    if top + step.height > height or left + step.width > width:
        raise InputError(
            f"the image is {width} x {height}: the crop from {left}, {top} on needs "
            f"{left + step.width} x {top + step.height}, send a larger one"
        )
    return np.ascontiguousarray(pixels[top : top + step.height, left : left + step.width])


def pad(step: Pad, pixels: np.ndarray) -> np.ndarray:
    """The image with a border.

    Raises:
        InputError: it is larger than what it should be padded to.
    """
    height, width, channels = pixels.shape
    if height > step.height or width > step.width:
        raise InputError(
            f"the image is {width} x {height} before padding, larger than "
            f"{step.width} x {step.height}: send a smaller one"
        )
    out = np.full((step.height, step.width, channels), step.value, dtype=pixels.dtype)
    middle = step.at == "middle"
    top = (step.height - height) // 2 if middle else 0
    left = (step.width - width) // 2 if middle else 0
    out[top : top + height, left : left + width] = pixels
    return out


def recolour(pixels: np.ndarray, before: str, to: str) -> np.ndarray:
    """Pixels in the channel order *to*; grey as Pillow rounds it."""
    if to == before:
        return pixels
    reverse = pixels[..., ::-1]
    if to != "L":
        return reverse
    rgb = np.ascontiguousarray(pixels if before == "RGB" else reverse)
    return np.asarray(Image.fromarray(rgb).convert("L"))[..., None]


def normalise(pixels: np.ndarray, factor: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """One multiply and one subtraction: ``x * (scale / std) - mean / std``, in float32."""
    out = pixels.astype(np.float32)
    out *= factor
    out -= offset
    return out


def layout(step: Layout, pixels: np.ndarray) -> np.ndarray:
    """A batch of one, in memory as it is named."""
    ordered = pixels.transpose(2, 0, 1) if step.order == "NCHW" else pixels
    return np.ascontiguousarray(ordered[None])


def _new_size(step: Resize, width: int, height: int) -> tuple[int, int]:
    if step.short is not None:
        ratio = step.short / min(height, width)
        return max(1, round(width * ratio)), max(1, round(height * ratio))
    if step.width is None:
        assert step.height is not None
        wide = max(1, round(width * step.height / height))
        return min(wide, step.max_width or wide), step.height
    if step.height is None:
        high = max(1, round(height * step.width / width))
        return step.width, min(high, step.max_height or high)
    return step.width, step.height


def _image(value: Value, datatypes: Sequence[str]) -> int:
    """The channels of an image.

    Raises:
        Unfit: it is none.
    """
    check(value, datatypes, ranks=(3,), what="pixels (height, width, channels)")
    if value.shape[-1] not in _CHANNELS:
        raise Unfit(f"reads {value.name!r} of {value.shape[-1]} channels: an image has 1, 3 or 4")
    return value.shape[-1]
