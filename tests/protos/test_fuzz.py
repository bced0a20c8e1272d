"""Round trips of anything, and garbage: a decoder gives a value or a WireError, nothing else."""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protos import codecs, envelope, frames, messages, slices, tensors, topics, wire
from protos.errors import WireError
from protos.slices import Slice
from protos.tensors import Array
from protos.wire import Reply, Request, Tensor, Timing

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
PARAMETERS = st.dictionaries(
    NAMES.filter(lambda name: not name.startswith("isthmus_")),
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=12),
    max_size=3,
)
TIMINGS = st.builds(
    lambda us: Timing.from_ms(dict(zip(Timing().to_ms(), (n / 1e3 for n in us), strict=True))),
    st.lists(st.integers(0, 10**9), min_size=5, max_size=5),
)


@st.composite
def many_tensors(draw: st.DrawFn) -> tuple[Tensor, ...]:
    def one(name: str) -> Tensor:
        datatype = draw(st.sampled_from(sorted(tensors.DATATYPES)))
        shape = draw(arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
        if datatype == "BYTES":
            array = np.empty(shape, object)
            array.flat[:] = [draw(st.binary(max_size=5)) for _ in range(array.size)]
            return Tensor.of(name, array, draw(st.sampled_from(["raw", "raw+zstd"])))
        elements = st.floats(-1e4, 1e4, width=16) if datatype in {"FP32", "BF16"} else None
        array = draw(arrays.arrays(tensors.DATATYPES[datatype], shape, elements=elements))
        names = ["raw", "raw+zstd", "fp16", "int8", "int8+zstd", "jpeg:50", "webp:50"]
        fitting = [n for n in names if codecs.suits(codecs.parse(n), datatype, shape)]
        return Tensor.of(name, array, draw(st.sampled_from(fitting)), datatype=datatype)

    return tuple(one(name) for name in draw(st.lists(NAMES, unique=True, max_size=3)))


@st.composite
def sliced(draw: st.DrawFn) -> tuple[tuple[Tensor, ...], Array]:
    """A tensor in slices, and what it would have been decoded to if it had been sent whole."""
    codec = codecs.parse(draw(st.sampled_from(["raw", "raw+zstd", "fp16", "int8", "int8+zstd"])))
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=5, max_side=6))
    count = draw(st.integers(2, 6))
    axis = slices.axis_of(codec, shape, count)
    assume(axis is not None)
    assert axis is not None
    array = draw(arrays.arrays(np.float32, shape, elements=st.floats(-1e4, 1e4, width=16)))
    parts = tuple(
        Tensor.of("x", part, codec, slice=Slice(number=number, of=count, axis=axis))
        for number, part in enumerate(slices.cut(array, count, axis), 1)
    )
    return parts, Tensor.of("x", array, codec).array()


REQUESTS = st.builds(
    Request,
    model=NAMES,
    version=st.sampled_from(["", "3"]),
    id=NAMES,
    inputs=many_tensors(),
    outputs=st.lists(NAMES, max_size=2).map(tuple),
    cut=st.none() | NAMES,
    deadline_ms=st.none() | st.floats(0.001, 1e9),
    key=st.none() | NAMES,
    chunk=st.none() | st.sampled_from([(1, 1), (2, 3), (64, 64)]),
    parameters=PARAMETERS,
)
REPLIES = st.builds(
    Reply,
    model=NAMES,
    id=NAMES,
    outputs=many_tensors(),
    timing=st.none() | TIMINGS,
    cold=st.booleans(),
    instance=st.text(st.characters(codec="utf-8"), max_size=5),
    parameters=PARAMETERS,
)


@given(REQUESTS)
def test_any_request_comes_back_whole_and_its_tensors_can_be_read(request: Request) -> None:
    data = wire.encode_request(request)
    back = wire.decode_request(data)
    assert back == request
    assert [each.array().shape for each in back.inputs] == [each.shape for each in request.inputs]
    assert wire.route(data).input_names == tuple(each.name for each in request.inputs)


