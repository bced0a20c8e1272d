"""A tensor in slices, and a request in chunks, are what they would have been in one piece."""
# ruff: noqa: ANN401  (builders take any field)

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from protos import codecs, envelope, slices, tensors, wire
from protos.errors import WireError
from protos.gen import open_inference_pb2 as pb
from protos.slices import Slice, axis_of, cut
from protos.tensors import Array
from protos.wire import Reply, Request, Tensor, arrays

CODECS = ("raw", "raw+zstd", "fp16", "fp16+zstd", "int8", "int8+zstd")
SHAPES = ((7,), (3, 5), (2, 3, 6), (1, 6, 4, 3), (2, 1, 5, 4))


def in_slices(
    name: str, array: Array, codec: str, count: int, datatype: str | None = None
) -> tuple[Tensor, ...]:
    axis = axis_of(codecs.parse(codec), array.shape, count)
    assert axis is not None
    return tuple(
        Tensor.of(
            name, part, codec, datatype=datatype, slice=Slice(number=number, of=count, axis=axis)
        )
        for number, part in enumerate(cut(array, count, axis), 1)
    )


def a_slice(number: int, of: int, axis: int = 0, **changes: Any) -> Tensor:
    whole = Tensor.of("x", np.ones((2, 3), np.float32))
    return replace(whole, slice=Slice(number=number, of=of, axis=axis), **changes)


def a_request(*inputs: Tensor, **fields: Any) -> bytes:
    return wire.encode_request(Request(model="m", id="7", inputs=inputs, **fields))


def refusal(*inputs: Tensor) -> str:
    with pytest.raises(WireError) as caught:
        wire.decode_request(a_request(*inputs))
    with pytest.raises(WireError) as again:
        arrays(inputs)
    assert str(caught.value) == str(again.value)
    return str(caught.value)


def test_a_slice_is_written_as_it_is_read() -> None:
    assert str(Slice(number=2, of=4, axis=1)) == "2/4@1"
    for text in ("1/1@0", "2/4@1", "64/64@31"):
        assert str(slices.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "2/4", "0/4@1", "5/4@1", "1/65@0", "1/2@32", "1/2@-1", "1/2@0 ", "1/2@0\n", "٢/4@1"],
)
def test_a_text_that_is_no_slice_is_refused(text: str) -> None:
    with pytest.raises(WireError) as caught:
        slices.parse(text)
    assert str(caught.value) == (
        f"slice {text!r} is not one: send number/of@axis, such as 2/4@1, with at most 64 slices "
        "along an axis below 32"
    )


@pytest.mark.parametrize(("number", "of", "axis"), [(0, 1, 0), (2, 1, 0), (1, 65, 0), (1, 1, 32)])
def test_there_is_no_such_slice(number: int, of: int, axis: int) -> None:
    with pytest.raises(ValueError, match=r"slice|axis"):
        Slice(number=number, of=of, axis=axis)


@pytest.mark.parametrize(
    ("codec", "shape", "count", "axis"),
    [
        ("int8", (1, 8, 4, 4), 8, 1),
        ("int8", (1, 8, 4, 4), 9, None),
        ("int8+zstd", (1, 9, 8), 4, 2),
        ("int8", (64, 64), 2, None),
        ("int8", (1, 8, 4, 4, 4), 2, None),
        ("fp16", (1, 8, 4, 4), 8, 1),
        ("raw", (1, 3, 9, 9), 4, 2),
        ("raw", (1, 9, 3), 4, 1),
        ("raw+zstd", (1, 64), 64, 1),
        ("raw", (1, 100), 65, None),
        ("raw", (9,), 1, None),
        ("raw", (9,), 0, None),
        ("raw", (), 2, None),
        ("raw", (1, 8, 0, 4), 2, None),
        ("raw", (1,) * 32 + (9,), 2, None),
        ("jpeg:90", (64, 64, 3), 2, None),
        ("webp:75", (64, 64, 3), 2, None),
    ],
)
def test_where_a_tensor_may_be_cut(
    codec: str, shape: tuple[int, ...], count: int, axis: int | None
) -> None:
    assert axis_of(codecs.parse(codec), shape, count) == axis


