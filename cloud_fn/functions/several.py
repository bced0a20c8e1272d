"""A version's graph for several rows, as an instance has it."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from cloud_fn.functions.curve import Curve
from cloud_fn.functions.joining import Arrays
from cloud_fn.functions.settings import Batching
from cloud_fn.functions.spec import BatchedFiles
from cloud_fn.functions.stamped import is_whole
from planner.cuttable import Chosen
from planner.errors import ModelError
from planner.graph import UNKNOWN, TensorInfo
from planner.ready import Ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Several:
    """A network's graph for several rows.

    Attributes:
        open: opens it; may take long.
        inputs: with -1 where they take any size.
        usual: their shapes on the graph for one row.
        curve: what batches take.
        settings: how requests are to be joined.
        threads: ONNX Runtime's for one batch.
        copy_bytes: what opening it copies into memory at most.
    """

    open: Callable[[], ort.InferenceSession]
    inputs: tuple[TensorInfo, ...]
    usual: Mapping[str, tuple[int, ...]]
    curve: Curve
    settings: Batching
    threads: int = 1
    copy_bytes: int = 0

    @property
    def may_pad(self) -> bool:
        """Whether the inputs that are to be padded may be of any length."""
        lengths = {i.name for i in self.inputs if len(i.shape) > 1 and i.shape[1] == UNKNOWN}
        return bool(self.settings.pad) and self.settings.pad.keys() <= lengths

    def is_usual(self, feeds: Arrays) -> bool:
        """Whether the graph for one row takes *feeds*."""
        return all(feeds[name].shape == shape for name, shape in self.usual.items())

    def loosened(self, chosen: Chosen) -> Chosen:
        """*chosen*, the network alone, taking any length of the inputs that may be padded."""
        if not self.may_pad:
            return chosen
        inputs = tuple(
            dataclasses.replace(info, shape=(info.shape[0], UNKNOWN, *info.shape[2:]))
            if info.name in self.settings.pad
            else info
            for info in chosen.inputs
        )
        return dataclasses.replace(chosen, inputs=inputs)

    @property
    def width(self) -> int:
        """How many batches run at a time: as many as there are processors for."""
        return max(1, len(os.sched_getaffinity(0)) // self.threads)


def several_of(
    ready: Ready,
    files: BatchedFiles,
    chosen: Chosen,
    *,
    batching: Literal["off", "auto"] | Batching,
    threads: int,
    weights: Path | None,
) -> Several | None:
    """How the network's part of *chosen* answers requests together.

    Args:
        ready: the graph for one row.
        files: that for several.
        chosen: the piece.
        batching: the function's setting.
        threads: ONNX Runtime's for one batch.
        weights: those of *ready*, None where it has no large ones.

    Returns:
        None where it may not, or is not the whole network.
    """
    document = ready.document
    takes, makes = ({each.name for each in infos} for infos in (document.inputs, document.outputs))
    if batching == "off" or set(chosen.takes) != takes or set(chosen.makes) != makes:
        return None
    return Several(
        open=functools.partial(_opened, ready, files, threads),
        inputs=tuple(
            TensorInfo(name=each.name, datatype=each.datatype, shape=each.shape)
            for each in files.inputs
        ),
        usual={each.name: each.shape for each in document.inputs},
        curve=files.curve,
        settings=batching if isinstance(batching, Batching) else Batching(),
        threads=threads,
        copy_bytes=0 if weights is None or not files.prepacked else weights.stat().st_size,
    )


def _opened(ready: Ready, files: BatchedFiles, threads: int) -> ort.InferenceSession:
    """Open the graph.

    Raises:
        ModelError: a file of it is damaged, or ONNX Runtime refuses it.
        OSError: it cannot be read.
    """
    for file, stamp in zip(files.files, files.stamps, strict=True):
        if not is_whole(file, stamp):
            raise ModelError(f"the graph for several requests is damaged: {file.name}")
    graph = ready.folder / files.graph.digest
    return ready.session(graph.read_bytes(), threads=threads, prepack=files.prepacked)
