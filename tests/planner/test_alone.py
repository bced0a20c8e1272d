"""The planner stands alone: its documented interface, without Ray, gRPC, MQTT or optional parts."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ELSEWHERE = ("ray", "grpc", "paho", "soundfile", "tokenizers")

PROGRAMME = """
import sys
for name in {elsewhere!r}:
    sys.modules[name] = None  # importing it fails, as where it is not installed
import pathlib, planner
from planner.links import parse_link
from planner.model import sample_inputs
model = planner.read(pathlib.Path({path!r}))
cloud = planner.profile(model, sample_inputs(model), runs=5)
document = planner.plan(model, cloud.scaled(0.1), cloud, parse_link("LTE"))
written = planner.split(model, ["r1"], pathlib.Path({folder!r}))
print(document.choice, written.head.name, written.tail.name)
"""


@pytest.mark.parametrize("name", ["read", "profile", "plan", "split"])
def test_each_public_function_does_what_its_example_shows(name: str) -> None:
    package = importlib.import_module("planner")
    function = getattr(package, name)
    module = importlib.import_module(function.__module__)
    (example,) = doctest.DocTestFinder(recurse=False).find(
        function, name, module=module, globs=dict(vars(module))
    )
    assert example.examples, f"planner.{name} has no example"
    result = doctest.DocTestRunner().run(example)
    assert (result.attempted > 0, result.failed) == (True, 0)


def test_it_reads_profiles_plans_and_splits_with_nothing_else_installed(
    tiny: Path, tmp_path: Path
) -> None:
    text = PROGRAMME.format(elsewhere=ELSEWHERE, path=str(tiny), folder=str(tmp_path / "pieces"))
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:] == ["head.onnx", "tail.onnx"]
