"""What each codec keeps, what it loses, and what it refuses."""

import io
import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from protos import codecs
from protos.codecs import Codec
from protos.errors import WireError
from protos.tensors import Array, to_raw

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
NAMES = [
    "raw",
    "raw+zstd",
    "fp16",
    "fp16+zstd",
    "int8",
    "int8+zstd",
    "jpeg:1",
    "jpeg:100",
    "webp:75",
]


def a_ramp(*shape: int) -> Array:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def a_photo(*shape: int) -> Array:
    """A smooth picture, as JPEG likes them."""
    return np.linspace(0, 255, int(np.prod(shape))).astype(np.uint8).reshape(shape)


def round_trip(codec: str, array: Array, datatype: str = "FP32") -> Array:
    data = codecs.encode(codecs.parse(codec), array)
    return codecs.decode(codecs.parse(codec), data, datatype, array.shape)


@pytest.mark.parametrize("name", NAMES)
def test_a_codec_is_read_from_the_name_it_writes(name: str) -> None:
    assert str(codecs.parse(name)) == name


def test_names_stand_for_these_codecs() -> None:
    assert codecs.parse("int8+zstd") == Codec("int8", zstd=True)
    assert codecs.parse("jpeg:90") == codecs.parse("jpeg") == Codec("jpeg", 90)
    assert codecs.parse("webp:75") == codecs.parse("webp") == Codec("webp", 75)
    assert codecs.RAW == codecs.parse("raw") == Codec()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "int4",
        "raw+",
        "raw+lz4",
        "raw:9",
        "jpeg:",
        "jpeg:0",
        "jpeg:101",
        "jpeg:90+zstd",
        "webp:0",
        "JPEG",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(WireError, match=rf"^codec '{name.replace('+', '[+]')}' is "):
        codecs.parse(name)


def test_only_raw_is_lossless() -> None:
    assert {name for name in NAMES if not codecs.parse(name).lossy} == {"raw", "raw+zstd"}


@pytest.mark.parametrize(
    ("name", "datatype", "shape", "suits"),
    [
        ("raw+zstd", "BYTES", (1,), True),
        ("raw", "FP31", (1,), False),
        ("fp16", "FP32", (2, 3), True),
        ("fp16", "FP64", (2, 3), False),
        ("int8", "FP32", (), True),
        ("int8", "INT64", (2, 3), False),
        ("jpeg:90", "UINT8", (480, 640, 3), True),
        ("jpeg:90", "UINT8", (480, 640, 1), True),
        ("jpeg:90", "UINT8", (480, 640), True),
        ("jpeg:90", "UINT8", (1, 480, 640, 3), False),
        ("jpeg:90", "UINT8", (480, 640, 4), False),
        ("jpeg:90", "UINT8", (480, 0, 3), False),
        ("jpeg:90", "UINT8", (480, 65_501, 3), False),
        ("jpeg:90", "FP32", (480, 640, 3), False),
        ("webp:75", "UINT8", (480, 640, 3), True),
        ("webp:75", "UINT8", (480, 640), False),
        ("webp:75", "UINT8", (480, 640, 1), False),
        ("webp:75", "UINT8", (480, 16_384, 3), False),
    ],
)
def test_a_codec_suits_what_it_can_write(
    name: str, datatype: str, shape: tuple[int, ...], *, suits: bool
) -> None:
    assert codecs.suits(codecs.parse(name), datatype, shape) is suits


@given(st.data(), SHAPES, st.sampled_from(["raw", "raw+zstd"]))
def test_raw_gives_back_every_bit(data: st.DataObject, shape: tuple[int, ...], name: str) -> None:
    array = data.draw(arrays.arrays(np.float32, shape))
    assert to_raw(round_trip(name, array)) == to_raw(array)


def test_raw_writes_bf16_when_it_is_asked_for() -> None:
    array = np.array([1.0, -2.0], np.float32)
    data = codecs.encode(codecs.RAW, array, "BF16")
    assert data == b"\x80\x3f\x00\xc0"
    assert codecs.decode(codecs.RAW, data, "BF16", (2,)).tolist() == [1.0, -2.0]


