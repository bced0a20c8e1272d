"""Raw contents of every datatype."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protos import tensors
from protos.errors import WireError

NUMBERS = [name for name in tensors.DATATYPES if name not in {"BYTES", "BF16"}]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def of_bytes(*items: bytes | str) -> tensors.Array:
    array = np.empty(len(items), object)
    array[:] = items
    return array


@given(st.data(), st.sampled_from(NUMBERS), SHAPES)
def test_numbers_come_back_bit_for_bit(
    data: st.DataObject, datatype: str, shape: tuple[int, ...]
) -> None:
    array = data.draw(arrays.arrays(tensors.DATATYPES[datatype], shape))
    raw = tensors.to_raw(array)
    back = tensors.from_raw(raw, datatype, shape)
    assert tensors.datatype_of(array) == datatype
    assert (back.dtype, back.shape) == (tensors.DATATYPES[datatype], shape)
    assert (tensors.to_raw(back), len(raw)) == (raw, tensors.raw_bytes(datatype, shape))
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_bytes_come_back_as_they_were(items: list[bytes]) -> None:
    back = tensors.from_raw(tensors.to_raw(of_bytes(*items)), "BYTES", (len(items),))
    assert back.tolist() == items


def test_each_bytes_element_is_preceded_by_its_length() -> None:
    """The standard: 4 bytes, little-endian."""
    assert tensors.to_raw(of_bytes(b"ab", "ü")) == b"\2\0\0\0ab" + b"\2\0\0\0\xc3\xbc"
    assert tensors.to_raw(np.array(["ab"])) == b"\2\0\0\0ab"
    assert tensors.to_raw(np.array([b"ab"])) == b"\2\0\0\0ab"


def test_numbers_are_little_endian_and_row_major_whatever_the_array() -> None:
    array = np.array([[1, 2], [3, 4]], ">i2").T
    assert tensors.to_raw(array) == b"\1\0\3\0\2\0\4\0"
    assert tensors.datatype_of(array) == "INT16"


def test_numbers_share_the_memory_they_came_in() -> None:
    data = bytes(64)
    array = tensors.from_raw(data, "FP32", (4, 4))
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))
    assert not array.flags.writeable


def test_numbers_at_an_odd_address_are_moved_to_an_aligned_one() -> None:
    array = tensors.from_raw(memoryview(bytes(9))[1:], "FP32", (2,))
    assert array.flags.aligned


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (-2.0, 0xC000),
        (1.00390625, 0x3F80),  # half way: to even
        (1.01171875, 0x3F82),  # half way: to even
        (3.4e38, 0x7F80),
        (float("inf"), 0x7F80),
        (1e-45, 0x0000),
    ],
)
def test_bf16_is_the_nearest_upper_half_of_float32(value: float, bits: int) -> None:
    raw = tensors.to_raw(np.array([value], np.float32), "BF16")
    assert raw == bits.to_bytes(2, "little")
    np.testing.assert_array_equal(
        tensors.from_raw(raw, "BF16", (1,)), np.array([bits << 16], np.uint32).view(np.float32)
    )


def test_bf16_keeps_a_nan_a_nan() -> None:
    """Rounding alone would carry this one over into minus zero."""
    nan = np.array([0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(tensors.from_raw(tensors.to_raw(nan, "BF16"), "BF16", (2,))).all()


@given(arrays.arrays(np.uint16, 8))
def test_bf16_bits_survive_decoding_and_encoding(bits: tensors.Array) -> None:
    decoded = tensors.from_raw(bits.tobytes(), "BF16", (8,))
    encoded = np.frombuffer(tensors.to_raw(decoded, "BF16"), np.uint16)
    quiet = np.where(np.isnan(decoded), bits | 0x40, bits)
    assert encoded.tolist() == quiet.tolist()


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "sentence"),
    [
        (
            b"1234567",
            "FP32",
            (2,),
            "FP32 of shape [2] takes 8 bytes, but there are 7: send exactly the tensor's elements",
        ),
        (
            b"",
            "FP32",
            (1 << 30, 1 << 30),
            "shape [1073741824,1073741824] is too large: no tensor has that many elements",
        ),
        (
            b"",
            "FP32",
            (1 << 62, 0, 1 << 62),
            (
                "shape [4611686018427387904,0,4611686018427387904] is too large: "
                "no tensor has that many elements"
            ),
        ),
        (
            b"",
            "FP32",
            (-1, 3),
            "shape [-1,3] is not one: use at most 64 sizes, none below 0",
        ),
        (
            b"",
            "FP32",
            (1,) * 65,
            "shape [1,1,1,1,1,1,1,1,1,...] is not one: use at most 64 sizes, none below 0",
        ),
        (
            b"",
            "FP31",
            (0,),
            (
                "datatype 'FP31' is unknown: use one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, "
                "INT16, INT32, INT64, FP16, FP32, FP64, BF16, BYTES"
            ),
        ),
        (
            b"\2",
            "BOOL",
            (1,),
            "a BOOL element is neither 0 nor 1: send one byte, 0 or 1, per element",
        ),
        (
            b"\1\0\0\0",
            "BYTES",
            (1,),
            "BYTES contents end within an element: precede each by its length",
        ),
        (
            b"\2\0\0\0ab\0\0",
            "BYTES",
            (2,),
            "BYTES contents end within an element: precede each by its length",
        ),
        (
            b"\0\0\0\0",
            "BYTES",
            (1 << 40,),
            "1099511627776 BYTES elements do not fit in 4 bytes: precede each by its length",
        ),
        (
            b"\1\0\0\0ab",
            "BYTES",
            (1,),
            "1 bytes follow the last BYTES element: send exactly 1",
        ),
    ],
)
def test_contents_that_are_not_the_tensor_are_refused(
    data: bytes, datatype: str, shape: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(WireError) as caught:
        tensors.from_raw(data, datatype, shape)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("array", "datatype", "sentence"),
    [
        (
            np.zeros(1, complex),
            None,
            "dtype complex128 has no wire datatype: cast it to float32 or an integer",
        ),
        (
            np.zeros(1, np.int32),
            "FP32",
            "an array of INT32 cannot be written as FP32: cast it first",
        ),
        (
            np.array([None], object),
            None,
            "a BYTES element is of type NoneType: use bytes or text",
        ),
    ],
)
def test_arrays_that_no_contents_can_hold_are_refused(
    array: tensors.Array, datatype: str | None, sentence: str
) -> None:
    with pytest.raises(WireError) as caught:
        tensors.to_raw(array, datatype)
    assert str(caught.value) == sentence


def test_no_elements_take_no_bytes() -> None:
    for datatype, dtype in tensors.DATATYPES.items():
        array = tensors.from_raw(b"", datatype, (2, 0))
        assert (array.shape, array.dtype) == ((2, 0), dtype)
