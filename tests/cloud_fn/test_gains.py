"""What is said of whether a function's requests run together."""

from typing import Any

import pytest

from cloud_fn.config import Instance
from cloud_fn.functions.gains import told_together
from cloud_fn.functions.settings import Batching, Settings, resolve
from cloud_fn.functions.specifications import Setting, Specifications
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.registry.function_store import FunctionStore
from cloud_fn.registry.manifest import StoredFile
from cloud_fn.registry.variants import Batched, Variant
from planner.target import Target

FILE = StoredFile(name="g", digest="0" * 64, size_bytes=1)
POINTS = ((0.5, 0.9), (1, 1.0), (4, 2.0), (8, 2.5))
GAINS = Batched(graph=FILE, points=POINTS, length=16)


def a_variant(batched: Batched | None, architecture: str = "vax") -> Variant:
    target = Target(architecture=architecture, features=(), onnxruntime="1.0")
    return Variant(
        target=target, graph=FILE, document=FILE, read_s=1, open_s=1, measured="", batched=batched
    )


@pytest.mark.parametrize(
    ("settings", "batched", "told"),
    [
        ({}, GAINS, "on: 8 at once are 3.2 times as many a second"),
        ({"batching": Batching(max_size=6)}, GAINS, "on: 4 at once are 2.0 times as many a second"),
        ({"batching": "off"}, GAINS, "off: its settings say so"),
        ({"providers": ("cuda",), "gpu": 0.5}, GAINS, "off: it runs on cuda, for which nothing"),
        ({}, Batched(reason="rows meet"), "off: rows meet"),
        ({}, None, "off: nobody has measured it: push the version again"),
    ],
)
def test_it_is_said_what_running_together_gains_or_why_it_is_off(
    settings: dict[str, Any], batched: Batched | None, told: str
) -> None:
    resolved = resolve(Settings(**settings), Instance())
    assert told_together(resolved, [a_variant(batched)]).startswith(told)


def test_kinds_of_machines_are_told_apart_where_there_are_several() -> None:
    variants = [a_variant(GAINS, "vax"), a_variant(Batched(reason="slow"), "pdp11")]
    found = told_together(resolve(None, Instance()), variants)
    first, second = (each.target.id for each in variants)
    assert found == f"{first}: on: 8 at once are 3.2 times as many a second; {second}: off: slow"
    assert told_together(resolve(None, Instance()), []).startswith("off: the version was not made")


def test_a_functions_description_says_it_and_how_many_requests_that_gives_an_instance(
    catalog: Catalog, published: dict[str, Manifest]
) -> None:
    said = Specifications(catalog, FunctionStore(catalog.root), Instance())
    found = said.set("mlp", Settings(batching=Batching(max_size=9))).settings
    why = "off: axis 0 of input 'x' is fixed: publish the model with a dynamic one"
    assert found["together"] == Setting(value=why, source="measured")
    assert found["concurrency"] == Setting(value=4, source="server")
    (catalog.root / "models" / "mlp" / "variants" / "1.json").unlink()
    catalog.add_variant(published["mlp"], a_variant(GAINS))
    found = said.show("mlp").settings
    assert found["together"].value == "on: 8 at once are 3.2 times as many a second"
    assert found["concurrency"] == Setting(value=9, source="batching")
