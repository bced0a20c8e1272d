"""Tensors as Open Inference JSON writes them: a list of elements, for people and small inputs."""

import json
from itertools import chain
from typing import Any, Self

import msgspec
import numpy as np

from protos import tensors
from protos.errors import WireError
from protos.invocation import Tensor
from protos.tensors import Array

_TYPES: dict[str, tuple[type, ...]] = {
    "b": (bool,),
    "i": (int,),
    "u": (int,),
    "f": (float, int),
    "O": (str,),
}
"""Kind of a datatype's dtype -> what its elements may be in JSON."""


class JsonTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor with its elements in *data*, flat and row-major; nested lists are read, too.

    BYTES elements are texts. JSON has no NaN or infinity: they are written as null, and refused.
    """

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any]

    @classmethod
    def of(cls, name: str, array: Array) -> Self:
        r"""Write *array*; bytes that are not UTF-8 are escaped as ``\xff``.

        Raises:
            WireError: the array has no wire datatype.
        """
        datatype = tensors.datatype_of(array)
        data = array.ravel().tolist()
        if datatype == "BYTES":
            data = [_as_text(item) for item in data]
        return cls(name=name, shape=array.shape, datatype=datatype, data=data)

    def tensor(self) -> Tensor:
        """Read it as a raw tensor.

        Raises:
            WireError: the elements are not as many as *shape* says, or not of the datatype.
        """
        try:
            array = _array(self.data, self.datatype, self.shape)
            return Tensor.of(self.name, array, datatype=self.datatype)
        except WireError as error:
            raise WireError(f"tensor {self.name!r}: {error}") from error


def _array(data: list[Any], datatype: str, shape: tuple[int, ...]) -> Array:
    tensors.element_bytes(datatype)
    dtype = tensors.DATATYPES[datatype]
    while data and all(type(item) is list for item in data):
        data = list(chain.from_iterable(data))
    if len(data) != tensors.count(shape):
        raise WireError(f"{len(data)} elements came for shape {list(shape)[:9]}: send all of them")
    types = _TYPES[dtype.kind]
    for item in data:
        if type(item) not in types:
            raise WireError(f"an element of {datatype} is {_short(item)}: send {_names(types)}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(data, dtype).reshape(shape)
    except OverflowError as error:
        raise WireError(f"an element does not fit in {datatype}: send a wider datatype") from error
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise WireError(f"an element does not fit in {datatype}: send a wider datatype")
    return array


def _as_text(item: object) -> str:
    return item.decode(errors="backslashreplace") if isinstance(item, bytes) else str(item)


def _short(item: object) -> str:
    text = json.dumps(item)
    return text if len(text) <= 20 else text[:17] + "..."


def _names(types: tuple[type, ...]) -> str:
    return " or ".join(each.__name__ for each in types)
