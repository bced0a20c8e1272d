"""Real functions, really killed: every call has one outcome, and nothing is left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

STORM = (sys.executable, "-m", "isthmus", "testbed", "run", "storm", "--functions", "3")


def test_no_outcome_is_lost_or_doubled_while_instances_are_killed(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(*STORM, "--duration", "15", "--kill-every", "3", "--json"),
            *("--keep", os.fspath(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=220,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert len(found["functions"]) == 3
    for row in found["functions"]:
        assert row["right"] > 0, row
        assert row["requests"] == row["right"] + row["refused"]
        assert (row["lost"], row["doubled"], row["wrong"], row["unclear"]) == (0, 0, 0, 0)
    assert any(row["cold_share"] > 0 and row["init_ms"] for row in found["functions"])
    assert found["kills"] >= 2
    assert found["recovered"]
    assert found["terms"]["answers"] == sum(row["right"] for row in found["functions"])
    assert 0 < found["terms"]["terms_ms"] <= found["terms"]["measured_ms"]
    assert found["strays"] == 0
    assert found["left_running"] == []


def test_a_storm_that_is_told_to_end_leaves_nothing_running(tmp_path: Path) -> None:
    narration = tmp_path / "narration"
    with narration.open("w") as file:
        storm = subprocess.Popen(
            [*STORM, "--duration", "200", "--kill-every", "2", "--keep", os.fspath(tmp_path)],
            stdout=file,
            stderr=file,
        )
    family: set[psutil.Process] = set()
    deadline_s = time.monotonic() + 120
    while " s: " not in narration.read_text():
        assert storm.poll() is None, narration.read_text()
        assert time.monotonic() < deadline_s
        family |= set(psutil.Process(storm.pid).children(recursive=True))
        time.sleep(0.1)
    storm.send_signal(signal.SIGTERM)
    assert storm.wait(60) != 0
    assert list(running(family)) == []


def running(family: set[psutil.Process]) -> Iterator[str]:
    """The command lines of those that have not ended."""
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                yield " ".join(each.cmdline())