@pytest.mark.parametrize(
    ("codec", "shape", "count"),
    [
        each
        for each in product(CODECS, SHAPES, (2, 3, 4))
        if axis_of(codecs.parse(each[0]), *each[1:]) is not None
    ],
)
def test_slices_joined_are_bit_for_bit_the_whole(
    codec: str, shape: tuple[int, ...], count: int
) -> None:
    array = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    sent = in_slices("x", array, codec, count)
    back = arrays(wire.decode_request(a_request(*sent)).inputs)["x"]
    whole = Tensor.of("x", array, codec).array()
    assert (back.dtype, back.shape, back.tobytes()) == (whole.dtype, whole.shape, whole.tobytes())


@pytest.mark.parametrize("datatype", sorted(tensors.DATATYPES.keys() - {"BYTES"}))
def test_any_number_may_come_in_slices(datatype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(tensors.DATATYPES[datatype])
    sent = in_slices("x", array, "raw", 3, datatype)
    back = wire.decode_request(a_request(*sent)).inputs
    assert back == sent
    np.testing.assert_array_equal(arrays(back)["x"], array)


def test_slices_may_differ_in_their_codec() -> None:
    """What a codec cannot hold is sent raw, slice by slice."""
    array = np.array([[1, 2], [3, 1e9]], np.float32)
    first, second = in_slices("x", array, "raw", 2)
    sent = (Tensor.of("x", array[:1], "fp16", slice=first.slice), second)
    np.testing.assert_array_equal(arrays(sent)["x"], array)


def test_whole_tensors_and_slices_come_beside_each_other() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    sent = (Tensor.of("a", x), *in_slices("x", x, "raw", 2), Tensor.of("b", x))
    made = arrays(sent)
    assert list(made) == ["a", "x", "b"]
    assert all(np.array_equal(array, x) for array in made.values())
    assert wire.route(a_request(*sent)).input_names == ("a", "x", "b")


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ((a_slice(1, 4), a_slice(3, 4)), "has slices 1, 3 of 4: send all, in order"),
        ((a_slice(1, 2),), "has slices 1 of 2: send all, in order"),
        ((a_slice(2, 2), a_slice(1, 2)), "has slices 2, 1 of 2: send all, in order"),
        ((a_slice(1, 2), a_slice(1, 2)), "has slices 1, 1 of 2: send all, in order"),
        (
            (a_slice(1, 2), a_slice(2, 2)) * 8,
            "has slices 1, 2, 1, 2, 1, 2, 1, 2, 1, ... of 2: send all, in order",
        ),
        (
            (a_slice(1, 2), a_slice(2, 3)),
            "has slices 1/2@0, 2/3@0: cut it once, along one axis",
        ),
        (
            (a_slice(1, 2), a_slice(2, 2, axis=1)),
            "has slices 1/2@0, 2/2@1: cut it once, along one axis",
        ),
        (
            (a_slice(1, 1, axis=2),),
            "has slices along axis 2, which its shape lacks: name one of its axes",
        ),
        (
            (a_slice(1, 2), a_slice(2, 2, shape=(3, 2))),
            "has slices that do not fit each other along axis 0: cut one array",
        ),
        (
            (a_slice(1, 2), a_slice(2, 2, shape=(6,))),
            "has slices that do not fit each other along axis 0: cut one array",
        ),
        (
            (a_slice(1, 2), a_slice(2, 2, datatype="INT32")),
            "has slices that do not fit each other along axis 0: cut one array",
        ),
        (
            (a_slice(1, 1, datatype="BYTES", shape=(0,), data=b""),),
            "is BYTES in slices: send it whole",
        ),
    ],
)
def test_slices_that_are_not_one_tensor_are_refused(
    inputs: tuple[Tensor, ...], sentence: str
) -> None:
    assert refusal(*inputs) == f"tensor 'x' {sentence}"


def test_slices_are_not_parted_by_another_tensor() -> None:
    between = Tensor.of("y", np.ones(1, np.float32))
    assert refusal(a_slice(1, 2), between, a_slice(2, 2)) == (
        "tensor 'x' has slices 1 of 2: send all, in order"
    )
    assert refusal(a_slice(1, 1), between, a_slice(1, 1)) == (
        "tensor name 'x' is empty or used twice: name each once"
    )


def test_a_tensor_is_not_both_whole_and_in_slices() -> None:
    whole = replace(a_slice(1, 1), slice=None)
    for inputs in ((whole, a_slice(1, 1)), (a_slice(1, 1), whole)):
        assert refusal(*inputs) == "tensor name 'x' is empty or used twice: name each once"


