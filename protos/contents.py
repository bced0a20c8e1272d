"""Typed contents of the Open Inference Protocol, turned into raw ones.

Our own rooms never write them (building 600 KB of floats takes 4 to 23 ms), but foreign clients do.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from protos import tensors
from protos.errors import WireError
from protos.gen.open_inference_pb2 import InferTensorContents

_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def to_raw(contents: InferTensorContents, datatype: str, shape: Sequence[int]) -> bytes:
    """Write typed *contents* as raw ones.

    Raises:
        WireError: they are in another datatype's field, not as many as *shape* says, or out of the
            datatype's range; or the datatype has no field (FP16, BF16).
    """
    wanted, elements = _FIELDS.get(datatype), tensors.count(shape)
    if wanted is None:
        raise WireError(f"{datatype} has no typed contents: send it as raw contents")
    for field, _ in contents.ListFields():
        if field.name != wanted:
            raise WireError(f"{datatype} contents are in {field.name}: put them in {wanted}")
    values: Sequence[Any] = getattr(contents, wanted)
    if len(values) != elements:
        raise WireError(f"the shape takes {elements} elements, but {len(values)} came: send those")
    if datatype == "BYTES":
        items = np.empty(elements, object)
        items[:] = values
        return tensors.to_raw(items)
    dtype = tensors.DATATYPES[datatype]
    if dtype.itemsize < 4 and dtype.kind in "iu":
        wide = np.fromiter(values, np.int64, elements)
        limits = np.iinfo(dtype)
        if elements and not limits.min <= wide.min() <= wide.max() <= limits.max:
            raise WireError(f"an element does not fit in {datatype}: send a wider datatype")
        return wide.astype(dtype).tobytes()
    return np.fromiter(values, dtype, elements).tobytes()