@given(sliced())
def test_any_slices_joined_are_bit_for_bit_the_whole(
    drawn: tuple[tuple[Tensor, ...], Array],
) -> None:
    parts, whole = drawn
    request = wire.decode_request(wire.encode_request(Request(model="m", inputs=parts)))
    back = wire.arrays(request.inputs)["x"]
    assert (back.dtype, back.shape, back.tobytes()) == (whole.dtype, whole.shape, whole.tobytes())


@given(REQUESTS, st.data())
def test_any_request_in_chunks_is_the_request_when_they_are_joined(
    request: Request, data: st.DataObject
) -> None:
    of = data.draw(st.integers(1, 5))
    ends = data.draw(st.lists(st.integers(0, 3), min_size=of - 1, max_size=of - 1))
    where = [0, *sorted(ends), len(request.inputs)]
    sent = [
        wire.encode_request(
            replace(
                request,
                inputs=request.inputs[start:end],
                outputs=request.outputs if number == 1 else (),
                chunk=(number, of),
            )
        )
        for number, (start, end) in enumerate(pairwise(where), 1)
    ]
    joined = wire.joined(sent)
    assert wire.decode_request(joined) == replace(request, chunk=(of, of))
    assert wire.route(joined).chunk == (of, of)


@given(REPLIES, TIMINGS)
def test_any_reply_comes_back_whole_stamped_or_not(reply: Reply, timing: Timing) -> None:
    data = wire.encode_reply(reply)
    assert wire.decode_reply(data) == reply
    assert wire.decode_stream_reply(wire.encode_stream_reply(data)) == reply
    stamped = wire.decode_reply(wire.stamp_reply(data, timing, cold=True, instance="i"))
    assert (stamped.outputs, stamped.timing, stamped.cold) == (reply.outputs, timing, True)


@given(many_tensors(), PARAMETERS)
def test_any_tensors_come_back_whole_from_one_message(
    inputs: tuple[Tensor, ...], parameters: dict[str, wire.Parameter]
) -> None:
    assert envelope.unpack(envelope.pack(inputs, parameters)) == (inputs, parameters)


def read_request(data: bytes) -> None:
    wire.route(data)
    inputs = wire.decode_request(data).inputs
    with suppress(WireError):
        wire.arrays(inputs)
    for each in inputs:
        with suppress(WireError):
            each.array()


def read_envelope(data: bytes) -> None:
    for each in envelope.unpack(data)[0]:
        with suppress(WireError):
            each.array()


def read_frame(data: bytes) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(data)
        left.close()
        frames.recv_frame(right, max_body_bytes=1 << 20)


def read_turn(data: bytes) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(data)
        left.close()
        frames.Turns(right, max_body_bytes=1 << 20).receive()


def read_topic(data: bytes) -> None:
    topics.parse(data.decode("latin-1"))


def read_messages(data: bytes) -> None:
    for type_ in (messages.Status, messages.Desired, messages.InferResult):
        with suppress(WireError):
            messages.decode(data, type_, what="message")
    for each in messages.decode(data, messages.InferRequest, what="message").inputs:
        each.tensor()


def read_codec(name: str, datatype: str, *shape: int) -> Callable[[bytes], object]:
    return lambda data: codecs.decode(codecs.parse(name), data, datatype, shape)


