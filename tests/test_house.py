"""The house: who may import whom, and how large a module may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY = {
    "protos": set(),
    "planner": {"protos"},
    "cloud_fn": {"protos", "planner"},
    "edge_agent": {"protos", "planner"},
    "testbed": {"protos", "planner", "cloud_fn", "edge_agent"},
}
LONGEST = 400
GENERATED = ROOT / "protos" / "gen"


def modules() -> list[Path]:
    found = [p for room in MAY for p in sorted((ROOT / room).rglob("*.py"))]
    return [path for path in found if GENERATED not in path.parents]


def imports(path: Path) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_rooms_import_only_what_the_house_allows() -> None:
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path in modules()
        for name in sorted(imports(path) & set(MAY))
        if name not in MAY[path.relative_to(ROOT).parts[0]] | {path.relative_to(ROOT).parts[0]}
    ]
    assert wrong == []


def test_no_module_is_too_long() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in modules()}
    assert {name: n for name, n in lengths.items() if n > LONGEST} == {}


@pytest.mark.parametrize(
    ("package", "never"),
    [
        ("planner.model", ("grpc", "ray", "paho")),
        ("planner.cli", ("grpc", "ray", "paho", "onnxruntime")),
        ("isthmus", ("grpc", "ray", "paho", "onnxruntime", "numpy")),
    ],
)
def test_importing_a_room_loads_no_more_than_it_needs(package: str, never: tuple[str, ...]) -> None:
    code = f"import sys, {package}; print(sorted(set({never!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
