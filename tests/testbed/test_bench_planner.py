"""The planner's benchmark counts what it should and meets its targets' form."""

from testbed.bench.planner import bench_planner


def test_no_plan_is_wrong_and_networkx_agrees() -> None:
    said: list[str] = []
    result = bench_planner(cases=50, names=("magika",), say=said.append)
    assert (result.exactness.wrong, result.exactness.recosted_differently) == (0, 0)
    assert [(row.model, row.same) for row in result.rows] == [("magika", True)]
    assert [target.name for target in result.targets] == ["wrong plans", "slowest cut"]
    assert said == ["checking 50 random graphs against all their cuts", "cutting magika"]