@given(st.data(), SHAPES, st.sampled_from(["fp16", "fp16+zstd"]))
def test_fp16_gives_the_nearest_half(
    data: st.DataObject, shape: tuple[int, ...], name: str
) -> None:
    values = st.floats(-65504, 65504, width=32)
    array = data.draw(arrays.arrays(np.float32, shape, elements=values))
    np.testing.assert_array_equal(
        round_trip(name, array), array.astype(np.float16).astype(np.float32)
    )


def test_fp16_keeps_nan_and_infinity() -> None:
    array = np.array([np.nan, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(round_trip("fp16", array), array)


@pytest.mark.parametrize("value", [65520.0, -1e30])
def test_fp16_refuses_a_value_that_would_become_infinite(value: float) -> None:
    with pytest.raises(WireError) as caught:
        codecs.encode(codecs.parse("fp16"), np.array([1.0, np.inf, value], np.float32))
    assert str(caught.value) == (
        "a value is beyond 65504, which fp16 cannot hold: send the tensor raw"
    )


def spans(array: Array) -> Array:
    """Highest minus lowest value of each channel, in the shape of *array*."""
    axes = {4: (0, 2, 3), 3: (0, 1)}.get(array.ndim)
    low, high = array.min(axis=axes, keepdims=True), array.max(axis=axes, keepdims=True)
    return np.broadcast_to(high.astype(np.float64) - low, array.shape)


@given(st.data(), SHAPES, st.sampled_from(["int8", "int8+zstd"]))
def test_int8_errs_by_at_most_half_a_step_of_its_channel(
    data: st.DataObject, shape: tuple[int, ...], name: str
) -> None:
    """A step is 1/255 of the channel's span; float32 itself adds some units in the last place."""
    values = st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(-8, 8, width=32)
    array = data.draw(arrays.arrays(np.float32, shape, elements=values))
    back = round_trip(name, array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    if array.size:
        rounding = 1e-6 * np.abs(array).max() + 1e-35
        assert (
            np.abs(back.astype(np.float64) - array) <= spans(array) * 0.501 / 255 + rounding
        ).all()


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 3, 4, 5), 1), ((2, 4, 3), 2), ((4, 3), None), ((12,), None), ((), None)],
)
def test_int8_has_one_scale_for_each_channel(shape: tuple[int, ...], axis: int | None) -> None:
    """Axis 1 of four, the last of three, one for the whole of anything else."""
    data = codecs.encode(codecs.parse("int8"), a_ramp(*shape))
    code, channels = struct.unpack_from("<BxxxI", data)
    expected = (255, 1) if axis is None else (axis, shape[axis])
    assert (code, channels) == expected
    assert len(data) == 8 + 8 * channels + int(np.prod(shape))


def test_int8_tells_a_small_channel_beside_a_large_one() -> None:
    array = np.stack([a_ramp(4, 4) * 1000, a_ramp(4, 4) / 1000])[None]
    back = round_trip("int8", array)
    assert np.abs(back[0, 1] - array[0, 1]).max() <= 0.002 / 255 * 0.501


def test_int8_keeps_constant_channels_and_the_zeros_of_a_relu_exactly() -> None:
    array = np.maximum(a_ramp(1, 3, 4, 4), 0)
    array[:, 1] = 0.3
    back = round_trip("int8", array)
    assert (back[:, 1] == np.float32(0.3)).all()
    assert ((back == 0) == (array == 0)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e38])
@pytest.mark.parametrize("shape", [(1, 2, 2, 2), (1, 2, 2), (2, 2)])
def test_int8_refuses_what_it_cannot_scale(value: float, shape: tuple[int, ...]) -> None:
    array = a_ramp(*shape)
    array.flat[-1] = value
    with pytest.raises(WireError) as caught:
        codecs.encode(codecs.parse("int8"), array)
    assert str(caught.value) == "a value is NaN, infinite or beyond 1e38: send the tensor raw"


