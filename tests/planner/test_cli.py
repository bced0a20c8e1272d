"""The planner's commands from the outside: stdout, exit status, one sentence on stderr."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from planner.steps import made_up_image


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
    assert "crop" in done.stdout
    assert "108 k multiply-adds" in done.stdout
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
    assert "certificate" in told.stdout
    assert "the minimum cut proves" in told.stdout
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


def test_a_question_has_objectives_limits_and_prices(tiny: Path, profile: Path) -> None:
    both = (tiny, "--device", profile, "--cloud", profile, "--link", "LTE", "--json")
    energy = isthmus("plan", *both, "--objective", "energy", "--device-power", "3W")
    assert json.loads(energy.stdout)["certificate"]["unit"] == "J"
    stream = json.loads(isthmus("plan", *both, "--objective", "throughput").stdout)
    assert stream["mixture"]["fps"] >= 0.99 * max(
        plan["fps"] for plan in stream["plans"] if not plan["refused"]
    )
    flags = ("--slo", "10s@0.95", "--max-memory", "50MB", "--max-tensors", "2", "--max-cost", "5")
    limited = json.loads(isthmus("plan", *both, *flags).stdout)
    assert limited["limits"] == [
        "latency for 0.95 of the requests at most 1e+04 ms",
        "money at most 5 USD a million",
        "device memory at most 50 MB",
        "boundary tensors at most 2",
    ]
    front = json.loads(isthmus("plan", *both, "--pareto", "latency,cost").stdout)
    assert front["objectives"] == ["latency", "cost"]
    assert front["points"][-1]["usd"] == 0.0
    tiers = json.loads(isthmus("plan", *both, "--tier", f"{profile},WiFi").stdout)
    assert [stage["tier"] for stage in tiers["stages"]] == ["device", "p (1)", "cloud"]
    assert tiers["total_s"] <= min(tiers["alone_s"].values()) + 1e-9


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--objective", "energy"), "--device-power"),
        (("--device-power", "3"), "write a number and one of mW, W"),
        (("--slo", "fast"), "is no time above 0"),
        (("--slo", "1s@most"), "has no quantile after @"),
        (("--slo", "1s@7"), "between 0 and 1"),
        (("--max-memory=-5MB",), "is no size above 0"),
        (("--max-cost", "nan"), "the limit usd is nan"),
        (("--pareto", "latency,latency"), "is no pair"),
        (("--pareto", "speed,cost"), "give two of latency, energy, cost, throughput"),
        (("--tier", "gateway.json"), "lacks its link"),
        (("--accuracy-drop", "0.1"), "give --evaluate DATA"),
        (("--tariff", "cheap"), "write dollars as"),
        (("--radio", "5G"), "it is one of 3G, LTE, WiFi"),
        (("--on-device", "nothing"), "there is no op 'nothing' to pin"),
        (("--cloud-load", "none.json"), "none.json"),
        (("--codec", "mp3"), "codec 'mp3' is unknown"),
    ],
)
def test_a_flag_that_says_nothing_is_refused_in_a_sentence(
    tiny: Path, profile: Path, flags: tuple[str, ...], says: str
) -> None:
    told = refusal(
        isthmus("plan", tiny, "--device", profile, "--cloud", profile, "--link", "LTE", *flags)
    )
    assert says in told


def test_lossy_codecs_are_measured_on_data_and_the_measurements_kept(
    tiny: Path, profile: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(4):
        (folder / f"{seed}.jpg").write_bytes(made_up_image(64, 48 + seed))
    fidelity = tmp_path / "fidelity.json"
    done = isthmus(
        *("plan", tiny, "--device", profile, "--cloud", profile, "--link", "0.01Mbps,1ms"),
        *("--device-speed", "0.001", "--no-raw-input", "--evaluate", folder),
        *("--accuracy-drop", "0.5", "--fidelity", fidelity, "--json"),
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    kept = json.loads(fidelity.read_text())
    assert kept["samples"] == 4
    drops = [plan["drop"] for plan in document["plans"] if plan["drop"] is not None]
    assert drops
    assert kept["effects"]


def test_profile_takes_in_earlier_ones(tiny: Path, profile: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.json"
    done = isthmus("profile", tiny, "-o", both, "--runs", "5", "--merge", profile, "--no-anchors")
    assert done.returncode == 0, done.stderr
    assert "profiling the network" in done.stderr
    assert json.loads(both.read_text())["runs"] == 10
    one = tmp_path / "one.json"
    done = isthmus("profile", tiny, "-o", one, "--only-merge", "--merge", both, "--json")
    assert done.returncode == 0, done.stderr
    assert "profiling" not in done.stderr
    assert json.loads(done.stdout) == json.loads(one.read_text())


def test_only_merge_needs_something_to_merge(tiny: Path, tmp_path: Path) -> None:
    done = isthmus("profile", tiny, "-o", tmp_path / "p.json", "--only-merge")
    assert "needs at least one --merge" in refusal(done)
