"""What is written about steps holds: the JSON Schema, and every example of the page."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from planner.model import Model, read
from planner.steps import made_up_message
from planner.steps.schema import json_schema
from protos.documents import encode_json

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "steps.md").read_text()
EXAMPLES = re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
FILES = {"labels.txt": "a\nb\n", "tokenizer.json": '{"model": {}}'}

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
Validate = Callable[[object], None]
Infos = Mapping[str, tuple[int, list[int]]]
NETWORKS: Mapping[str, tuple[Infos, Infos]] = {
    "image": ({"image": (FLOAT, [1, 3, 224, 224])}, {"y": (FLOAT, [1, 3])}),
    "images": ({"images": (FLOAT, [1, 3, 640, 640])}, {"y": (FLOAT, [1, 6, 50])}),
    "features": ({"features": (FLOAT, [1, 1, 64, 500])}, {"y": (FLOAT, [1, 5])}),
    "text": (
        {name: (INT, [1, 128]) for name in ("input_ids", "attention_mask", "token_type_ids")},
        {"last_hidden_state": (FLOAT, [1, 128, 8])},
    ),
    "row": ({"row": (FLOAT, [1, 5])}, {"y": (FLOAT, [1, 1])}),
    "eeg": (
        {
            "signal": (FLOAT, [1, 7500]),
            "bands": (FLOAT, [1, 8, 7500]),
            "state": (FLOAT, [1, 4]),
        },
        {"stages": (FLOAT, [1, 5]), "next_state": (FLOAT, [1, 4])},
    ),
}


@pytest.fixture(scope="module")
def validate() -> Validate:
    """What raises where a document does not fit the schema in the docs."""
    schema = json.loads((ROOT / "docs" / "steps.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check: Validate = jsonschema.Draft202012Validator(schema).validate
    return check


def a_network(path: Path, inputs: Infos, outputs: Infos) -> Path:
    """Each output is as many ones, plus nothing of each input: all inputs lead to all outputs."""
    nodes, total = [], "zero"
    for name in inputs:
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_f"], to=FLOAT),
            helper.make_node("ReduceMax", [f"{name}_f"], [f"{name}_m"], keepdims=0),
            helper.make_node("Mul", [f"{name}_m", "zero"], [f"{name}_z"]),
            helper.make_node("Add", [total, f"{name}_z"], [f"{name}_t"]),
        ]
        total = f"{name}_t"
    zero = helper.make_tensor("zero", FLOAT, [], [0.0])
    ones = [
        helper.make_tensor(f"{name}_1", FLOAT, shape, np.ones(int(np.prod(shape)), np.float32))
        for name, (_, shape) in outputs.items()
    ]
    nodes += [helper.make_node("Add", [f"{name}_1", total], [name]) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "example",
        [helper.make_tensor_value_info(name, *info) for name, info in inputs.items()],
        [helper.make_tensor_value_info(name, *info) for name, info in outputs.items()],
        [zero, *ones],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def model_of(text: str, folder: Path) -> Model:
    """An example of the page around a network that takes what it makes."""
    document = json.loads(text)
    kind = document.get("input") or ("eeg" if "decode_array" in text else "text")
    for name, data in FILES.items():
        (folder / name).write_text(data)
    (folder / "steps.json").write_text(text)
    network = a_network(folder / "example.onnx", *NETWORKS[kind])
    return read(network, steps=folder / "steps.json")


def test_the_schema_in_the_docs_is_the_one_that_is_made() -> None:
    """If not: python -m planner.steps.schema > docs/steps.schema.json."""
    committed = (ROOT / "docs" / "steps.schema.json").read_bytes()
    assert committed == encode_json(json_schema())
    made = subprocess.run(
        [sys.executable, "-m", "planner.steps.schema"], capture_output=True, check=True, cwd=ROOT
    )
    assert made.stdout == committed


@pytest.mark.parametrize("path", sorted((ROOT / "testbed" / "steps").glob("*.json")), ids=str)
def test_the_shipped_steps_are_valid(path: Path, validate: Validate) -> None:
    validate(json.loads(path.read_text()))


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_are_valid_and_fit_a_network(
    text: str, validate: Validate, tmp_path: Path
) -> None:
    validate(json.loads(text))
    model = model_of(text, tmp_path)
    assert model.source[0] == "bytes"
    steps = [op for op in model.graph.ops if op.is_step]
    declared = json.loads(text)
    assert len(steps) == len(declared["before"]) + len(declared["after"])


@pytest.mark.parametrize(
    "text", [text for text in EXAMPLES if "tokenizer" not in text], ids=lambda text: text[40:60]
)
def test_the_examples_answer_a_made_up_message(text: str, tmp_path: Path) -> None:
    model = model_of(text, tmp_path)
    sample = {"bytes": np.array([made_up_message(model.steps)], np.object_)}
    if "state" in model.source:
        sample["state"] = np.zeros((1, 4), np.float32)
    made = model.whole().run(sample)
    assert tuple(made) == model.answers


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"before": [{"step": "spin"}]}, "is not valid under any of the given schemas"),
        ({"before": [{"step": "crop", "width": 0, "height": 1}]}, "is not valid under any"),
        ({"schema": "isthmus.steps/2"}, "is not one of"),
        ({"more": 1}, "Additional properties are not allowed"),
    ],
)
def test_the_schema_refuses_what_reading_refuses(
    change: dict[str, Any], says: str, validate: Validate
) -> None:
    document = {"schema": "isthmus.steps/1", "before": [{"step": "decode"}], **change}
    with pytest.raises(jsonschema.ValidationError, match=says):
        validate(document)


def test_every_step_is_on_the_page() -> None:
    kinds = [
        kind["properties"]["step"]["enum"][0]
        for kind in json_schema()["$defs"].values()
        if "step" in kind["properties"]
    ]
    assert [kind for kind in kinds if f"`{kind}`" not in PAGE] == []
    assert len(kinds) == 32
