"""Head and tail as files: two small ONNX models, and one file of weights between them."""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import onnx

from planner.errors import PlannerError
from planner.memo import sha256_of
from planner.model import Model
from planner.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What :func:`split` wrote.

    ``head_proto`` and ``tail_proto`` are what the files hold. ``weights`` is the file both refer
    to, None where they hold their weights themselves; ``copied_bytes`` is how much of it had to be
    copied (0 where it was there already, or is a hard link). ``seconds`` is the time taken in all.
    """

    head: Path
    tail: Path
    weights: Path | None
    copied_bytes: int
    seconds: float
    head_proto: onnx.ModelProto
    tail_proto: onnx.ModelProto


def split(model: Model, crossing: Sequence[str], folder: Path) -> Written:
    """Write the network's head and tail at *crossing* into *folder*; steps are left aside.

    ``head.onnx`` makes the boundary tensors and the outputs that do not depend on them;
    ``tail.onnx`` takes the boundary tensors and makes the rest. The weights of a large model lie
    beside them, named by content, once for any number of cuts.

    >>> import planner, tempfile
    >>> from pathlib import Path
    >>> from onnx import helper
    >>> here = Path(tempfile.mkdtemp())
    >>> one = [helper.make_tensor_value_info(name, 1, [1, 4]) for name in ("x", "y")]
    >>> nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Exp", ["a"], ["y"])]
    >>> graph = helper.make_graph(nodes, "two", one[:1], one[1:])
    >>> onnx.save(helper.make_model(graph, ir_version=8), str(here / "two.onnx"))
    >>> written = planner.split(planner.read(here / "two.onnx"), ["a"], here / "pieces")
    >>> sorted(path.name for path in (here / "pieces").iterdir())
    ['head.onnx', 'tail.onnx']
    >>> shutil.rmtree(here)

    Args:
        model: what :func:`planner.read` returned.
        crossing: the boundary tensors.
        folder: where to; made where it is not there.

    Raises:
        CutError: *crossing* does not part the network.
        PlannerError: *folder* cannot be written.
    """
    begun_s = time.perf_counter()
    head, tail = model.split(crossing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights, copied_bytes = None, 0
        if model.weights is not None:
            weights = folder / model.weights.name
            copied_bytes = _place(model.weights, weights)
        for name, piece in (("head.onnx", head), ("tail.onnx", tail)):
            _write(folder / name, piece.SerializeToString())
    except OSError as error:
        raise PlannerError(f"the pieces cannot be written to {folder}: {error.strerror}") from error
    return Written(
        head=folder / "head.onnx",
        tail=folder / "tail.onnx",
        weights=weights,
        copied_bytes=copied_bytes,
        seconds=time.perf_counter() - begun_s,
        head_proto=head,
        tail_proto=tail,
    )


def _place(weights: Weights, target: Path) -> int:
    """Have the weights at *target*; returns the bytes that were copied."""
    with suppress(FileNotFoundError):
        if target.samefile(weights.path):
            return 0
        # Its name starts with its digest, so a copy can be checked without the original.
        if weights.name == f"weights-{sha256_of(target).hex()[:16]}.bin":
            return 0
    draft = Path(tempfile.mkdtemp(prefix=".weights-", dir=target.parent))
    try:
        fresh = draft / target.name
        copied_bytes = 0
        try:
            os.link(weights.path, fresh)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(weights.path, fresh)
            copied_bytes = weights.nbytes
        fresh.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return copied_bytes


def _write(path: Path, data: bytes) -> None:
    """Write a file that a reader finds whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
