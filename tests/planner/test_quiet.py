"""Nothing that a user did not ask for leaves the machine."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["planner.model", "edge_agent.agent", "cloud_fn.registry.push"])
def test_onnx_runtime_is_told_to_report_nothing_before_it_is_imported(module: str) -> None:
    """It decides that when it is imported, and has reported to its maker since 1.29 by default."""
    code = (
        "import builtins, os\n"
        "real, seen = builtins.__import__, []\n"
        "def look(name, *rest, **more):\n"
        "    if name.partition('.')[0] == 'onnxruntime':\n"
        "        seen.append(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = look\n"
        f"import {module}\n"
        "print(sorted(set(seen)))\n"
    )
    untold = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=untold,
    )
    assert done.stdout.strip() == "['1']"
