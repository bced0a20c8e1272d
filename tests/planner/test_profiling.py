"""Measuring a model on this machine, and making several profiles one."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from planner.coding import IMAGE
from planner.errors import PlannerError
from planner.machine import cpu_name
from planner.merging import merged
from planner.model import Model
from planner.profiles import Profile
from planner.profiling import profile
from planner.steps import made_up_image
from planner.timing import around


def test_a_profile_says_where_when_and_how_sure(measured: Profile) -> None:
    low, high = measured.spread_s
    assert 0 < low <= high
    assert measured.runs == 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", measured.taken)
    assert measured.machine.provider == "CPU"
    assert measured.machine.numpy == np.__version__
    assert "Linux" in measured.machine.system
    assert sum(op.seconds for op in measured.ops) == pytest.approx(measured.whole_s)


def test_heads_and_tails_were_really_run(model: Model, measured: Profile) -> None:
    assert measured.anchors
    for anchor in measured.anchors:
        assert set(anchor.crossing) <= set(model.graph.tensors)
        assert anchor.head_s > 0
        assert anchor.tail_s > 0
        network_s = sum(
            timed.seconds
            for timed, op in zip(measured.ops, model.graph.ops, strict=True)
            if not op.is_step
        )
        assert anchor.head_expected_s + anchor.tail_expected_s == pytest.approx(network_s)


def test_the_image_is_written_in_every_quality(measured: Profile) -> None:
    crop = next(size for size in measured.tensors if size.name == "crop")
    assert set(IMAGE) <= set(crop.coded_bytes)
    assert set(IMAGE) <= {rate.codec for rate in measured.codecs}


def test_progress_rises_from_0_to_1(model: Model) -> None:
    shares: list[float] = []
    sample = {"bytes": np.array([made_up_image(64, 48)], dtype=np.object_)}
    found = profile(
        model, sample, runs=5, anchors=False, report=lambda _, share: shares.append(share)
    )
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)
    assert found.anchors == ()


def test_every_call_has_its_turn_until_the_time_is_over() -> None:
    made: list[str] = []
    calls = {name: (lambda name=name: made.append(name)) for name in "ab"}
    turns = list(around(calls, turns=50, most_s=0.0))
    assert len(turns) == 5
    assert all(turn.keys() == calls.keys() for turn in turns)
    assert made.count("a") == made.count("b")


def test_merged_profiles_count_by_their_runs(measured: Profile) -> None:
    slower = msgspec.structs.replace(measured.scaled(0.5), runs=15, tensors=())
    both = merged([measured, slower])
    assert both.runs == 20
    assert both.whole_s == pytest.approx(measured.whole_s * (0.25 + 0.75 * 2))
    assert both.spread_s == (measured.spread_s[0], slower.spread_s[1])
    assert both.tensors == measured.tensors
    assert sum(op.seconds for op in both.ops) == pytest.approx(both.whole_s)
    assert [anchor.crossing for anchor in both.anchors] == [
        anchor.crossing for anchor in measured.anchors
    ]
    for rate, before in zip(both.codecs, measured.codecs, strict=True):
        assert rate.encode_s(1000) == pytest.approx(1.75 * before.encode_s(1000))


def test_one_profile_merged_is_itself(measured: Profile) -> None:
    alone = merged([measured])
    for op, before in zip(alone.ops, measured.ops, strict=True):
        assert op.name == before.name
        for part in ("head", "tail"):
            assert op.as_part(part) == pytest.approx(before.as_part(part))


def test_profiles_of_two_machines_or_models_are_not_merged(measured: Profile) -> None:
    other = msgspec.structs.replace(measured.machine, cpu="Cortex-A72")
    with pytest.raises(PlannerError, match="differ in cpu"):
        merged([measured, msgspec.structs.replace(measured, machine=other)])
    with pytest.raises(PlannerError, match="other bytes"):
        merged([measured, msgspec.structs.replace(measured, digest="sha256:0")])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor : 0\nmodel name\t: Fast 9000\n", "Fast 9000"),
        ("Hardware : BCM2835\nModel\t\t: Raspberry Pi 4 Model B\n", "Raspberry Pi 4 Model B"),
    ],
)
def test_a_processor_or_board_is_called_by_its_name(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_name(tmp_path / "cpuinfo") == name


def test_a_machine_that_hides_its_processor_has_a_name_still(tmp_path: Path) -> None:
    assert cpu_name(tmp_path / "nothing")
