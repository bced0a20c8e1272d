"""Tensors in one self-delimiting message."""

import json
import struct

import numpy as np
import pytest

from protos import envelope
from protos.errors import WireError
from protos.wire import Parameter, Tensor

HALF = Tensor.of("a b", np.array([0.5], np.float32))
CODED = Tensor.of("c", np.zeros((1, 2, 2, 2), np.float32), "int8")


INPUT = {"name": "x", "datatype": "UINT8", "shape": [2], "parameters": {"binary_data_size": 2}}


def a_message(header: object, contents: bytes = b"") -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return b"IST1" + struct.pack("<I", len(head)) + head + contents


def test_a_message_comes_back_whole() -> None:
    parameters: dict[str, Parameter] = {"id": "7", "timeout-ms": 50, "half": 0.5, "yes": True}
    assert envelope.unpack(envelope.pack([HALF, CODED], parameters)) == ((HALF, CODED), parameters)


def test_a_message_is_magic_then_header_length_then_header_then_contents() -> None:
    data = envelope.pack([HALF, CODED], {"id": "7"})
    (size,) = struct.unpack_from("<I", data, 4)
    assert (data[:4], data[8 + size :]) == (b"IST1", HALF.data + CODED.data)
    assert json.loads(data[8 : 8 + size]) == {
        "inputs": [
            {
                "name": "a b",
                "datatype": "FP32",
                "shape": [1],
                "parameters": {"binary_data_size": 4},
            },
            {
                "name": "c",
                "datatype": "FP32",
                "shape": [1, 2, 2, 2],
                "parameters": {"binary_data_size": 32, "isthmus_codec": "int8"},
            },
        ],
        "parameters": {"id": "7"},
    }


def test_members_of_open_inference_json_that_we_do_not_use_are_left_aside() -> None:
    header = {"id": "7", "inputs": [INPUT], "outputs": [{"name": "y"}]}
    assert envelope.unpack(a_message(header, b"\1\2")) == (
        (Tensor(name="x", datatype="UINT8", shape=(2,), data=b"\1\2"),),
        {},
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the message is not in the tensor format: begin it with IST1"),
        (b"\xff\xd8\xff\xe0 a picture", "the message is not in the tensor format: begin it"),
        (b"IST1\xff\xff\xff\xff{}", "the tensor message's header claims 4294967295 bytes: "),
        (a_message(b"[]"), "the tensor message's header is not valid: Expected `object`"),
        (a_message(b'{"a":' * 5000), "the tensor message's header is not valid: "),
        (a_message({"inputs": [{}]}), "the tensor message's header is not valid: Object missing"),
        (
            a_message({"inputs": [INPUT]}, b"\1"),
            (
                "the tensor message has 110 bytes, but its header describes 111: "
                "send it whole, and nothing after it"
            ),
        ),
        (
            a_message({"inputs": [INPUT]}, b"\1\2\3"),
            "the tensor message has 112 bytes, but its header describes 111: ",
        ),
        (
            a_message({"inputs": [{**INPUT, "parameters": {"binary_data_size": -2}}]}),
            "the tensor message's header is not valid: Expected `int` >= 0",
        ),
        (
            a_message({"inputs": [INPUT, INPUT]}, b"\1\2\1\2"),
            "tensor name 'x' is empty or used twice: name each once",
        ),
        (
            a_message({"inputs": [{**INPUT, "shape": [3]}]}, b"\1\2"),
            "tensor 'x': UINT8 of shape [3] takes 3 bytes, but there are 2: ",
        ),
        (
            a_message({"inputs": [{**INPUT, "shape": [-2]}]}, b"\1\2"),
            "tensor 'x': shape [-2] is not one: ",
        ),
    ],
)
def test_what_is_no_such_message_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(WireError) as caught:
        envelope.unpack(data)
    assert str(caught.value).startswith(sentence)


def test_a_message_that_would_be_refused_is_not_written() -> None:
    with pytest.raises(WireError, match="used twice"):
        envelope.pack([HALF, HALF])
    with pytest.raises(WireError, match=r"^the header takes 104"):
        envelope.pack([HALF], {"text": "x" * envelope.MAX_HEADER_BYTES})
