"""The bench of policies plays a trace, holds ours beside the field's, and says what it reached."""

from pathlib import Path

import pytest

from testbed.bench.policies import bench_policies, show
from testbed.errors import TestbedError


def a_trace(folder: Path) -> Path:
    """Timers at even paces, and one that starts over again and again."""
    minutes = range(300)
    head = ["HashOwner", "HashApp", "HashFunction", "Trigger", *map(str, minutes)]
    lines = [
        ["o", "a", f"f{pace}", "timer", *("1" if at % pace == 0 else "0" for at in minutes)]
        for pace in (2, 7, 20, 45, 90)
    ]
    (folder / "invocations.csv").write_text("\n".join(",".join(line) for line in [head, *lines]))
    return folder


def test_every_target_names_what_it_is_measured_against(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    result = bench_policies(sections=("sizes", "spread"), path=a_trace(tmp_path), say=said.append)
    assert [part.section for part in result.parts] == ["sizes", "spread"]
    assert len(result.targets) == 8
    assert all("hybrid histogram (after 1" in target.name for target in result.targets)
    assert {each.policy for each in result.parts[0].against} == {
        "fixed keep-alive",
        "hybrid histogram",
        "forecast",
        "greedy-dual",
    }
    assert any("back-tested" in line for line in said)
    show(result)
    out = capsys.readouterr().out
    assert "back-tested beside each baseline" in out
    assert "memory at no more cold starts" in out


def test_a_landmark_that_is_not_found_again_is_a_target_missed(tmp_path: Path) -> None:
    result = bench_policies(sections=("alike",), path=a_trace(tmp_path), say=lambda _: None)
    assert (result.targets[-1].value, result.targets[-1].met) == (4, False)


def test_without_the_trace_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match="put the trace there"):
        bench_policies(path=tmp_path / "none", say=lambda _: None)
