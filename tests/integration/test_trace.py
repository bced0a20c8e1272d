"""An agent that follows its plan table over a link that changes, with real parts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from planner.traces import PACKET_BYTES, Trace, write_trace

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]


def steps(*stretches: tuple[float, float]) -> Trace:
    """A link of so many Mbps for so many seconds, one stretch after the other."""
    times, begun_ms = list[int](), 0.0
    for mbps, seconds in stretches:
        gap_ms = PACKET_BYTES * 8 / (mbps * 1e3)
        times += [round(begun_ms + n * gap_ms) for n in range(int(1e3 * seconds / gap_ms))]
        begun_ms += 1e3 * seconds
    return Trace((*times, round(begun_ms)))


def test_when_the_link_worsens_the_agent_passes_a_breakpoint_and_follows_its_table(
    tmp_path: Path,
) -> None:
    path = tmp_path / "worse.up"
    write_trace(steps((30.0, 3.0), (0.8, 9.0)), path)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "isthmus", "testbed", "run", "trace", "--json"),
            *("--trace", os.fspath(path), "--seconds", "9", "--device-speed", "0.05"),
            *("--keep", os.fspath(tmp_path / "kept")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=140,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(asked["right"] for asked in found["asked"])
    assert found["changes"]
    assert all(change["right"] for change in found["changes"])
    assert len(found["changes"]) <= 4
    assert found["asked"][0]["estimate_mbps"] > found["asked"][-1]["estimate_mbps"]
    assert found["asked"][-1]["plan"] == found["changes"][-1]["after"]
    assert found["left_running"] == []
