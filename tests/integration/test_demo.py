"""The whole way, as a user starts it: real broker, Ray, gateway, link and agent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def test_the_demo_is_right_in_every_way_and_leaves_nothing_running(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "isthmus", "demo", "--json", "--keep", os.fspath(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=220,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ways = {way["name"]: way for way in found["ways"]}
    assert list(ways) == ["device-only", "cloud-fp32", "cloud-uint8", "cloud-jpeg", "plan"]
    for way in ways.values():
        assert way["right"], way
        assert way["predicted_ms"] > 0
        assert way["measured_ms"] > 0
        terms = way["terms"]
        assert set(terms) == {"trigger", "init", "load", "infer", "response"}
    assert ways["device-only"]["sent_bytes"] == 0
    assert ways["cloud-fp32"]["sent_bytes"] == 4 * 3 * 224 * 224
    assert ways["cloud-uint8"]["sent_bytes"] == 3 * 224 * 224
    assert ways["plan"]["chosen"]
    assert ways["plan"]["plan"] == found["choice"]
    assert found["cold"]["terms"]["init"] > 0
    assert found["cold"]["terms"]["load"] > 0
    outage = found["outage"]
    assert outage["sent_bytes"] > 0
    assert outage["answered_mode"] == "fallback"
    assert outage["while_down_mode"] == "fallback"
    assert outage["back_mode"] == "cloud"
    assert outage["right"]
    assert found["left_running"] == []
