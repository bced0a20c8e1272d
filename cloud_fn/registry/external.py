"""Weights that an ONNX file keeps in other files, and where it says they are."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError

from cloud_fn.errors import RegistryError
from planner.external import outside
from planner.outline import NoMessage, outline
from planner.sessions import INLINE_BELOW_BYTES
from planner.source import EXTERNAL_FROM_BYTES


def locations(model: onnx.ModelProto) -> tuple[str, ...]:
    """The files that *model* refers to, each once, as it writes them."""
    entries = (
        entry.value
        for tensor in outside(model)
        for entry in tensor.external_data
        if entry.key == "location"
    )
    return tuple(dict.fromkeys(entries))


def relocate(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Make *model* refer to each of its files by another name."""
    for tensor in outside(model):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = names[entry.value]


def load_bare(path: Path) -> onnx.ModelProto | None:
    """The model as its file has it, if some of its weights are in other files; else None.

    A large file is first looked at without its own weights; None also when it is no ONNX model.
    """
    try:
        if path.stat().st_size >= EXTERNAL_FROM_BYTES:
            found = outline(path, least_bytes=INLINE_BELOW_BYTES)
            if set(locations(found.proto)) <= {path.name}:
                return None
        return onnx.load_model(str(path), load_external_data=False)
    except (DecodeError, NoMessage):
        return None


def check_inside(location: str, model: Path) -> Path:
    """Where *location* is beside *model*.

    Raises:
        RegistryError: it leads out of the model's directory, or to nothing that is a file.
    """
    relative = PurePosixPath(location)
    path = model.parent / relative
    inside = path.resolve().is_relative_to(model.parent.resolve())
    if not location or relative.is_absolute() or ".." in relative.parts or not inside:
        raise RegistryError(
            f"{model} keeps weights in {location[:80]!r}: they must be in files beside the model"
        )
    if not path.is_file():
        raise RegistryError(f"{model} keeps weights in {path}, which is no file: copy it there")
    return path
