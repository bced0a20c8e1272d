"""Models of a wanted size with seeded weights: a residual network and a transformer encoder.

Convolutions and matrices are He-normal (He et al. 2015), scaled down before each residual sum as
in :mod:`testbed.topologies`. The answers mean nothing, but they are the same on every machine.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from testbed.bench.functions.peers.engine import Engine
from testbed.topologies import RESIDUAL_SCALE, save_whole

OPSET, IR = 17, 8
CLASSES = 16
PICTURE = 224
TOKENS = 128
HEAD_WIDTH = 64

Kind = Literal["conv", "transformer"]
Values = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolutional:
    """Residual blocks of two 3x3 convolutions: ``blocks`` of each of four stages.

    The first stage has ``width`` channels at 56x56, each further one twice as many at half of it.
    """

    width: int
    blocks: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """``layers`` of an encoder that is ``width`` wide, over a vocabulary of ``words``."""

    width: int
    layers: int
    words: int


SHAPES: Mapping[tuple[Kind, int], Convolutional | Transformer] = {
    ("conv", 5): Convolutional(width=32, blocks=(1, 1, 1, 1)),
    ("conv", 100): Convolutional(width=64, blocks=(4, 4, 4, 4)),
    ("conv", 500): Convolutional(width=128, blocks=(1, 1, 2, 6)),
    ("transformer", 5): Transformer(width=128, layers=4, words=4000),
    ("transformer", 100): Transformer(width=512, layers=7, words=8000),
    ("transformer", 500): Transformer(width=1024, layers=9, words=8000),
}
"""By kind and size in MB. The large networks are wide rather than deep, as large ones are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """A model file with a sample; ``cuts`` are tensors, each of which parts the model in two."""

    name: str
    kind: Kind
    megabytes: int
    path: Path
    sample: Values
    cuts: tuple[str, ...]

    @property
    def body(self) -> bytes:
        """The contents of the sample, which is one tensor."""
        ((_, value),) = self.sample.items()
        return value.tobytes()

    def answer(self) -> np.ndarray:
        """What the model makes of the sample, by ONNX Runtime in this process."""
        ((_, value),) = self.sample.items()
        return Engine(self.path).run(value)


def generate(kind: Kind, megabytes: int, folder: Path, *, seed: int = 0) -> Generated:
    """Write one of :data:`SHAPES` into *folder*; other seeds give other weights and names."""
    shape = SHAPES[kind, megabytes]
    name = f"{kind}-{megabytes}" + (f"-{seed}" if seed else "")
    maker = _Maker(np.random.default_rng(seed))
    rng = np.random.default_rng(1)
    sample: Values
    if isinstance(shape, Convolutional):
        cuts = maker.convolutional(shape)
        sample = {"x": rng.standard_normal((1, 3, PICTURE, PICTURE), dtype=np.float32)}
    else:
        cuts = maker.transformer(shape)
        sample = {"x": rng.integers(0, shape.words, (1, TOKENS), dtype=np.int64)}
    path = folder / f"{name}.onnx"
    save_whole(maker.model(sample), path)
    return Generated(
        name=name, kind=kind, megabytes=megabytes, path=path, sample=sample, cuts=tuple(cuts)
    )


def identity(folder: Path, count: int) -> Path:
    """Write a model whose answer ``y`` is its input ``x``, *count* numbers."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [count])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [count])],
    )
    path = folder / f"identity-{count}.onnx"
    save_whole(_model(graph), path)
    return path


def alike(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether two answers are the same, but for how kernels round.

    Up to a thousandth of the largest number: a layout or a fusion changes the order of sums.
    """
    near = 1e-3 * float(np.abs(wanted).max())
    return got.shape == wanted.shape and np.allclose(got, wanted, rtol=1e-3, atol=near)


