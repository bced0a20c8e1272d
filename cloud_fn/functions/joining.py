"""Several requests' arrays as one batch along axis 0, and the batch's answers cut apart again."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias

import numpy as np

from cloud_fn.errors import CloudError
from planner.graph import UNKNOWN, TensorInfo
from protos.errors import WireError
from protos.tensors import DATATYPES, datatype_of

Arrays: TypeAlias = Mapping[str, np.ndarray]
Run: TypeAlias = Callable[[Arrays], Arrays]


class Unbatchable(CloudError):
    """The model cannot answer several requests at once, or not as it answers each alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much of a batch a request is.

    Requests with the same ``key`` may be joined; ``rows`` is their size of axis 0, and ``length``
    that of axis 1 of the inputs that are padded, 0 where there are none.
    """

    key: Hashable
    rows: int
    length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a piece takes and gives, as far as it matters for joining.

    Attributes:
        inputs: all of them; axis 0 of each is unknown until a request is there.
        pad: the inputs whose axis 1 may differ between requests, and what they are padded with.
        cut: the outputs whose axis 1 is as long as that of those inputs.
    """

    inputs: Mapping[str, TensorInfo]
    pad: Mapping[str, float] = field(default_factory=dict)
    cut: frozenset[str] = frozenset()

    @classmethod
    def of(cls, inputs: Sequence[TensorInfo], pad: Mapping[str, float]) -> Self:
        """The form of a piece with these *inputs*.

        Raises:
            Unbatchable: axis 0 of an input is fixed, or *pad* does not suit the inputs.
        """
        infos = {info.name: info for info in inputs}
        for name, info in infos.items():
            if not info.shape or info.shape[0] != UNKNOWN:
                raise Unbatchable(
                    f"axis 0 of input {name!r} is fixed: publish the model with a dynamic one"
                )
        for name, value in pad.items():
            _check_pad(infos, name, value)
        return cls(inputs=infos, pad=dict(pad))

    def extent(self, inputs: Arrays) -> Extent | None:
        """How a request would take part in a batch; None where it must run alone.

        That may be because the piece cannot run on it at all: run it, and the piece says so.
        """
        if inputs.keys() != self.inputs.keys() or not inputs:
            return None
        if not all(_fits(inputs[name], info) for name, info in self.inputs.items()):
            return None
        rows = {array.shape[0] for array in inputs.values()}
        lengths = {inputs[name].shape[1] for name in self.pad}
        if len(rows) != 1 or len(lengths) > 1 or 0 in rows | lengths:
            return None
        key = tuple(inputs[name].shape[2 if name in self.pad else 1 :] for name in self.inputs)
        return Extent(key=key, rows=rows.pop(), length=lengths.pop() if lengths else 0)

    def join(self, requests: Sequence[Arrays], extents: Sequence[Extent]) -> Arrays:
        """The batch of *requests*, one after the other; a single one is given as it is."""
        if len(requests) == 1:
            return requests[0]
        return {
            name: _padded([each[name] for each in requests], extents, self.pad[name])
            if name in self.pad and len({each.length for each in extents}) > 1
            else np.concatenate([each[name] for each in requests])
            for name in self.inputs
        }

    def split(self, made: Arrays, extents: Sequence[Extent]) -> list[dict[str, np.ndarray]]:
        """Each request's part of what a batch made, as views of it.

        Raises:
            Unbatchable: an output has not one row for each of the batch, or a padded output is not
                as long as the inputs.
        """
        rows, longest = sum(each.rows for each in extents), max(each.length for each in extents)
        for name, array in made.items():
            if array.ndim == 0 or array.shape[0] != rows:
                raise Unbatchable(
                    f"output {name!r} has shape {list(array.shape)} for {rows} rows of input: its "
                    "axis 0 is not the input's"
                )
            if name in self.cut and (array.ndim < 2 or array.shape[1] != longest):
                raise Unbatchable(
                    f"output {name!r} has shape {list(array.shape)} for inputs of length "
                    f"{longest}: its axis 1 is not the inputs'"
                )
        parts, begin = [], 0
        for each in extents:
            end = begin + each.rows
            parts.append({name: self._part(name, made[name][begin:end], each) for name in made})
            begin = end
        return parts

    def cutting(self, outputs: frozenset[str]) -> "Form":
        """The same, where *outputs* are as long as the padded inputs."""
        return replace(self, cut=outputs)

    def _part(self, name: str, rows: np.ndarray, extent: Extent) -> np.ndarray:
        return rows[:, : extent.length] if name in self.cut else rows


def _check_pad(infos: Mapping[str, TensorInfo], name: str, value: float) -> None:
    info = infos.get(name)
    if info is None:
        raise Unbatchable(
            f"batching.pad names {name[:80]!r}: the model's inputs are {', '.join(infos)}"
        )
    if len(info.shape) < 2 or info.shape[1] != UNKNOWN:
        raise Unbatchable(f"batching.pad names {name!r}, whose axis 1 is fixed: leave it out")
    dtype = DATATYPES[info.datatype]
    if dtype.kind == "O":
        raise Unbatchable(f"batching.pad names {name!r}, which holds no numbers: leave it out")
    if not _holds(dtype, value):
        raise Unbatchable(f"batching.pad gives {name!r} {value:g}, which is no {info.datatype}")


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    if dtype.kind == "f":
        return True
    if dtype.kind == "b":
        return value in (0, 1)
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def _fits(array: np.ndarray, info: TensorInfo) -> bool:
    try:
        datatype = datatype_of(array)
    except WireError:
        return False
    return (
        datatype == info.datatype
        and array.ndim == len(info.shape)
        and all(want in (UNKNOWN, got) for got, want in zip(array.shape, info.shape, strict=True))
    )


def _padded(arrays: Sequence[np.ndarray], extents: Sequence[Extent], value: float) -> np.ndarray:
    """The arrays one after the other, each as long as the longest; every element is copied once."""
    rows, longest = sum(each.rows for each in extents), max(each.length for each in extents)
    first = arrays[0]
    joined = np.empty((rows, longest, *first.shape[2:]), first.dtype)
    begin = 0
    for array, each in zip(arrays, extents, strict=True):
        end = begin + each.rows
        joined[begin:end, : each.length] = array
        joined[begin:end, each.length :] = value
        begin = end
    return joined
