"""Which number a push gets: pure decisions about names, versions and content."""
# ruff: noqa: ANN401  (builders take any field)

from typing import Any

import pytest

from cloud_fn.errors import RegistryError
from cloud_fn.registry.manifest import (
    Content,
    Interface,
    Manifest,
    StoredFile,
    assign,
    check_name,
    parse_version,
)

NOTHING = Interface(inputs=(), outputs=(), source=(), answers=())


def a_file(letter: str, name: str = "m.onnx") -> StoredFile:
    return StoredFile(name=name, digest=letter * 64, size_bytes=1)


def a_manifest(version: int = 1, **content: Any) -> Manifest:
    return Manifest(
        name="m",
        version=version,
        digest="d" * 64,
        content=Content(**{"model": a_file("a"), **content}),
        interface=NOTHING,
        created="2026-01-01T00:00:00+00:00",
    )


def test_the_first_version_is_1() -> None:
    assert assign([], a_manifest()).version == 1


def test_new_content_gets_the_number_after_the_newest() -> None:
    existing = [a_manifest(1, model=a_file("b")), a_manifest(7, model=a_file("c"))]
    assert assign(existing, a_manifest()) == a_manifest(8)


def test_the_same_content_keeps_its_version_whatever_its_files_are_called() -> None:
    existing = [a_manifest(1), a_manifest(2, model=a_file("b"))]
    assert assign(existing, a_manifest(model=a_file("a", "other.onnx"))) == existing[0]


@pytest.mark.parametrize(
    "content",
    [{"steps": a_file("e")}, {"data": (a_file("e"),)}, {"dims": {"batch": 2}}],
    ids=["steps", "weights", "dims"],
)
def test_other_steps_weights_or_dims_make_another_version(content: dict[str, Any]) -> None:
    assert assign([a_manifest(1)], a_manifest(**content)).version == 2


@pytest.mark.parametrize("name", ["a", "rapid_orientation", "v1.2-int8", "0", "x" * 63])
def test_a_plain_name_may_be_a_models(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "A", "-a", "_a", "x" * 64, "a b", "a\n", "é", "a\0"]
)
def test_a_name_that_could_mislead_a_file_system_may_not(name: str) -> None:
    with pytest.raises(RegistryError, match="a model cannot be named"):
        check_name(name)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("42", 42), ("0", None), ("01", None), ("-1", None), ("1.0", None), ("²", None)],
)
def test_a_version_is_written_as_a_plain_number(text: str, number: int | None) -> None:
    assert parse_version(text) == number
