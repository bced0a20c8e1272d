"""The JSON Schema of ``steps.json``, made from the structs that read it.

``python -m planner.steps.schema > docs/steps.schema.json`` writes it.
"""

import inspect
import sys
from typing import Any

import msgspec

from planner.steps.declare import Steps
from protos.documents import encode_json


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a steps file. What fields together must be, only reading tells."""
    made = msgspec.json.schema(Steps)
    for kind in made["$defs"].values():
        kind["description"] = inspect.cleandoc(kind["description"]).replace("``", "`")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "isthmus.steps/1",
        **made,
    }


if __name__ == "__main__":
    sys.stdout.write(encode_json(json_schema()).decode())
