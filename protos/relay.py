"""Tensors moved from one encoded message into another, their contents unread and uncopied.

What one stage of a chain answers is what the next one is asked: the standard describes input and
output tensors with the same fields, so a description moves as it is, and raw contents as bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from google.protobuf.message import DecodeError

from protos import wire
from protos.errors import WireError
from protos.gen import open_inference_pb2 as pb
from protos.invocation import Reply, Request
from protos.tensors import Buffer

_INPUTS = pb.ModelInferRequest.INPUTS_FIELD_NUMBER
_RAW_INPUTS = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_OUTPUTS = pb.ModelInferResponse.OUTPUTS_FIELD_NUMBER
_RAW_OUTPUTS = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER

_LENGTH_DELIMITED = 2
_FIXED_BYTES = {1: 8, 5: 4}
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A tensor as it lies in a message: how it is described, and its raw contents.

    There are several of each where it came in slices. Both are views of the message, which stays in
    memory for as long as one of its parcels does.
    """

    name: str
    described: tuple[Buffer, ...]
    contents: tuple[Buffer, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the contents."""
        return sum(map(len, self.contents))


def inputs_of(data: Buffer) -> dict[str, Parcel]:
    """The inputs of an encoded ModelInferRequest by name, in order.

    Typed contents, as foreign clients send them, are written anew as raw ones.

    Raises:
        WireError: it is no such message, or has not as many contents as inputs.
    """
    described, contents = _parts(data, _INPUTS, _RAW_INPUTS)
    if described and not contents:
        request = wire.decode_request(data)
        again = wire.encode_request(Request(model=request.model, inputs=request.inputs))
        described, contents = _parts(again, _INPUTS, _RAW_INPUTS)
    return _parcels(described, contents, "input")


def outputs_of(data: Buffer) -> dict[str, Parcel]:
    """The outputs of an encoded ModelInferResponse with raw contents, by name, in order.

    Raises:
        WireError: it is no such message, or has not as many contents as outputs.
    """
    return _parcels(*_parts(data, _OUTPUTS, _RAW_OUTPUTS), "output")


def request_of(request: Request, parcels: Iterable[Parcel]) -> bytes:
    """Write *request*, which has no inputs of its own, with *parcels* as its inputs."""
    return _joined(wire.encode_request(request), parcels, _INPUTS, _RAW_INPUTS)


def reply_of(reply: Reply, parcels: Iterable[Parcel]) -> bytes:
    """Write *reply*, which has no outputs of its own, with *parcels* as its outputs."""
    return _joined(wire.encode_reply(reply), parcels, _OUTPUTS, _RAW_OUTPUTS)


def renamed(parcel: Parcel, name: str) -> Parcel:
    """The same contents under another name."""
    return replace(
        parcel, name=name, described=tuple(_named(each, name) for each in parcel.described)
    )


def _named(described: Buffer, name: str) -> bytes:
    message = _described(described)
    message.name = name
    return message.SerializeToString()


def _described(data: Buffer) -> pb.ModelInferRequest.InferInputTensor:
    """A tensor's description; an output's has the same fields."""
    try:
        return pb.ModelInferRequest.InferInputTensor.FromString(bytes(data))
    except DecodeError as error:
        raise WireError(f"the message describes no tensor: {error}") from error


def _parcels(described: list[Buffer], contents: list[Buffer], side: str) -> dict[str, Parcel]:
    if len(described) != len(contents):
        raise WireError(
            f"{len(contents)} raw contents came for {len(described)} {side}s: send one for each"
        )
    found: dict[str, tuple[list[Buffer], list[Buffer]]] = {}
    for each, raw in zip(described, contents, strict=True):
        mine = found.setdefault(_described(each).name, ([], []))
        mine[0].append(each)
        mine[1].append(raw)
    return {
        name: Parcel(name=name, described=tuple(some), contents=tuple(raw))
        for name, (some, raw) in found.items()
    }


def _joined(head: bytes, parcels: Iterable[Parcel], number: int, raw_number: int) -> bytes:
    those = list(parcels)
    parts: list[Buffer] = [head]
    for one, field in ((number, "described"), (raw_number, "contents")):
        for parcel in those:
            for body in getattr(parcel, field):
                parts += (_varint(one << 3 | _LENGTH_DELIMITED), _varint(len(body)), body)
    return b"".join(parts)


def _parts(data: Buffer, number: int, raw_number: int) -> tuple[list[Buffer], list[Buffer]]:
    """The bodies of two of a message's fields, without looking into them."""
    found: Mapping[int, list[Buffer]] = {number: [], raw_number: []}
    for field, body in _fields(memoryview(data).cast("B")):
        if field in found:
            found[field].append(body)
    return found[number], found[raw_number]


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and body of each field of a message."""
    at, end = 0, len(view)
    while at < end:
        key, at = _number(view, at)
        kind = key & 7
        start = at
        if kind == _LENGTH_DELIMITED:
            size, start = _number(view, at)
            at = start + size
        elif kind == 0:
            _, at = _number(view, at)
        elif kind in _FIXED_BYTES:
            at += _FIXED_BYTES[kind]
        else:
            raise WireError(f"there is no protobuf field at byte {start}: send a whole message")
        if at > end:
            raise WireError(f"the field at byte {start} is cut short: send the whole message")
        if kind == _LENGTH_DELIMITED:
            yield key >> 3, view[start:at]


def _number(view: memoryview, at: int) -> tuple[int, int]:
    """A protobuf varint and where it ends."""
    value = 0
    for index in range(at, min(at + _LONGEST_VARINT, len(view))):
        byte = view[index]
        value |= (byte & 0x7F) << 7 * (index - at)
        if byte < 0x80:
            return value, index + 1
    raise WireError(f"the number at byte {at} is cut short: send the whole message")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
