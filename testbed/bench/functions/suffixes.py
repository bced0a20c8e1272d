"""Tails of a generated model, cut out of its file: one for each place where it may be parted."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from protos import wire
from protos.invocation import Request, Tensor
from testbed.bench.functions.generated import Generated
from testbed.bench.functions.peers.engine import Engine
from testbed.topologies import save_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Suffix:
    """The part of a model after ``cut``, a file of its own, and what crosses there."""

    cut: str
    path: Path
    value: np.ndarray

    @property
    def body(self) -> bytes:
        return self.value.tobytes()

    def request(self, model: str) -> bytes:
        """The encoded request that has the function *model* run this tail."""
        inputs = (Tensor.of(self.cut, self.value),)
        return wire.encode_request(Request(model=model, inputs=inputs, cut=self.cut))

    def answer(self) -> np.ndarray:
        """What the tail makes of the value, by ONNX Runtime in this process."""
        return Engine(self.path).run(self.value)


def suffixes(model: Generated, folder: Path, *, most: int) -> list[Suffix]:
    """Tails of *model*, *most* of them, written into *folder*, with what crosses for the sample."""
    loaded = onnx.load(str(model.path))
    found, every = [], -(-len(model.cuts) // most)
    for cut, value in list(zip(model.cuts, _crossing(loaded, model), strict=True))[::every]:
        path = folder / f"{model.name}-{cut}.onnx"
        save_whole(_tail(loaded, cut, value), path)
        found.append(Suffix(cut=cut, path=path, value=value))
    return found


def _crossing(loaded: onnx.ModelProto, model: Generated) -> list[np.ndarray]:
    seen = onnx.ModelProto()
    seen.CopyFrom(loaded)
    seen.graph.output.extend(
        helper.make_tensor_value_info(cut, TensorProto.FLOAT, None) for cut in model.cuts
    )
    session = ort.InferenceSession(seen.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(list(model.cuts), model.sample)]


def _tail(loaded: onnx.ModelProto, cut: str, value: np.ndarray) -> onnx.ModelProto:
    """The ops that the answer needs once *cut* is there, with their weights."""
    graph = loaded.graph
    makers = {name: node for node in graph.node for name in node.output}
    needed, waiting = set(), [output.name for output in graph.output]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            if name != cut and name in makers:
                waiting += makers[name].input
    nodes = [n for n in graph.node if cut not in n.output and needed.intersection(n.output)]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "tail",
            [helper.make_tensor_value_info(cut, TensorProto.FLOAT, value.shape)],
            list(graph.output),
            initializer=[weight for weight in graph.initializer if weight.name in needed],
        ),
        opset_imports=loaded.opset_import,
        ir_version=loaded.ir_version,
    )
