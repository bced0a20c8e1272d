"""Weights that two graphs have in common, kept once."""

from pathlib import Path

import onnx

from planner.external import Place, outside, place_of, relocate
from planner.memo import sha256_of

_PAGE = 4096
_CHUNK_BYTES = 1 << 20


def share(model: onnx.ModelProto, own: Path, other: onnx.ModelProto, others: Path) -> int:
    """Have *model* refer to *other*'s weights wherever those are the same bytes as its own.

    What is left in *own* is written anew; the file is gone where nothing is.

    Args:
        model: all of whose outside tensors lie in *own*.
        own: its file of weights.
        other: another graph, all of whose outside tensors lie in *others*.
        others: its file, in the same folder; *model* then names it so.

    Returns:
        How many bytes *own* has left.

    Raises:
        OSError: a file cannot be read or written.
    """
    there: dict[bytes, Place] = {}
    for tensor in outside(other):
        there.setdefault(_digest(others, place_of(tensor)), place_of(tensor))
    left: list[onnx.TensorProto] = []
    for tensor in outside(model):
        same = there.get(_digest(own, place_of(tensor)))
        if same is None:
            left.append(tensor)
            continue
        relocate(tensor, others.name)
        _move(tensor, same.offset)
    if not left:
        own.unlink()
        return 0
    _compact(left, own)
    return own.stat().st_size


def _digest(file: Path, place: Place) -> bytes:
    return sha256_of(file, place.offset, place.length)


def _compact(tensors: list[onnx.TensorProto], own: Path) -> None:
    """Keep the bytes of *tensors* alone, in the order in which they lie."""
    draft = own.with_name(f"{own.name}.left")
    moved: dict[int, int] = {}
    with own.open("rb") as reading, draft.open("wb") as writing:
        for tensor in sorted(tensors, key=lambda each: place_of(each).offset):
            place = place_of(tensor)
            assert place.length is not None  # ONNX Runtime wrote it
            if place.offset not in moved:
                moved[place.offset] = -(-writing.tell() // _PAGE) * _PAGE
                writing.seek(moved[place.offset])
                reading.seek(place.offset)
                left = place.length
                while chunk := reading.read(min(left, _CHUNK_BYTES)):
                    writing.write(chunk)
                    left -= len(chunk)
            _move(tensor, moved[place.offset])
    draft.replace(own)


def _move(tensor: onnx.TensorProto, offset: int) -> None:
    for entry in tensor.external_data:
        if entry.key == "offset":
            entry.value = str(offset)
