"""Making a network ready for this kind of machine; see :mod:`planner.ready`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort

from planner.correspondence import Graphs, corresponding
from planner.errors import CutError
from planner.graph import TensorInfo
from planner.infos import SILENT, random_inputs
from planner.laid_out import lay_out
from planner.model import Model
from planner.ready import Ready, ReadyDetail, ReadyDocument, ReadyOp, ReadyTensor, open_ready
from planner.sessions import WEIGHTS_FILE, optimise
from protos.documents import write_json

GRAPH_FILE, READY_FILE = "optimised.onnx", "ready.json"

_LEAST_RUNS, _MOST_RUNS = 3, 60
_RACE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The files of a network made ready; ``weights`` is None where none are large."""

    optimised: Path
    document: Path
    weights: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Seconds of one run with the weights mapped and with a prepacked copy, the best of each."""

    mapped_s: float
    prepacked_s: float


def compile_ready(network: Model, folder: Path) -> Compiled:
    """Optimise *network*, a model without its steps, into *folder*, which is empty.

    Raises:
        ModelError: ONNX Runtime cannot run it, or cannot write there.
    """
    proto = write_optimised(network.proto.SerializeToString(), folder, network.folder)
    compiled = Compiled(
        optimised=folder / GRAPH_FILE, document=folder / READY_FILE, weights=folder / WEIGHTS_FILE
    )
    graphs = Graphs(
        normal=network.proto,
        normal_folder=network.folder,
        optimised=proto,
        optimised_folder=folder,
    )
    graph = network.graph
    inputs = {info.name: info for info in network.inputs}
    crossing = {name: info for name, info in graph.tensors.items() if info.crosses}
    plain, blocked = corresponding(graphs, inputs, crossing)
    outputs = tuple(info.name for info in network.outputs)
    detail = ReadyDetail(
        tensors=tuple(map(_tensor, graph.tensors.values())),
        ops=tuple(
            ReadyOp(name=op.name, kind=op.kind, inputs=op.inputs, outputs=op.outputs)
            for op in graph.ops
        ),
        plain=plain,
        blocked=blocked,
    )
    document = ReadyDocument(
        digest=network.digest,
        inputs=tuple(map(_tensor, network.inputs)),
        outputs=tuple(map(_tensor, network.outputs)),
        is_plain=_is_plain(network, outputs),
        detail=msgspec.Raw(msgspec.json.encode(detail)),
    )
    write_json(compiled.document, document)
    if not (folder / WEIGHTS_FILE).exists():
        return Compiled(optimised=compiled.optimised, document=compiled.document, weights=None)
    return compiled


def _is_plain(network: Model, outputs: tuple[str, ...]) -> bool:
    try:
        return network.choose([info.name for info in network.inputs]).outputs == outputs
    except CutError:
        return False


def write_optimised(model: bytes, folder: Path, source: Path | None) -> onnx.ModelProto:
    """Write *model*, whose weights lie in *source*, optimised and with its weights in order.

    Args:
        model: the serialised ModelProto.
        folder: where :data:`GRAPH_FILE` and, where there are large ones, weights go.
        source: where its references to weights start from, None where it has none.

    Returns:
        The graph, without those weights.

    Raises:
        ModelError: ONNX Runtime cannot run it, or cannot write there.
        OSError: there is no room.
    """
    target, weights = folder / GRAPH_FILE, folder / WEIGHTS_FILE
    optimise(model, target, source)
    proto = onnx.load_model(str(target), load_external_data=False)
    if weights.exists():
        draft = weights.rename(folder / "unordered")
        lay_out(proto, draft, weights)
        draft.unlink()
        target.write_bytes(proto.SerializeToString())
    return proto


def _tensor(info: TensorInfo) -> ReadyTensor:
    return ReadyTensor(name=info.name, datatype=info.datatype, shape=info.shape)


def opened(compiled: Compiled) -> Ready:
    """What was compiled, where it was written."""
    return open_ready(
        compiled.document,
        optimised=compiled.optimised,
        folder=compiled.optimised.parent,
        name=compiled.optimised.stem,
    )


def race(ready: Ready, *, threads: int = 1) -> Race | None:
    """Time the whole network both ways, run by run in turn, on made-up input.

    Returns:
        None where it does not run on that, or is none whose outputs need all of its inputs.

    Raises:
        ModelError: ONNX Runtime refuses it.
    """
    whole = ready.whole()
    if whole is None:
        return None
    sessions = [ready.open(whole, threads=threads, prepack=prepack) for prepack in (False, True)]
    feeds = random_inputs({info.name: info for info in whole.inputs})
    try:
        mapped_s, prepacked_s = _timed(sessions, feeds)
    except Exception:  # noqa: BLE001  ONNX Runtime raises bare exceptions
        return None
    return Race(mapped_s=mapped_s, prepacked_s=prepacked_s)


def _timed(
    sessions: Sequence[ort.InferenceSession], feeds: dict[str, np.ndarray]
) -> tuple[float, ...]:
    best = [float("inf")] * len(sessions)
    until_s = time.perf_counter() + _RACE_S
    for turn in range(1 + _MOST_RUNS):
        for place, session in enumerate(sessions):
            began_s = time.perf_counter()
            session.run(None, feeds, SILENT)
            if turn:  # the first faults the pages in
                best[place] = min(best[place], time.perf_counter() - began_s)
        if turn >= _LEAST_RUNS and time.perf_counter() > until_s:
            break
    return tuple(best)
