"""Classic topologies with seeded weights, for timing.

The onnx wheel holds nine networks of the field whose weights are ``ConstantOfShape``, so that they
are small. Constant weights mislead (every channel is alike, codecs compress them to nothing), so
:func:`materialise` gives them He-normal ones. The answers still mean nothing.
"""

import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from testbed.packages import ONNX

TOPOLOGIES = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)
GENERATOR = "v1"
"""Part of the path in the cache: raise it when the weights change."""

SEED = 0
RESIDUAL_SCALE = 0.25
"""Scale of the last normalisation before a residual sum. At 1 each of ResNet's 16 blocks would
double the variance; at 1/4 the 16 of them raise it 2.6-fold (after Goyal et al. 2017, 5.1)."""

FloatArray = npt.NDArray[np.float32]


def materialise(name: str, cache_dir: Path) -> Path:
    """Write ``light_NAME.onnx`` with real weights into the cache, once.

    Convolutions and matrices are He-normal (He et al. 2015), biases and means 0, scales and
    variances 1; the same on every machine. The largest, vgg19, is 575 MB.

    Raises:
        NotInstalled: the onnx wheel lacks it.
    """
    path = cache_dir / GENERATOR / f"light_{name}.onnx"
    if not path.is_file():
        source = ONNX.file(f"onnx/backend/test/data/light/light_{name}.onnx")
        save_whole(with_weights(onnx.load(str(source))), path)
    return path


def save_whole(model: onnx.ModelProto, path: Path) -> None:
    """Save *model* so that nobody ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        onnx.save(model, str(draft))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def with_weights(model: onnx.ModelProto, seed: int = SEED) -> onnx.ModelProto:
    """*model* with every parameter an initializer of its own, by what reads it."""
    graph = model.graph
    shapes = {tensor.name: tensor for tensor in graph.initializer}
    made = {node.output[0]: node for node in graph.node if node.op_type == "ConstantOfShape"}
    parameters = {
        output: tuple(int(size) for size in numpy_helper.to_array(shapes[node.input[0]]))
        for output, node in made.items()
    }
    parameters |= {
        tensor.name: tuple(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    rng = np.random.default_rng(seed)
    roles = _roles(graph, set(parameters))
    weights = [
        numpy_helper.from_array(_value(roles[name], shape, rng), name)
        for name, shape in parameters.items()
        if name in roles
    ]
    used_shapes = {name for node in graph.node if node.output[0] not in made for name in node.input}
    kept = [shapes[name] for name in shapes if name in used_shapes and name not in parameters]
    nodes = [node for node in graph.node if node.output[0] not in made]
    inputs = [value for value in graph.input if value.name not in shapes]
    out = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes, graph.name, inputs, list(graph.output), initializer=[*weights, *kept]
        ),
        opset_imports=model.opset_import,
        ir_version=8,
    )
    onnx.checker.check_model(out)
    return out


def _roles(graph: onnx.GraphProto, parameters: set[str]) -> dict[str, str]:
    """What each parameter is: ``conv``, ``matrix``, ``zero``, ``one`` or ``residual``.

    A parameter may be reshaped before its use (``Unsqueeze``, ``Reshape``): the use decides.
    """
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, place))

    def role(name: str) -> str | None:
        for node, place in readers.get(name, []):
            match node.op_type, place:
                case ("Conv" | "Gemm") as kind, 1:
                    return {"Conv": "conv", "Gemm": "matrix"}[kind]
                case "BatchNormalization", 1:
                    into = {reader.op_type for reader, _ in readers.get(node.output[0], [])}
                    return "residual" if "Sum" in into else "one"
                case ("BatchNormalization", 4) | ("Mul", 1):
                    return "one"
                case (("Unsqueeze" | "Reshape"), 0):
                    return role(node.output[0])
                case _:
                    return "zero"
        return None

    found = {name: role(name) for name in parameters}
    return {name: use for name, use in found.items() if use is not None}


def _value(role: str, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    match role:
        case "conv":
            fan_in = math.prod(shape[1:])
        case "matrix":
            fan_in = shape[-1]  # transB: outputs first
        case "one":
            return np.ones(shape, dtype=np.float32)
        case "residual":
            return np.full(shape, RESIDUAL_SCALE, dtype=np.float32)
        case _:
            return np.zeros(shape, dtype=np.float32)
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(2 / fan_in))
