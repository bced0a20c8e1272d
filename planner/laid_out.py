"""A model's file of weights in the order in which a run reads them.

A file that is not in memory is then read from its beginning on, each part as the run gets there. As
ONNX Runtime orders them, 95 MB of convolutions took 160 to 170 ms longer to answer with nothing in
memory than with everything; in order, 34 to 39 (medians of 7, 2 busy cores, 2026-11).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import onnx

from planner.external import is_outside, outside, place_of
from planner.nodes import reads

_ALIGNED = 64
_PAGE = 4096
"""Large weights begin a page each, so that none brings in a page of another that is not used."""
_LARGE_BYTES = 16 * _PAGE
_CHUNK_BYTES = 1 << 20


def lay_out(model: onnx.ModelProto, source: Path, target: Path) -> None:
    """Write the weights in *source* to *target* anew, and have *model* refer to their new places.

    Args:
        model: all of whose outside tensors lie in *source*; what they call it stays.
        source: a file of weights.
        target: another, which is written.

    Raises:
        OSError: one cannot be read, or the other not be written.
    """
    moved: dict[tuple[int, int], int] = {}
    with source.open("rb") as reading, target.open("wb") as writing:
        for tensor in _in_order(model):
            place = place_of(tensor)
            assert place.length is not None  # ONNX Runtime wrote it
            known = (place.offset, place.length)
            if known not in moved:
                aligned = _PAGE if place.length >= _LARGE_BYTES else _ALIGNED
                moved[known] = -(-writing.tell() // aligned) * aligned
                writing.seek(moved[known])
                _copy(reading, writing, *known)
            for entry in tensor.external_data:
                if entry.key == "offset":
                    entry.value = str(moved[known])


def _in_order(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All outside tensors, those first that the first nodes read."""
    own = {tensor.name: tensor for tensor in model.graph.initializer if is_outside(tensor)}
    names = (name for node in model.graph.node for name in reads(node) if name in own)
    yield from (own[name] for name in dict.fromkeys((*names, *own)))
    yield from outside(model, but_initializers=True)


def _copy(reading: BinaryIO, writing: BinaryIO, offset: int, length: int) -> None:
    reading.seek(offset)
    while length:
        chunk = reading.read(min(length, _CHUNK_BYTES))
        if not chunk:
            raise EOFError(f"{reading.name} ends {length} bytes too early")
        writing.write(chunk)
        length -= len(chunk)
