"""The rig's own time: frames, Python and wake-ups around a model, learnt once on a trivial one.

Profiles hold ops and codecs only. What is learnt here goes into the device's profile before the
first real plan is made, and no measured cell has any part in it.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import onnx

from planner.links import Link
from planner.profiles import Profile
from testbed.bench.rig.orders import Message, Way
from testbed.bench.rig.parts import Rig
from testbed.bench.subjects import Subject

REQUESTS = 25
LINK = Link(name="calibration", up_bps=125e6, down_bps=125e6, rtt_s=0.020)
SIZE = 16
MESSAGES = 8
_LOCAL, _REMOTE = "device-only", "cloud-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Seconds of software around a request answered on the device, and around one that is sent.

    ``message_s`` is what a message more costs, where a request is sent in several.
    """

    local_s: float
    remote_s: float
    message_s: float

    def on(self, device: Profile) -> Profile:
        """The device's profile (scaled already) with this in it."""
        return msgspec.structs.replace(
            device, local_s=self.local_s, remote_s=self.remote_s, message_s=self.message_s
        )


def calibrate(rig: Rig, folder: Path, *, requests: int = REQUESTS) -> Overhead:
    """Measure a model of one op that does next to nothing, on the slowed device and across.

    Raises:
        TestbedError: a part of the rig failed.
    """
    name = "x"
    slices = tuple(
        Message(tensor=name, number=number, of=MESSAGES) for number in range(1, MESSAGES + 1)
    )
    remote = Way(id=_REMOTE, crossing=((name, "raw"),), chunks=slices)
    rig.load(trivial(folder), [Way(id=_LOCAL, crossing=()), remote])
    rig.over(LINK)
    local_s = median(rig.ask(_LOCAL, requests).total_s)
    asked = rig.ask(_REMOTE, requests)
    carried_s = LINK.rtt_s + asked.sent_bytes * (1 / LINK.up_bps + 1 / LINK.down_bps)
    remote_s = median(asked.total_s)
    parted_s = median(rig.ask(_REMOTE, requests, chunked=True).total_s)
    return Overhead(
        local_s=local_s,
        remote_s=max(remote_s - carried_s, 0.0),
        message_s=max(parted_s - remote_s, 0.0) / (MESSAGES - 1),
    )


def trivial(folder: Path) -> Subject:
    """A model of one Relu on 16 numbers, written into *folder*."""
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")],
        "trivial",
        [onnx.helper.make_tensor_value_info("x", kind, [1, SIZE])],
        [onnx.helper.make_tensor_value_info("y", kind, [1, SIZE])],
    )
    opset = onnx.helper.make_opsetid("", 17)
    path = folder / "trivial.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), str(path))
    sample = {"x": np.linspace(-1, 1, SIZE, dtype=np.float32)[None]}
    return Subject(name="trivial", path=path, steps=None, dims={}, sample=sample)
