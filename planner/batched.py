"""A network made ready to answer several requests at once: axis 0 of its inputs takes any size.

The normal form fixes it to 1, and what folding makes of that, such as the sizes of a reshape, holds
for one row alone. So this graph is made of the original anew. Weights that it has in common with
the graph for one row, as a rule all, are not kept twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from planner.compiling import GRAPH_FILE, write_optimised
from planner.dims import candidates
from planner.external import outside, place_of, relocate
from planner.graph import TensorInfo
from planner.infos import info_of
from planner.memo import sha256_of
from planner.sessions import WEIGHTS_FILE
from planner.sharing import share
from planner.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Batched:
    """The files of such a graph.

    ``weights`` are those that it has alone, in a file named by its SHA-256; None where it has none.
    ``inputs`` have :data:`planner.graph.UNKNOWN` where they take any size.
    """

    graph: Path
    weights: Path | None
    inputs: tuple[TensorInfo, ...]


def compile_batched(
    source: Source,
    inputs: Sequence[onnx.ValueInfoProto],
    folder: Path,
    *,
    single: Path,
    weights: Path | None,
) -> Batched:
    """Make the graph of a model whose *inputs* are of any size in some axes.

    Args:
        source: the model as it was given.
        inputs: see :func:`planner.dims.loosened_inputs`.
        folder: where to write.
        single: the optimised graph for one row.
        weights: its file of weights, in *folder*, None where it has none.

    Raises:
        ModelError: ONNX Runtime cannot run the model so.
        OSError: a file cannot be read or written.
    """
    model = onnx.ModelProto()
    model.CopyFrom(source.proto)
    loose, _ = candidates(model, inputs)
    made = folder / "made"
    made.mkdir()
    proto = write_optimised(loose.SerializeToString(), made, source.folder)
    own = made / WEIGHTS_FILE
    if own.exists() and weights is not None:
        share(proto, own, onnx.load_model(str(single), load_external_data=False), weights)
    kept = None
    if own.exists():
        kept = own.rename(folder / sha256_of(own).hex())
        for tensor in outside(proto):
            if place_of(tensor).location == WEIGHTS_FILE:
                relocate(tensor, kept.name)
    graph = folder / GRAPH_FILE
    graph.write_bytes(proto.SerializeToString())
    return Batched(graph=graph, weights=kept, inputs=tuple(map(info_of, inputs)))