def an_int8(axis: int, channels: int, scale: float, zero: float, codes: bytes) -> bytes:
    floats = struct.pack(f"<{2 * channels}f", *[scale] * channels, *[zero] * channels)
    return struct.pack("<BxxxI", axis, channels) + floats + codes


def test_int8_contents_mean_zero_plus_scale_times_code() -> None:
    data = an_int8(255, 1, 0.5, -1.0, b"\x00\x01\xff")
    assert codecs.decode(codecs.parse("int8"), data, "FP32", (3,)).tolist() == [-1.0, -0.5, 126.5]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\0\0",
        an_int8(255, 1, 0.5, 0, b"12"),
        an_int8(255, 1, 0.5, 0, b"1234"),
        an_int8(255, 3, 0.5, 0, b"123"),
        an_int8(1, 3, 0.5, 0, b"123"),
        an_int8(255, 1, np.nan, 0, b"123"),
        an_int8(255, 1, np.inf, 0, b"123"),
        an_int8(255, 1, -0.5, 0, b"123"),
        an_int8(255, 1, 3e38, 0, b"123"),
        an_int8(255, 1, 0.5, np.nan, b"123"),
    ],
)
def test_int8_contents_of_another_tensor_are_refused(data: bytes) -> None:
    with pytest.raises(WireError, match=r"^int8 contents "):
        codecs.decode(codecs.parse("int8"), data, "FP32", (3,))


@pytest.mark.parametrize("shape", [(40, 60, 3), (40, 60, 1), (40, 60)])
def test_jpeg_gives_back_a_picture_of_the_same_shape_and_nearly_the_same_values(
    shape: tuple[int, ...],
) -> None:
    photo = a_photo(*shape)
    back = round_trip("jpeg:98", photo, "UINT8")
    assert (back.shape, back.dtype) == (photo.shape, photo.dtype)
    assert np.abs(back.astype(int) - photo).max() <= 8


@pytest.mark.parametrize(("quality", "sampling"), [(94, 2), (95, 1)])
def test_jpeg_keeps_all_colour_from_quality_95(quality: int, sampling: int) -> None:
    """4:4:4 then, 4:2:0 below; the frame header (SOF0) holds the luma's sampling factors."""
    data = codecs.encode(Codec("jpeg", quality), a_photo(16, 16, 3))
    assert data[data.index(b"\xff\xc0") + 11] == sampling << 4 | sampling


def test_jpeg_of_another_size_or_colour_is_refused() -> None:
    data = codecs.encode(codecs.parse("jpeg"), a_photo(40, 60, 3))
    with pytest.raises(WireError) as caught:
        codecs.decode(codecs.parse("jpeg"), data, "UINT8", (60, 40, 3))
    assert str(caught.value) == (
        "the JPEG holds 40 x 60 pixels of RGB, but the tensor's shape is [60, 40, 3]: "
        "send the shape of the image"
    )
    with pytest.raises(WireError, match="pixels of RGB"):
        codecs.decode(codecs.parse("jpeg"), data, "UINT8", (40, 60))


def test_jpeg_takes_no_other_picture_format() -> None:
    file = io.BytesIO()
    Image.fromarray(a_photo(8, 8, 3)).save(file, "PNG")
    with pytest.raises(WireError, match=r"^JPEG contents cannot be read: "):
        codecs.decode(codecs.parse("jpeg"), file.getvalue(), "UINT8", (8, 8, 3))


def test_webp_gives_back_a_picture_of_the_same_shape_and_nearly_the_same_values() -> None:
    photo = a_photo(40, 60, 3)
    back = round_trip("webp:90", photo, "UINT8")
    assert back.shape == photo.shape
    assert np.abs(back.astype(int) - photo).mean() < 16