class _Maker:
    """Nodes and weights of one graph, from input ``x`` to output ``y``."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def model(self, sample: Values) -> onnx.ModelProto:
        ((name, value),) = sample.items()
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        graph = helper.make_graph(
            self._nodes,
            "generated",
            [helper.make_tensor_value_info(name, kind, value.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, CLASSES))],
            initializer=self._weights,
        )
        return _model(graph)

    def convolutional(self, shape: Convolutional) -> list[str]:
        """Give the names of the blocks' outputs."""
        width = shape.width
        x = self._op("Relu", self._conv("stem", "x", 3, width, size=7, stride=2))
        x = self._op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        cuts = []
        for stage, blocks in enumerate(shape.blocks):
            for block in range(blocks):
                name, into = f"stage{stage}.block{block}", shape.width << stage
                x = self._block(name, x, width, into, stride=2 if stage and not block else 1)
                width = into
                cuts.append(x)
        x = self._op("Flatten", self._op("GlobalAveragePool", x))
        self._op("Gemm", x, self._weight("head", (CLASSES, width)), out="y", transB=1)
        return cuts

    def transformer(self, shape: Transformer) -> list[str]:
        """Give the names of the layers' outputs."""
        width = shape.width
        words = self._weight("words", (shape.words, width), fan_in=2)
        places = self._weight("places", (TOKENS, width), fan_in=2)
        x = self._op("Add", self._op("Gather", words, "x"), places)
        cuts = []
        for layer in range(shape.layers):
            name = f"layer{layer}"
            attended = self._attention(name, self._norm(f"{name}.before", x, width), width)
            x = self._op("Add", x, attended)
            x = self._op("Add", x, self._mlp(name, self._norm(f"{name}.middle", x, width), width))
            cuts.append(x)
        x = self._op("ReduceMean", self._norm("last", x, width), axes=[1], keepdims=0)
        self._op("Gemm", x, self._weight("head", (CLASSES, width)), out="y", transB=1)
        return cuts

    def _block(self, name: str, x: str, width: int, into: int, *, stride: int) -> str:
        first = self._op("Relu", self._conv(f"{name}.a", x, width, into, size=3, stride=stride))
        second = self._conv(f"{name}.b", first, into, into, size=3, scale=RESIDUAL_SCALE)
        if width != into:
            x = self._conv(f"{name}.across", x, width, into, size=1, stride=stride)
        return self._op("Relu", self._op("Add", x, second))

    def _attention(self, name: str, x: str, width: int) -> str:
        heads = width // HEAD_WIDTH
        split = self._const(f"{name}.split", np.array([0, 0, heads, HEAD_WIDTH], np.int64))
        joined = self._const(f"{name}.joined", np.array([0, 0, width], np.int64))
        q, k, v = (
            self._op(
                "Transpose",
                self._op("Reshape", self._linear(f"{name}.{part}", x, width, width), split),
                perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3],
            )
            for part in "qkv"
        )
        root = self._const(f"{name}.root", np.array(math.sqrt(HEAD_WIDTH), np.float32))
        scores = self._op("Softmax", self._op("Div", self._op("MatMul", q, k), root), axis=-1)
        mixed = self._op("Transpose", self._op("MatMul", scores, v), perm=[0, 2, 1, 3])
        mixed = self._op("Reshape", mixed, joined)
        return self._linear(f"{name}.out", mixed, width, width, scale=RESIDUAL_SCALE)

    def _mlp(self, name: str, x: str, width: int) -> str:
        """GELU as exporters write it: x / sqrt 2, Erf, + 1, times x, times a half."""
        x = self._linear(f"{name}.up", x, width, 4 * width)
        root = self._const(f"{name}.root2", np.array(math.sqrt(2), np.float32))
        one = self._const(f"{name}.one", np.array(1, np.float32))
        half = self._const(f"{name}.half", np.array(0.5, np.float32))
        gate = self._op("Add", self._op("Erf", self._op("Div", x, root)), one)
        x = self._op("Mul", self._op("Mul", x, gate), half)
        return self._linear(f"{name}.down", x, 4 * width, width, scale=RESIDUAL_SCALE)

    def _norm(self, name: str, x: str, width: int) -> str:
        scale = self._const(f"{name}.scale", np.ones(width, np.float32))
        shift = self._const(f"{name}.shift", np.zeros(width, np.float32))
        return self._op("LayerNormalization", x, scale, shift, axis=-1)

    def _linear(self, name: str, x: str, width: int, into: int, *, scale: float = 1.0) -> str:
        weight = self._weight(f"{name}.weight", (width, into), fan_in=width, scale=scale)
        bias = self._const(f"{name}.bias", np.zeros(into, np.float32))
        return self._op("Add", self._op("MatMul", x, weight), bias)

    def _conv(
        self,
        name: str,
        x: str,
        width: int,
        into: int,
        *,
        size: int,
        stride: int = 1,
        scale: float = 1.0,
    ) -> str:
        weight = self._weight(f"{name}.weight", (into, width, size, size), scale=scale)
        bias = self._const(f"{name}.bias", np.zeros(into, np.float32))
        pads = [size // 2] * 4
        return self._op(
            "Conv", x, weight, bias, kernel_shape=[size, size], strides=[stride] * 2, pads=pads
        )

    def _weight(
        self, name: str, shape: tuple[int, ...], *, fan_in: int | None = None, scale: float = 1.0
    ) -> str:
        """He-normal; *fan_in* is the product of all but the first size where not given."""
        factor = np.float32(scale * math.sqrt(2 / (fan_in or math.prod(shape[1:]))))
        values = self._rng.standard_normal(shape, dtype=np.float32)
        values *= factor
        return self._const(name, values)

    def _const(self, name: str, value: np.ndarray) -> str:
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def _op(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:  # noqa: ANN401
        out = out or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR)
