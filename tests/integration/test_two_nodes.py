"""Two nodes of one Ray: a host that hangs and a node that is lost cost no call its answer."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.cloud_fn.conftest import build_mlp, short

__all__ = ["build_mlp", "short"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]


def test_a_hung_host_and_a_lost_node_cost_no_accepted_call_its_answer(
    build_mlp: Callable[..., Path],
    short: Path,
) -> None:
    """The seconds are printed, for whoever wants to know; a busy machine may take longer."""
    model = build_mlp(short / "mlp.onnx")
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.two_nodes", str(short), str(model)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    print(told.pop("seconds"))  # noqa: T201  shown by pytest -s
    assert told == {
        "spread": {"near": 2, "far": 2},
        "why": "hung",
        "right_after_hang": 20,
        "spread_of_another": {"near": 0, "far": 4},
        "right_after_loss": 20,
        "spread_after_loss": {"near": 4, "far": 0},
        "left": [],
    }
    left = [each for each in psutil.process_iter(["cmdline"]) if str(short) in str(each.info)]
    assert left == []


def test_a_storm_over_two_nodes_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """`isthmus serve` itself, which joins the Ray; instances on both nodes are killed."""
    storm = ("isthmus", "testbed", "run", "storm", "--nodes", "2", "--functions", "3")
    played = ("--duration", "15", "--kill-every", "3", "--json", "--keep", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", *storm, *played],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert found["nodes"] == 2
    for row in found["functions"]:
        assert row["right"] > 0, row
        assert (row["lost"], row["doubled"], row["wrong"], row["unclear"]) == (0, 0, 0, 0)
    said = "\n".join(path.read_text() for path in tmp_path.glob("*serve*.log"))
    assert "instances run on 2 nodes" in said
    assert "host is there: kind=cpu@" in said
