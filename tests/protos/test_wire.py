"""Requests and replies as Open Inference messages."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message

from protos import wire
from protos.errors import WireError
from protos.gen import open_inference_pb2 as pb
from protos.tensors import Array
from protos.wire import Reply, Request, Route, StreamError, Tensor, Timing, Waits

TIMING = Timing(trigger_s=0.001, init_s=0.02, load_s=0.003, infer_s=0.0104, response_s=0.0005)


TENSOR = Tensor.of("x", np.ones((1, 2), np.float32))
REQUEST = Request(model="lenet", id="7", inputs=(TENSOR,))
WAITS = ("isthmus_requests", "isthmus_queue_ms", "isthmus_cold_chance", "isthmus_cold_ms")
REPLY = Reply(model="lenet", version="3", id="7", outputs=(TENSOR,))


def a_message(datatype: str = "FP32", shape: tuple[int, ...] = (2,)) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="lenet")
    message.inputs.add(name="x", datatype=datatype, shape=shape)
    return message


def refusal(message: Message) -> str:
    with pytest.raises(WireError) as caught:
        wire.decode_request(message.SerializeToString())
    return str(caught.value)


def an_object_array(*items: bytes) -> Array:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_a_request_comes_back_whole() -> None:
    request = Request(
        model="lenet",
        version="3",
        id="7",
        inputs=(
            Tensor.of("a/b:c d", np.ones((1, 3, 4, 4), np.float32), "int8+zstd"),
            Tensor.of("bytes", an_object_array(b"\xff\xd8")),
            Tensor.of("none", np.empty((0, 4), np.int64)),
        ),
        outputs=("label", "score"),
        cut="plan-7f3",
        deadline_ms=99.5,
        key="k-1",
        chunk=(1, 1),
        parameters={"yes": True, "one": 1, "most": 2**64 - 1, "half": 0.5, "text": "ü"},
    )
    assert wire.decode_request(wire.encode_request(request)) == request


def test_what_a_request_leaves_out_is_not_sent() -> None:
    message = pb.ModelInferRequest.FromString(wire.encode_request(REQUEST))
    assert (dict(message.parameters), dict(message.inputs[0].parameters)) == ({}, {})
    assert wire.decode_request(message.SerializeToString()) == REQUEST


def test_a_request_is_the_standard_s_message() -> None:
    """Ours appends raw contents by hand; protobuf must read the same as if it had written them."""
    message = pb.ModelInferRequest(model_name="lenet", id="7")
    message.parameters["isthmus_cut"].string_param = "plan-1"
    message.parameters["isthmus_deadline_ms"].double_param = 50
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    message.raw_input_contents.append(np.ones(2, np.float32).tobytes())
    ours = wire.encode_request(replace(REQUEST, cut="plan-1", deadline_ms=50.0))
    assert pb.ModelInferRequest.FromString(ours) == message


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 3_000_000])
def test_contents_of_any_size_are_framed_rightly(size: int) -> None:
    request = replace(
        REQUEST, inputs=(replace(TENSOR, datatype="UINT8", shape=(size,), data=bytes(size)),)
    )
    assert wire.decode_request(wire.encode_request(request)) == request


def test_a_tensor_keeps_its_decoded_type_and_shape_whatever_the_codec() -> None:
    array = np.linspace(0, 1, 32, dtype=np.float32).reshape(1, 2, 4, 4)
    tensor = Tensor.of("x", array, "int8+zstd")
    assert (tensor.datatype, tensor.shape, tensor.codec) == ("FP32", (1, 2, 4, 4), "int8+zstd")
    np.testing.assert_allclose(tensor.array(), array, atol=0.002)


def test_a_tensor_of_bf16_is_asked_for() -> None:
    tensor = Tensor.of("x", np.array([1, -2], np.float32), datatype="BF16")
    assert (tensor.datatype, len(tensor.data)) == ("BF16", 4)
    assert tensor.array().tolist() == [1, -2]


def test_a_tensor_that_its_codec_cannot_write_is_refused_by_name() -> None:
    with pytest.raises(WireError) as caught:
        Tensor.of("x", np.array([1e9], np.float32), "fp16")
    assert str(caught.value) == (
        "tensor 'x': a value is beyond 65504, which fp16 cannot hold: send the tensor raw"
    )


def test_contents_that_are_not_the_tensor_are_refused_by_name_when_they_are_decoded() -> None:
    tensor = replace(TENSOR, data=b"", codec="int8")
    assert wire.decode_request(wire.encode_request(replace(REQUEST, inputs=(tensor,)))).inputs == (
        tensor,
    )
    with pytest.raises(WireError) as caught:
        tensor.array()
    assert str(caught.value) == (
        "tensor 'x': int8 contents end within their header: send them whole"
    )


@pytest.mark.parametrize(
    ("datatype", "field", "values", "array"),
    [
        ("BOOL", "bool_contents", [True, False], np.array([True, False])),
        ("INT8", "int_contents", [-128, 127], np.array([-128, 127], np.int8)),
        ("INT16", "int_contents", [-1, 300], np.array([-1, 300], np.int16)),
        ("INT32", "int_contents", [-1, 2**31 - 1], np.array([-1, 2**31 - 1], np.int32)),
        ("INT64", "int64_contents", [-1, 2**40], np.array([-1, 2**40], np.int64)),
        ("UINT8", "uint_contents", [0, 255], np.array([0, 255], np.uint8)),
        ("UINT16", "uint_contents", [0, 65535], np.array([0, 65535], np.uint16)),
        ("UINT32", "uint_contents", [0, 2**32 - 1], np.array([0, 2**32 - 1], np.uint32)),
        ("UINT64", "uint64_contents", [0, 2**64 - 1], np.array([0, 2**64 - 1], np.uint64)),
        ("FP32", "fp32_contents", [0.5, -3e38], np.array([0.5, -3e38], np.float32)),
        ("FP64", "fp64_contents", [0.1, 1e300], np.array([0.1, 1e300])),
        ("BYTES", "bytes_contents", [b"", b"\xff"], an_object_array(b"", b"\xff")),
    ],
)
def test_typed_contents_are_read_as_if_they_had_been_raw(
    datatype: str, field: str, values: list[Any], array: Array
) -> None:
    message = a_message(datatype)
    getattr(message.inputs[0].contents, field).extend(values)
    inputs = wire.decode_request(message.SerializeToString()).inputs
    assert inputs == (Tensor.of("x", array),)
    assert inputs[0].datatype == datatype


def test_typed_contents_that_are_not_the_tensor_are_refused() -> None:
    message = a_message("INT8")
    message.inputs[0].contents.int_contents.extend([1, 128])
    assert refusal(message) == "input 'x': an element does not fit in INT8: send a wider datatype"
    message.inputs[0].contents.int_contents.pop()
    assert refusal(message) == ("input 'x': the shape takes 2 elements, but 1 came: send those")
    message.inputs[0].datatype = "FP32"
    assert refusal(message) == (
        "input 'x': FP32 contents are in int_contents: put them in fp32_contents"
    )
    message.inputs[0].datatype = "FP16"
    assert refusal(message) == ("input 'x': FP16 has no typed contents: send it as raw contents")


def test_an_input_without_contents_is_refused() -> None:
    assert refusal(a_message()) == "input 'x': the shape takes 2 elements, but 0 came: send those"


def test_both_kinds_of_contents_at_once_are_refused() -> None:
    message = a_message()
    message.inputs[0].contents.fp32_contents.extend([1, 2])
    message.raw_input_contents.append(bytes(8))
    assert refusal(message) == ("input 'x': it has both typed and raw contents: send one of them")


def test_raw_contents_must_be_one_for_each_input_and_of_its_size() -> None:
    message = a_message()
    message.raw_input_contents.append(bytes(7))
    assert refusal(message) == (
        "tensor 'x': FP32 of shape [2] takes 8 bytes, but there are 7: "
        "send exactly the tensor's elements"
    )
    message.raw_input_contents.append(bytes(8))
    assert refusal(message) == "2 raw contents came for 1 inputs: send one for each"


def test_typed_contents_cannot_be_coded() -> None:
    message = a_message()
    message.inputs[0].parameters["isthmus_codec"].string_param = "int8"
    message.inputs[0].contents.fp32_contents.extend([1, 2])
    assert refusal(message) == (
        "input 'x': typed contents cannot be coded as int8: send raw contents"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": ""}, "tensor name '' is empty or used twice: name each once"),
        (
            {"codec": "zip"},
            (
                "tensor 'x': codec 'zip' is unknown: use raw, fp16 or int8, each with or without "
                "+zstd, jpeg:90 or webp:75"
            ),
        ),
        (
            {"codec": "jpeg:90"},
            (
                "tensor 'x': codec jpeg:90 does not suit FP32 of shape [1, 2]: use raw "
                "(fp16 and int8 take FP32; jpeg takes UINT8 images, height x width x 3, or grey; "
                "webp those with 3)"
            ),
        ),
        (
            {"shape": (-1, 2), "codec": "int8"},
            "tensor 'x': shape [-1,2] is not one: use at most 64 sizes, none below 0",
        ),
    ],
)
def test_a_malformed_tensor_is_refused_by_name(changes: dict[str, Any], sentence: str) -> None:
    request = replace(REQUEST, inputs=(replace(TENSOR, **changes),))
    with pytest.raises(WireError) as caught:
        wire.decode_request(wire.encode_request(request))
    assert str(caught.value) == sentence


def test_a_name_used_twice_is_refused() -> None:
    request = replace(REQUEST, inputs=(TENSOR, TENSOR))
    with pytest.raises(WireError) as caught:
        wire.decode_request(wire.encode_request(request))
    assert str(caught.value) == "tensor name 'x' is empty or used twice: name each once"


def test_a_request_without_a_model_is_refused() -> None:
    message = a_message()
    message.model_name = ""
    assert refusal(message) == "the request names no model: set model_name"


def test_bytes_that_are_no_message_are_refused() -> None:
    with pytest.raises(WireError, match=r"^the request is not an Open Inference message: "):
        wire.decode_request(b"GET / HTTP/1.1")


@pytest.mark.parametrize("name", ["shared_memory_region", "classification"])
def test_what_would_be_answered_wrongly_is_refused(name: str) -> None:
    """These parameters change what contents mean; ignoring them would look like an answer."""
    message = a_message()
    message.raw_input_contents.append(bytes(8))
    message.outputs.add(name="y").parameters[name].int64_param = 3
    assert refusal(message) == (f"output 'y' uses {name}, which is not served: use plain contents")


def test_a_parameter_without_a_value_is_refused() -> None:
    message = a_message()
    message.parameters["p"].SetInParent()
    assert refusal(message) == "request parameter 'p' has no value: leave it out or set one"


def test_our_parameters_must_be_of_their_types() -> None:
    message = a_message()
    message.parameters["isthmus_cut"].int64_param = 3
    message.raw_input_contents.append(bytes(8))
    assert refusal(message) == "parameter isthmus_cut is 3: send a str"


@pytest.mark.parametrize(
    ("field", "value"), [("int64_param", 50), ("uint64_param", 50), ("double_param", 50.0)]
)
def test_a_deadline_may_be_any_kind_of_number(field: str, value: float) -> None:
    message = pb.ModelInferRequest(model_name="lenet")
    setattr(message.parameters["isthmus_deadline_ms"], field, value)
    assert wire.decode_request(message.SerializeToString()).deadline_ms == 50.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("int64_param", 0),
        ("int64_param", -5),
        ("double_param", float("nan")),
        ("double_param", float("inf")),
        ("bool_param", True),
        ("string_param", "50"),
    ],
)
def test_a_deadline_that_is_no_time_is_refused(field: str, value: object) -> None:
    message = pb.ModelInferRequest(model_name="lenet")
    setattr(message.parameters["isthmus_deadline_ms"], field, value)
    assert refusal(message) == (
        f"parameter isthmus_deadline_ms is {value!r}: send a positive number of milliseconds"
    )


def test_a_route_is_the_request_without_its_tensors() -> None:
    request = replace(
        REQUEST,
        version="3",
        outputs=("y",),
        cut="plan-1",
        deadline_ms=20.0,
        key="k",
        chunk=(2, 3),
        parameters={"p": 1},
    )
    assert wire.route(wire.encode_request(request)) == Route(
        model="lenet",
        version="3",
        id="7",
        input_names=("x",),
        outputs=("y",),
        cut="plan-1",
        deadline_ms=20.0,
        key="k",
        chunk=(2, 3),
    )


def test_a_route_is_found_whatever_the_contents_are() -> None:
    """Only the instance decodes; the gateway must not trip over what it does not read."""
    message = a_message("FP31", (-1,))
    assert wire.route(memoryview(message.SerializeToString())).input_names == ("x",)


def test_a_reply_comes_back_whole() -> None:
    reply = replace(REPLY, timing=TIMING, cold=True, instance="host-1/2", parameters={"p": 1})
    assert wire.decode_reply(wire.encode_reply(reply)) == reply


def test_typed_outputs_of_other_servers_are_read() -> None:
    message = pb.ModelInferResponse(model_name="lenet")
    output = message.outputs.add(name="y", datatype="FP32", shape=[1])
    output.contents.fp32_contents.append(0.5)
    assert wire.decode_reply(message.SerializeToString()) == Reply(
        model="lenet", outputs=(Tensor.of("y", np.array([0.5], np.float32)),)
    )


def test_a_stamp_adds_timing_and_instance_and_touches_nothing_else() -> None:
    reply = replace(REPLY, parameters={"p": 1})
    stamped = wire.stamp_reply(wire.encode_reply(reply), TIMING, cold=False, instance="i-1")
    assert wire.decode_reply(stamped) == replace(reply, timing=TIMING, cold=False, instance="i-1")
    message = pb.ModelInferResponse.FromString(stamped)
    assert message.parameters["isthmus_cold"].bool_param is False
    assert "isthmus_cold" in message.parameters


def test_the_last_stamp_wins() -> None:
    once = wire.stamp_reply(wire.encode_reply(REPLY), Timing(), cold=True, instance="i-1")
    twice = wire.stamp_reply(memoryview(once), TIMING, cold=False, instance="i-2")
    assert wire.decode_reply(twice) == replace(REPLY, timing=TIMING, cold=False, instance="i-2")


def test_a_stamp_may_say_how_requests_waited_lately() -> None:
    waits = Waits(requests=3, queue_s=0.25, cold_chance=0.5, cold_s=2.0)
    stamped = wire.stamp_reply(
        wire.encode_reply(REPLY), TIMING, cold=False, instance="i-1", waits=waits
    )
    assert wire.decode_reply(stamped) == replace(REPLY, timing=TIMING, instance="i-1", waits=waits)
    assert wire.decode_reply(wire.encode_reply(replace(REPLY, waits=waits))).waits == waits
    sent = pb.ModelInferResponse.FromString(stamped).parameters
    assert (sent["isthmus_queue_ms"].double_param, sent["isthmus_cold_ms"].double_param) == (
        250.0,
        2000.0,
    )


@pytest.mark.parametrize(
    "waits",
    [
        {"isthmus_queue_ms": 1.0},
        {"isthmus_requests": 1, "isthmus_queue_ms": 1.0, "isthmus_cold_chance": 0.5},
        dict(zip(WAITS, (-1, 1.0, 0.5, 1.0), strict=True)),
        dict(zip(WAITS, (1, -1.0, 0.5, 1.0), strict=True)),
        dict(zip(WAITS, (1, 1.0, 1.5, 1.0), strict=True)),
        dict(zip(WAITS, (1, 1.0, 0.5, float("nan")), strict=True)),
    ],
)
def test_a_reply_with_broken_waits_is_refused(waits: dict[str, wire.Parameter]) -> None:
    with pytest.raises(WireError, match=r"^the waits are .* send a count, ms, a share and ms$"):
        wire.decode_reply(wire.encode_reply(replace(REPLY, parameters=waits)))


def test_a_reply_with_a_broken_timing_is_refused() -> None:
    message = pb.ModelInferResponse(model_name="lenet")
    message.parameters["isthmus_timing"].string_param = "soon"
    with pytest.raises(WireError, match=r"^timing is not a JSON object: "):
        wire.decode_reply(message.SerializeToString())


def test_a_stream_carries_replies_and_errors() -> None:
    reply = wire.encode_stream_reply(wire.encode_reply(REPLY))
    assert wire.decode_stream_reply(reply) == REPLY
    error = wire.encode_stream_error("7", "no such model")
    assert wire.decode_stream_reply(error) == StreamError(id="7", message="no such model")


def test_a_stream_error_is_never_taken_for_a_reply() -> None:
    """The standard tells them apart by the message alone."""
    assert wire.decode_stream_reply(wire.encode_stream_error("7", "")) == StreamError(
        id="7", message="unknown error"
    )


def test_a_stream_reply_is_the_standard_s_message() -> None:
    reply = wire.encode_reply(REPLY)
    message = pb.ModelStreamInferResponse.FromString(wire.encode_stream_reply(reply))
    assert message == pb.ModelStreamInferResponse(
        infer_response=pb.ModelInferResponse.FromString(reply)
    )