def test_webp_takes_no_other_format_size_or_colour_and_nothing_cut_short() -> None:
    webp = codecs.parse("webp")
    data = codecs.encode(webp, a_photo(40, 60, 3))
    with pytest.raises(WireError, match=r"the WebP holds 40 x 60 pixels, but"):
        codecs.decode(webp, data, "UINT8", (60, 40, 3))
    with pytest.raises(WireError, match="WebP contents cannot be read"):
        codecs.decode(webp, data[:-100], "UINT8", (40, 60, 3))
    with pytest.raises(WireError, match="WebP contents cannot be read"):
        codecs.decode(
            webp, codecs.encode(codecs.parse("jpeg"), a_photo(40, 60, 3)), "UINT8", (40, 60, 3)
        )
    with pytest.raises(WireError, match="JPEG contents cannot be read"):
        codecs.decode(codecs.parse("jpeg"), data, "UINT8", (40, 60, 3))


@pytest.mark.parametrize("how", [{"lossless": True}, {"save_all": True}], ids=str)
def test_webp_with_more_than_a_plain_picture_is_refused_unopened(how: dict[str, bool]) -> None:
    file = io.BytesIO()
    frames = [Image.fromarray(a_photo(8, 8, 3)) for _ in range(2)]
    frames[1].putpixel((0, 0), (255, 0, 0))
    more = {"append_images": frames[1:]} if "save_all" in how else {}
    frames[0].save(file, "WEBP", **how, **more)
    with pytest.raises(WireError, match="send a plain lossy file"):
        codecs.decode(codecs.parse("webp"), file.getvalue(), "UINT8", (8, 8, 3))


def test_a_jpeg_cut_short_is_refused() -> None:
    data = codecs.encode(codecs.parse("jpeg"), a_photo(40, 60, 3))
    with pytest.raises(WireError, match=r"^JPEG contents cannot be read: "):
        codecs.decode(codecs.parse("jpeg"), data[:-200], "UINT8", (40, 60, 3))


def test_a_picture_larger_than_any_we_expand_is_refused_unread() -> None:
    with pytest.raises(WireError, match="is too large"):
        codecs.decode(codecs.parse("jpeg"), b"", "UINT8", (65_000, 65_000, 3))


def test_zstd_makes_zeros_small() -> None:
    assert len(codecs.encode(codecs.parse("raw+zstd"), np.zeros(100_000, np.float32))) < 100


def test_contents_that_would_expand_beyond_the_tensor_are_refused_unexpanded() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 20))
    with pytest.raises(WireError) as caught:
        codecs.decode(codecs.parse("raw+zstd"), bomb, "FP32", (2, 2))
    assert str(caught.value) == (
        "zstd contents claim 1048576 bytes, but the tensor takes at most 16: "
        "state the exact size in the frame"
    )


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_no_shape_lets_contents_expand_without_limit(datatype: str) -> None:
    """A frame's header may claim 1 GiB in 13 bytes, and so may the shape."""
    frame = b"\x28\xb5\x2f\xfd" + b"\xe0" + (1 << 30).to_bytes(8, "little")
    with pytest.raises(WireError, match="claim 1073741824 bytes"):
        codecs.decode(codecs.parse("raw+zstd"), frame, datatype, (1 << 28,))


def test_zstd_without_a_stated_size_or_with_more_behind_it_is_refused() -> None:
    sizeless = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(16))
    with pytest.raises(WireError, match=r"^zstd contents claim -1 bytes"):
        codecs.decode(codecs.parse("raw+zstd"), sizeless, "FP32", (2, 2))
    followed = zstandard.ZstdCompressor().compress(bytes(16)) + b"more"
    with pytest.raises(WireError, match=r"^zstd contents cannot be read: "):
        codecs.decode(codecs.parse("raw+zstd"), followed, "FP32", (2, 2))


def test_a_codec_that_does_not_suit_says_what_would() -> None:
    with pytest.raises(WireError) as caught:
        codecs.encode(codecs.parse("int8"), np.zeros((2, 2), np.int64))
    assert str(caught.value) == (
        "codec int8 does not suit INT64 of shape [2, 2]: use raw "
        "(fp16 and int8 take FP32; jpeg takes UINT8 images, height x width x 3, or grey; webp "
        "those with 3)"
    )
