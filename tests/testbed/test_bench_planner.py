"""The planner's benchmark counts what it should, and its targets say on which side they lie."""

import pytest

from testbed.bench.planner import bench_planner, show
from testbed.bench.targets import at_least, at_most


def test_no_plan_is_wrong_and_each_question_has_its_share_of_the_cases() -> None:
    said: list[str] = []
    result = bench_planner(sections=("exactness",), cases=70, say=said.append)
    assert [row.cases for row in result.exactness] == [10] * 7
    assert sum(row.wrong + row.recosted_differently for row in result.exactness) == 0
    assert all(target.met for target in result.targets)
    assert len(said) == 7


def test_a_real_model_is_planned_beside_networkx_and_the_fields_methods(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = bench_planner(sections=("planning",), names=("magika",), say=lambda _: None)
    assert result.survey is not None
    assert result.survey.same_as_networkx
    assert [row.model for row in result.survey.planning] == ["magika", "made up"]
    assert [row.link for row in result.survey.answers] == ["3G", "LTE", "WiFi"]
    for row in result.survey.answers:
        others = (row.device_only, row.cloud_only, row.neurosurgeon, row.dads)
        assert min(others) >= 0.9999, f"{row.link}: a simpler method found a better plan"
    show(result)
    assert "Neurosurgeon" in capsys.readouterr().out


def test_pieces_of_a_real_model_are_predicted_beside_two_baselines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = bench_planner(sections=("prediction",), names=("ppocr_cls",), say=lambda _: None)
    assert result.predicted is not None
    assert [row.speed for row in result.predicted.rows] == [1.0, 0.25, 0.1]
    for row in result.predicted.rows:
        assert row.cuts == 14
        assert 0 <= row.error <= row.worst
        assert row.by_work is not None
        assert row.by_work > row.unanchored / 10
    show(result)
    assert "ppocr_cls" in capsys.readouterr().out


def test_a_target_says_whether_it_is_met() -> None:
    assert (at_most("slowest", 3.0, 50, "ms").met, at_most("slowest", 51, 50, "ms").met) == (
        True,
        False,
    )
    missed = at_least("gain", 1.1, 1.3, "x")
    assert (missed.name, missed.met) == ("gain, at least", False)
