"""The planner's commands from the outside: stdout, exit status, one sentence on stderr."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest


def isthmus(*words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "isthmus", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a refused command; no traceback, nothing on stdout."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def profile(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "p.json"
    done = isthmus("profile", tiny, "-o", path, "--runs", "5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tiny: ")
    return path


def test_inspect_draws_the_narrow_places(tiny: Path) -> None:
    done = isthmus("inspect", tiny)
    assert done.returncode == 0
    assert "7 ops, 6 steps" in done.stdout
    assert "####" in done.stdout
    document = json.loads(isthmus("inspect", tiny, "--json").stdout)
    assert document["source"] == ["bytes"]
    assert document["cuts"][0] == {"after": 3, "bytes": 3072, "tensors": ["crop"]}


def test_plan_and_split_from_profile_to_pieces(tiny: Path, profile: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    both = ("--device", profile, "--cloud", profile)
    done = isthmus("plan", tiny, *both, "--link", "LTE", "-o", plan, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(plan.read_text())
    told = isthmus("plan", tiny, *both, "--link", "LTE")
    assert "do not split" in told.stdout
    assert "certificate: re-costed" in told.stdout
    assert "names" not in refusal(isthmus("split", tiny, "--plan", plan, "-o", tmp_path / "s"))
    done = isthmus("split", tiny, "--cut", "r1", "-o", tmp_path / "s", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["difference"]["exact"] == 0.0
    onnx.checker.check_model(onnx.load(str(tmp_path / "s" / "head.onnx")))
    onnx.checker.check_model(onnx.load(str(tmp_path / "s" / "tail.onnx")))


def test_a_limit_that_cannot_be_met_is_a_no(tiny: Path, profile: Path) -> None:
    done = isthmus(
        *("plan", tiny, "--device", profile, "--cloud", profile),
        *("--link", "3G", "--device-speed", "0.0001", "--slo", "1ms"),
    )
    assert done.returncode == 1
    assert "no plan keeps latency at most 1 ms" in done.stderr


def test_bad_input_is_one_sentence_and_exit_2(tiny: Path, profile: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(tiny.read_bytes()[:100])
    both = ("--device", profile, "--cloud", profile)
    assert "no ONNX model or is truncated" in refusal(isthmus("inspect", broken))
    assert "does not exist" in refusal(isthmus("inspect", tmp_path / "none.onnx"))
    assert "is no link" in refusal(isthmus("plan", tiny, *both, "--link", "warp"))
    assert "not of the form NAME=SIZE" in refusal(isthmus("inspect", tiny, "--dim", "batch"))
    assert "is no time above 0" in refusal(
        isthmus("plan", tiny, *both, "--link", "3G", "--slo", "fast")
    )
    assert "codec" in refusal(isthmus("plan", tiny, *both, "--link", "3G", "--codec", "mp3"))
    assert "not a JSON" in refusal(
        isthmus("plan", tiny, "--device", broken, "--cloud", profile, "--link", "3G")
    )
    assert "has no tensor 'nope'" in refusal(
        isthmus("split", tiny, "--cut", "nope", "-o", tmp_path)
    )
    assert "cannot be written" in refusal(
        isthmus("profile", tiny, "--runs", "5", "-o", tmp_path / "no" / "p.json")
    )