ARRAY = np.linspace(-1, 1, 2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
PHOTO = np.arange(16 * 16 * 3).astype(np.uint8).reshape(16, 16, 3)
TEXTS = np.array([b"one", b"", b"three"], object)
REQUEST = Request(
    model="lenet",
    inputs=(Tensor.of("x", ARRAY, "int8+zstd"), Tensor.of("t", TEXTS)),
    cut="plan-1",
    deadline_ms=5.0,
)
REPLY = wire.encode_reply(Reply(model="lenet", timing=Timing(), outputs=REQUEST.inputs))
HEADER = b'{"id":"7"}'

SLICES = tuple(
    Tensor.of("x", part, "int8+zstd", slice=Slice(number=number, of=2, axis=1))
    for number, part in enumerate(slices.cut(ARRAY, 2, 1), 1)
)
SEEDS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "request": (read_request, wire.encode_request(REQUEST)),
    "slices": (
        read_request,
        wire.encode_request(Request(model="m", id="7", inputs=SLICES, chunk=(1, 1))),
    ),
    "slice": (lambda data: slices.parse(data.decode("latin-1")), b"2/4@1"),
    "reply": (wire.decode_reply, REPLY),
    "stream": (wire.decode_stream_reply, wire.encode_stream_reply(REPLY)),
    "envelope": (read_envelope, envelope.pack(REQUEST.inputs, {"id": "7"})),
    "frame": (read_frame, struct.pack("<4sIQ", b"ISF1", len(HEADER), 4) + HEADER + b"body"),
    "turn": (read_turn, struct.pack("<4sIQ", b"ISF1", len(HEADER), 4) + HEADER + b"body"),
    "topic": (read_topic, topics.Topics(device="cam").infer("lenet", "req").encode()),
    "message": (
        read_messages,
        b'{"id":"7","inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[[1],[2.5]]}]}',
    ),
    "codec name": (lambda data: codecs.parse(data.decode("latin-1")), b"jpeg:90"),
    "raw": (read_codec("raw", "FP32", *ARRAY.shape), ARRAY.tobytes()),
    "bytes": (read_codec("raw", "BYTES", 3), tensors.to_raw(TEXTS)),
    "bool": (read_codec("raw", "BOOL", 4), bytes(4)),
    "bf16": (read_codec("raw", "BF16", 4), bytes(8)),
    "fp16": (read_codec("fp16", "FP32", 2), bytes(4)),
    "int8": (
        read_codec("int8", "FP32", *ARRAY.shape),
        codecs.encode(codecs.parse("int8"), ARRAY),
    ),
    "zstd": (
        read_codec("int8+zstd", "FP32", *ARRAY.shape),
        codecs.encode(codecs.parse("int8+zstd"), ARRAY),
    ),
    "webp": (
        read_codec("webp:50", "UINT8", *PHOTO.shape),
        codecs.encode(codecs.parse("webp:50"), PHOTO),
    ),
    "jpeg": (
        read_codec("jpeg:50", "UINT8", *PHOTO.shape),
        codecs.encode(codecs.parse("jpeg:50"), PHOTO),
    ),
}


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Overwrite, insert, delete or cut at a few places, or keep none of it."""
    if draw(st.integers(0, 9)) == 0:
        whole = draw(st.binary(max_size=64))
        return lambda _: whole
    edits = draw(
        st.lists(
            st.tuples(
                st.floats(0, 1, exclude_max=True),
                st.sampled_from(["set", "insert", "delete", "cut"]),
                st.binary(min_size=1, max_size=4),
            ),
            max_size=4,
        )
    )

    def mutate(data: bytes) -> bytes:
        for place, kind, new in edits:
            at = int(place * len(data))
            rest = {"set": len(new), "insert": 0, "delete": 1, "cut": len(data)}[kind]
            inserted = new if kind in {"set", "insert"} else b""
            data = data[:at] + inserted + data[at + rest :]
        return data

    return mutate


@pytest.mark.parametrize("seed", SEEDS)
@given(mutate=mutations())
@example(mutate=lambda _: b"")
@example(mutate=lambda data: data)
@settings(max_examples=200)
def test_garbage_is_refused_with_a_sentence_and_nothing_else(
    seed: str, mutate: Callable[[bytes], bytes]
) -> None:
    read, good = SEEDS[seed]
    with suppress(WireError):
        read(mutate(good))


@pytest.mark.parametrize("seed", SEEDS)
def test_each_seed_is_good_before_it_is_broken(seed: str) -> None:
    read, good = SEEDS[seed]
    read(good)
