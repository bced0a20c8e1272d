"""Hosts as Ray actors: what Ray sets aside for them. No GPU is needed, for Ray only counts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


def test_a_host_gets_its_fraction_of_a_gpu_and_leaves_nothing(short: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cloud_fn.ray_hosts", str(short)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "gpus_without": 1.0,
        "kind": "cuda",
        "gpus_with": 0.5,
        "cpus_with": 1.5,
        "sees": "0",
        "why": "it was killed by SIGSEGV",
        "unknown": "there is no host of kind 'tpu': this server has cpu, cuda",
        "left": [],
    }
