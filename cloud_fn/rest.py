"""Requests and replies as the Open Inference Protocol's JSON <-> encoded messages.

Elements are numbers, booleans or texts, flat or nested as the shape says. BYTES that are no texts
are in base64, which their tensor's parameter ``content_type`` then says, in both directions.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from cloud_fn.errors import InvalidRequest
from protos import tensors, wire
from protos.documents import decode_json
from protos.errors import WireError
from protos.invocation import Parameter, Reply, Request, StreamError, Tensor
from protos.tensors import Array

_BASE64 = "base64"
_CUT, _DEADLINE_MS = "isthmus_cut", "isthmus_deadline_ms"
_KINDS = {"BOOL": "b", "BYTES": "O"} | dict.fromkeys(("FP16", "FP32", "FP64", "BF16"), "iuf")


class _Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor's parameters."""

    content_type: str | None = None


class _Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any]
    parameters: _Content = _Content()


class _Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str = ""
    inputs: tuple[_Input, ...]
    outputs: tuple[_Output, ...] = ()
    parameters: Mapping[str, bool | int | float | str] = {}


def decode_request(data: bytes, model: str, version: str, *, what: str, id_: str = "") -> bytes:
    """Write the request for *model* that one JSON document describes.

    Args:
        data: the document.
        model: what is asked.
        version: which of it; empty is the newest.
        what: what errors call the document.
        id_: the request's id where it has none of its own.

    Raises:
        DocumentError: the document has another form.
        InvalidRequest: a tensor's data does not fit its datatype and shape.
    """
    found = decode_json(data, _Request, what=what)
    parameters: dict[str, Parameter] = dict(found.parameters)
    cut, deadline_ms = parameters.pop(_CUT, None), parameters.pop(_DEADLINE_MS, None)
    if not isinstance(cut, str | None) or not isinstance(deadline_ms, int | float | None):
        raise InvalidRequest(f"{what}: {_CUT} is a text and {_DEADLINE_MS} a number")
    try:
        return wire.encode_request(
            Request(
                model=model,
                version=version,
                id=found.id or id_,
                inputs=tuple(map(_tensor, found.inputs)),
                outputs=tuple(each.name for each in found.outputs),
                cut=cut,
                deadline_ms=deadline_ms,
                parameters=parameters,
            )
        )
    except WireError as error:
        raise InvalidRequest(f"{what}: {error}") from error


def encode_outcome(outcome: Reply | StreamError) -> bytes:
    """Write a reply, or why there is none, as one line of JSON."""
    if isinstance(outcome, StreamError):
        document: dict[str, object] = {"id": outcome.id, "error": outcome.message}
    else:
        document = {
            "model_name": outcome.model,
            "model_version": outcome.version,
            "id": outcome.id,
            "outputs": list(map(_document, outcome.outputs)),
        }
    return msgspec.json.encode(document) + b"\n"


def _tensor(given: _Input) -> Tensor:
    try:
        return Tensor.of(given.name, _array(given), datatype=given.datatype)
    except (ValueError, OverflowError, WireError) as error:
        raise WireError(f"input {given.name!r}: {error}") from error


def _array(given: _Input) -> Array:
    """The elements as an array of the datatype.

    Raises:
        ValueError | OverflowError | WireError: they do not fit it, or the shape.
    """
    size, dtype = tensors.count(given.shape), tensors.DATATYPES.get(given.datatype)
    if dtype is None:
        raise WireError(f"datatype {given.datatype!r} is unknown: use one such as FP32 or BYTES")
    flat = np.array(given.data, dtype=object if given.datatype == "BYTES" else None).reshape(-1)
    if flat.size != size:
        raise WireError(f"it has {flat.size} elements and a shape of {size}")
    if given.datatype == "BYTES":
        flat = np.array([_bytes(each, given) for each in flat], dtype=object)
    if size and flat.dtype.kind not in _KINDS.get(given.datatype, "iu"):
        raise WireError(f"its data are not all of {given.datatype}")
    made = flat.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(made, flat):
        raise WireError(f"its data do not all fit {given.datatype}")
    return made.reshape(given.shape)


def _bytes(element: object, given: _Input) -> bytes:
    if not isinstance(element, str):
        raise WireError("its data are not all texts")
    if given.parameters.content_type is None:
        return element.encode()
    if given.parameters.content_type != _BASE64:
        raise WireError(f"content_type is {given.parameters.content_type!r}: use {_BASE64}")
    try:
        return base64.b64decode(element, validate=True)
    except binascii.Error as error:
        raise WireError(f"an element is no {_BASE64}: {error}") from error


def _document(tensor: Tensor) -> dict[str, object]:
    """One output; its data are flat."""
    data = tensor.array().reshape(-1).tolist()
    document = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
    if tensor.datatype != "BYTES":
        return {**document, "data": data}
    try:
        return {**document, "data": [each.decode() for each in data]}
    except UnicodeDecodeError:
        coded = [base64.b64encode(each).decode() for each in data]
        return {**document, "parameters": {"content_type": _BASE64}, "data": coded}