def test_small_contents_cannot_claim_many_large_slices() -> None:
    """Each is within the bound of one tensor, and all 64 would have been 16 GiB."""
    size = codecs.MAX_EXPANDED_BYTES // 4
    many = (
        Tensor(
            name="x",
            datatype="FP32",
            shape=(size,),
            data=b"small",
            codec="raw+zstd",
            slice=Slice(number=number, of=64, axis=0),
        )
        for number in range(1, 65)
    )
    assert refusal(*many) == (
        f"tensor 'x' has slices of over {codecs.MAX_EXPANDED_BYTES} bytes together: send it whole"
    )


@pytest.mark.parametrize("value", ["2/4", 3])
def test_a_malformed_slice_is_refused_by_its_input(value: str | int) -> None:
    message = pb.ModelInferRequest.FromString(a_request(a_slice(1, 1)))
    parameter = message.inputs[0].parameters["isthmus_slice"]
    if isinstance(value, int):
        parameter.int64_param = value
    else:
        parameter.string_param = value
    with pytest.raises(WireError, match=r"^input 'x': (slice '2/4'|parameter isthmus_slice is 3)"):
        wire.decode_request(message.SerializeToString())


def test_a_reply_has_no_slices() -> None:
    with pytest.raises(ValueError, match="a reply has no slices"):
        wire.encode_reply(Reply(model="m", outputs=(a_slice(1, 1),)))
    message = pb.ModelInferResponse(model_name="m")
    message.outputs.add(name="y").parameters["isthmus_slice"].string_param = "1/1@0"
    message.raw_output_contents.append(b"")
    with pytest.raises(WireError) as caught:
        wire.decode_reply(message.SerializeToString())
    assert str(caught.value) == "output 'y': it is a slice: a reply has whole tensors only"


def test_a_tensor_message_has_no_slices() -> None:
    with pytest.raises(WireError) as caught:
        envelope.pack([a_slice(1, 1)])
    assert str(caught.value) == "tensor 'x' is a slice: a tensor message has whole ones"


def test_chunks_joined_are_the_whole_request() -> None:
    x = np.random.default_rng(0).normal(size=(1, 6, 4, 4)).astype(np.float32)
    y = np.arange(8, dtype=np.int64)
    sliced = in_slices("x", x, "int8+zstd", 3)
    parts = (sliced[:1], sliced[1:2], (sliced[2], Tensor.of("y", y)))
    said: dict[str, Any] = {
        "version": "3",
        "cut": "plan-1",
        "deadline_ms": 50.0,
        "key": "k",
        "parameters": {"p": 1},
    }
    whole = Request(
        model="m", id="7", inputs=tuple(each for part in parts for each in part), **said
    )
    sent = [
        a_request(*part, chunk=(number, len(parts)), **said) for number, part in enumerate(parts, 1)
    ]
    assert [wire.route(data).chunk for data in sent] == [(1, 3), (2, 3), (3, 3)]
    back = wire.decode_request(wire.joined(sent))
    assert back == replace(whole, chunk=(3, 3))
    made = arrays(back.inputs)
    assert made["x"].tobytes() == Tensor.of("x", x, "int8").array().tobytes()
    np.testing.assert_array_equal(made["y"], y)


def test_a_chunk_is_the_standard_s_message() -> None:
    message = pb.ModelInferRequest.FromString(a_request(a_slice(1, 2), chunk=(2, 3)))
    assert message.parameters["isthmus_chunk"].string_param == "2/3"
    assert message.inputs[0].parameters["isthmus_slice"].string_param == "1/2@0"


@pytest.mark.parametrize("chunk", [(0, 1), (2, 1), (1, 65)])
def test_there_is_no_such_chunk(chunk: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"^chunk "):
        a_request(chunk=chunk)


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/65", "1/3/3", "-1/3", "1/3 "])
def test_a_malformed_chunk_is_refused(text: str) -> None:
    message = pb.ModelInferRequest(model_name="m")
    message.parameters["isthmus_chunk"].string_param = text
    for read in (wire.decode_request, wire.route):
        with pytest.raises(WireError) as caught:
            read(message.SerializeToString())
        assert str(caught.value) == (
            f"parameter isthmus_chunk is {text!r}: send number/of, such as 2/3, of at most 64"
        )
