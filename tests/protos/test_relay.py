"""Tensors move between messages without being read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import relay, wire
from protos.errors import WireError
from protos.gen import open_inference_pb2 as pb
from protos.invocation import Reply, Request, Tensor, arrays
from protos.slices import Slice

A = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
NAMES = np.array([b"one", b"", b"three"], object)


def test_what_one_stage_answers_is_what_the_next_is_asked() -> None:
    outputs = (Tensor.of("a", A), Tensor.of("half", A, "fp16"), Tensor.of("names", NAMES))
    reply = wire.encode_reply(Reply(model="m", version="1", outputs=outputs))
    parcels = relay.outputs_of(reply)
    asked = Request(model="m", version="1", id="7", outputs=("y",), key="k")
    request = wire.decode_request(
        relay.request_of(asked, [parcels["names"], parcels["half"], parcels["a"]])
    )
    assert request.inputs == (outputs[2], outputs[1], outputs[0])
    assert (request.id, request.outputs, request.key) == ("7", ("y",), "k")


def test_inputs_come_back_as_outputs_and_slices_stay_together() -> None:
    cut = tuple(
        Tensor.of("a", part, slice=Slice(number=n, of=3, axis=1))
        for n, part in enumerate(np.array_split(A, 3, 1), start=1)
    )
    request = wire.encode_request(Request(model="m", inputs=(*cut, Tensor.of("b", A))))
    parcels = relay.inputs_of(request)
    assert [(name, parcel.nbytes) for name, parcel in parcels.items()] == [("a", 48), ("b", 48)]
    again = wire.decode_request(relay.request_of(Request(model="m"), parcels.values()))
    np.testing.assert_array_equal(arrays(again.inputs)["a"], A)
    answered = wire.decode_reply(relay.reply_of(Reply(model="m", id="3"), [parcels["b"]]))
    assert (answered.id, answered.outputs) == ("3", (Tensor.of("b", A),))


def test_typed_contents_become_raw_ones() -> None:
    message = pb.ModelInferRequest(model_name="m")
    typed = message.inputs.add(name="x", datatype="FP32", shape=[2])
    typed.contents.fp32_contents.extend([1.5, 2.5])
    parcels = relay.inputs_of(message.SerializeToString())
    again = wire.decode_request(relay.request_of(Request(model="m"), parcels.values()))
    assert again.inputs == (Tensor.of("x", np.array([1.5, 2.5], np.float32)),)


def test_contents_are_views_of_the_message_and_keep_their_bytes_under_another_name() -> None:
    data = wire.encode_reply(Reply(model="m", outputs=(Tensor.of("a", A, "fp16"),)))
    parcel = relay.outputs_of(data)["a"]
    (view,) = parcel.contents
    assert isinstance(view, memoryview)
    assert view.obj is data
    other = relay.renamed(parcel, "b")
    assert other.contents is parcel.contents
    answered = wire.decode_reply(relay.reply_of(Reply(model="m"), [other]))
    assert answered.outputs == (Tensor.of("b", A, "fp16"),)


def test_contents_without_a_tensor_and_tensors_without_contents_are_refused() -> None:
    message = pb.ModelInferResponse(model_name="m", raw_output_contents=[b"1234"])
    with pytest.raises(WireError, match="1 raw contents came for 0 outputs: send one for each"):
        relay.outputs_of(message.SerializeToString())
    message = pb.ModelInferResponse(model_name="m")
    message.outputs.add(name="x", datatype="FP32", shape=[1])
    with pytest.raises(WireError, match="0 raw contents came for 1 outputs"):
        relay.outputs_of(message.SerializeToString())


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_has_parcels_that_lie_within_it(data: bytes) -> None:
    try:
        parcels = relay.outputs_of(data)
    except WireError:
        return
    assert sum(parcel.nbytes for parcel in parcels.values()) <= len(data)


@given(st.integers(0, 400))
def test_a_message_that_is_cut_short_never_yields_more_than_the_whole(cut: int) -> None:
    whole = wire.encode_reply(
        Reply(model="m", outputs=(Tensor.of("a", A), Tensor.of("names", NAMES)))
    )
    short = whole[: min(cut, len(whole) - 1)]
    try:
        parcels = relay.outputs_of(short)
    except WireError:
        return
    assert parcels == {}
