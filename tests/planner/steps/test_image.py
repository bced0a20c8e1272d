"""Steps on images."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from planner.errors import InputError, StepsError
from planner.steps import made_up_image

RunStep = Callable[..., tuple[np.ndarray, ...]]


def a_png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def pixels(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_the_same_file_in_three_channel_orders(run_step: RunStep) -> None:
    image = pixels(2, 3)
    rgb, bgr, grey = (
        run_step({"step": "decode", "colour": colour}, a_png(image))[0]
        for colour in ("RGB", "BGR", "L")
    )
    assert np.array_equal(rgb, image)
    assert np.array_equal(bgr, image[..., ::-1])
    assert np.array_equal(grey[..., 0], np.asarray(Image.fromarray(image).convert("L")))


@pytest.mark.parametrize(("before", "to"), [("RGB", "BGR"), ("BGR", "RGB"), ("RGB", "L")])
def test_changing_the_colours_later_is_as_decoding_in_them(
    run_step: RunStep, before: str, to: str
) -> None:
    file = a_png(pixels(4, 5))
    (decoded,) = run_step({"step": "decode", "colour": before}, file)
    (changed,) = run_step({"step": "colour", "to": to}, decoded, values={"colour": before})
    (wanted,) = run_step({"step": "decode", "colour": to}, file)
    assert np.array_equal(changed, wanted)


def test_grey_has_no_colours_to_bring_back(run_step: RunStep) -> None:
    with pytest.raises(StepsError, match="which has no colours: it takes RGB or BGR"):
        run_step({"step": "colour", "to": "RGB"}, pixels(2, 2, 1), values={"colour": "L"})


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"short": 10}, (10, 20)),
        ({"width": 7, "height": 5}, (5, 7)),
        ({"height": 40}, (40, 80)),
        ({"width": 40}, (20, 40)),
        ({"height": 40, "max_width": 50}, (40, 50)),
        ({"width": 40, "max_height": 8}, (8, 40)),
        ({"height": 20, "filter": "nearest"}, (20, 40)),
    ],
)
def test_an_image_becomes_of_the_size(
    run_step: RunStep, fields: dict[str, Any], size: tuple[int, int]
) -> None:
    (made,) = run_step({"step": "resize", **fields}, pixels(20, 40))
    assert made.shape == (*size, 3)


def test_resizing_a_grey_image_keeps_its_one_channel(run_step: RunStep) -> None:
    (made,) = run_step({"step": "resize", "short": 3}, pixels(6, 8, 1))
    assert made.shape == (3, 4, 1)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "needs either short or width and height, or one of these"),
        ({"short": 3, "width": 3}, "needs either short or width and height, or one of these"),
        ({"width": 3, "max_width": 3}, "takes max_width only with height and without width"),
        ({"height": 3, "max_height": 3}, "takes max_height only with width and without height"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(
    run_step: RunStep, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        run_step({"step": "resize", **fields}, pixels(2, 2))


def test_a_line_of_pixels_is_not_blown_up_beyond_the_limit(run_step: RunStep) -> None:
    """64 million pixels in one row would be 16 thousand million with 256 on the shorter side."""
    line = np.zeros((1, 1_000_000, 3), np.uint8)
    with pytest.raises(InputError, match="would be 256000000 x 256 after resizing"):
        run_step({"step": "resize", "short": 256}, line)


def test_a_crop_is_the_middle_or_where_it_is_told(run_step: RunStep) -> None:
    image = pixels(6, 8)
    (middle,) = run_step({"step": "crop", "width": 4, "height": 2}, image)
    (corner,) = run_step({"step": "crop", "width": 4, "height": 2, "left": 3, "top": 4}, image)
    assert np.array_equal(middle, image[2:4, 2:6])
    assert np.array_equal(corner, image[4:6, 3:7])


def test_a_crop_beyond_the_edge_is_refused(run_step: RunStep) -> None:
    with pytest.raises(InputError, match="the crop from 5, 0 on needs 9 x 2, send a larger one"):
        run_step({"step": "crop", "width": 4, "height": 2, "left": 5, "top": 0}, pixels(6, 8))


def test_padding_leaves_the_image_at_the_start_or_in_the_middle(run_step: RunStep) -> None:
    image = pixels(2, 2)
    (start,) = run_step({"step": "pad", "width": 4, "height": 3, "value": 7}, image)
    (middle,) = run_step({"step": "pad", "width": 4, "height": 4, "at": "middle"}, image)
    assert np.array_equal(start[:2, :2], image)
    assert set(start[2].ravel()) | set(start[:, 2:].ravel()) == {7}
    assert np.array_equal(middle[1:3, 1:3], image)
    assert middle.sum() == image.sum()


def test_an_image_larger_than_its_padding_is_refused(run_step: RunStep) -> None:
    with pytest.raises(InputError, match="larger than 4 x 3: send a smaller one"):
        run_step({"step": "pad", "width": 4, "height": 3}, pixels(5, 5))


def test_pixels_are_not_padded_with_what_they_cannot_hold(run_step: RunStep) -> None:
    with pytest.raises(StepsError, match="8-bit pixels take a whole number from 0 to 255"):
        run_step({"step": "pad", "width": 9, "height": 9, "value": 0.5}, pixels(2, 2))


def test_normalising_is_per_channel_or_the_same_for_all(run_step: RunStep) -> None:
    image = np.array([[[0, 51, 255]]], np.uint8)
    each = {"step": "normalise", "mean": [0, 0.2, 0.5], "std": [1, 0.5, 0.25]}
    same = {"step": "normalise", "mean": [127], "std": [128], "scale": 1}
    assert run_step(each, image)[0].ravel().tolist() == pytest.approx([0, 0, 2], abs=1e-6)
    assert run_step(same, image)[0].ravel().tolist() == pytest.approx([-127 / 128, -76 / 128, 1])


def test_means_of_other_channels_are_refused(run_step: RunStep) -> None:
    with pytest.raises(StepsError, match="has 2 in mean: it takes 1 or 3"):
        run_step({"step": "normalise", "mean": [0, 0], "std": [1]}, pixels(2, 2))


@pytest.mark.parametrize(("order", "shape"), [("NCHW", (1, 3, 2, 4)), ("NHWC", (1, 2, 4, 3))])
def test_a_batch_of_one_in_either_layout(
    run_step: RunStep, order: str, shape: tuple[int, ...]
) -> None:
    image = pixels(2, 4)
    (made,) = run_step({"step": "layout", "order": order}, image)
    back = made[0].transpose(1, 2, 0) if order == "NCHW" else made[0]
    assert (made.shape, made.flags.c_contiguous) == (shape, True)
    assert np.array_equal(back, image)


def test_the_made_up_image_is_a_photograph_of_the_size() -> None:
    with Image.open(io.BytesIO(made_up_image(64, 48))) as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))
