"""The .proto files against their stubs, and against the public standard."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protos.generate import generate

ROOT = Path(__file__).parents[2]

DESCRIBE = """
import importlib, json, sys
from google.protobuf import descriptor_pb2

file = descriptor_pb2.FileDescriptorProto()
importlib.import_module(sys.argv[1]).DESCRIPTOR.CopyToProto(file)

def messages(prefix, described):
    for each in described:
        name = f"{prefix}.{each.name}"
        yield name, {
            field.name: [
                field.number,
                field.Type.Name(field.type),
                field.Label.Name(field.label),
                field.type_name,
                each.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None,
            ]
            for field in each.field
        }
        yield from messages(name, each.nested_type)

services = {
    f"{file.package}.{service.name}/{method.name}": [
        method.input_type, method.output_type, method.client_streaming, method.server_streaming
    ]
    for service in file.service
    for method in service.method
}
print(json.dumps({"messages": dict(messages(file.package, file.message_type)), "calls": services}))
"""


def python(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    return done.stdout


def described(module: str) -> dict[str, Any]:
    """Describe a stub in a process of its own: both register the package ``inference``."""
    found: dict[str, Any] = json.loads(python(DESCRIBE, module))
    return found


def test_the_stubs_are_what_the_proto_files_give(tmp_path: Path) -> None:
    made = {path.name: path.read_bytes() for path in generate(tmp_path)}
    kept = {path.name: path.read_bytes() for path in (ROOT / "protos" / "gen").glob("*_pb2*")}
    assert made.keys() == kept.keys()
    assert [name for name in made if made[name] != kept[name]] == []


def test_names_numbers_and_types_are_those_of_the_standard() -> None:
    """The standard's own definition comes with tritonclient; ours is a part of it."""
    ours = described("protos.gen.open_inference_pb2")
    theirs = described("tritonclient.grpc.service_pb2")
    assert ours["messages"] == {name: theirs["messages"].get(name) for name in ours["messages"]}
    assert ours["calls"] == {name: theirs["calls"].get(name) for name in ours["calls"]}


def test_the_calls_of_both_services_are_these() -> None:
    calls = described("protos.gen.open_inference_pb2")["calls"]
    assert {name.removeprefix("inference.GRPCInferenceService/") for name in calls} == {
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelInfer",
        "ModelStreamInfer",
        "RepositoryIndex",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
    }
    control = described("protos.gen.control_pb2")["calls"]
    assert {name: call[2:] for name, call in control.items()} == {
        "isthmus.control.v1.Control/Publish": [True, False],
        "isthmus.control.v1.Control/ListModels": [False, False],
        "isthmus.control.v1.Control/ShowModel": [False, False],
        "isthmus.control.v1.Control/GetLoad": [False, False],
        "isthmus.control.v1.Control/Deploy": [False, False],
        "isthmus.control.v1.Control/ListFunctions": [False, False],
        "isthmus.control.v1.Control/ShowFunction": [False, False],
        "isthmus.control.v1.Control/SetFunction": [False, False],
        "isthmus.control.v1.Control/ShowController": [False, False],
    }


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("protos.tensors", ["google.protobuf", "grpc", "PIL", "zstandard"]),
        ("protos.wire", ["grpc"]),
        ("protos.topics", ["numpy", "google.protobuf"]),
    ],
)
def test_a_module_brings_no_more_than_it_needs(module: str, absent: list[str]) -> None:
    script = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"
    assert set(python(script, module).split()) & set(absent) == set()
