"""``isthmus registry``: results on stdout, one document with --json, one sentence when it fails."""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_fn import cli
from cloud_fn.errors import RegistryError
from cloud_fn.registry import Catalog
from cloud_fn.registry.push import push
from planner.target import Target, this_target
from protos.errors import IsthmusError


def run(*argv: object) -> int:
    parser = argparse.ArgumentParser()
    cli.mount(parser.add_subparsers(required=True))
    args = parser.parse_args([str(each) for each in argv])
    return int(args.run(args))


def test_push_says_which_version_it_made(
    mlp: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push = ("registry", "push", mlp(), "--root", tmp_path / "r")
    assert (run(*push), run(*push)) == (0, 0)
    out, err = capsys.readouterr()
    assert out == "mlp:1 published\nmlp:1 is there already, with the same content\n"
    first, second, third = err.splitlines()
    assert re.fullmatch(r"optimising mlp:1 \(0\.0 MB\) for \w+-[0-9a-f]{12}", first)
    assert second == "measuring whether a copy of its weights makes it faster"
    assert re.fullmatch(r"mlp:1 loads in [\d.]+ ms here, \d+ ms as it was", third)


def test_json_is_exactly_one_document_for_each_action(
    colours: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, steps = colours

    def document(*argv: object) -> Any:  # noqa: ANN401  JSON
        assert run("registry", *argv, "--root", tmp_path / "r", "--json") == 0
        return json.loads(capsys.readouterr().out)

    pushed = document("push", model, "--steps", steps)
    assert pushed["new"] is True
    (variant,) = pushed["variants"]
    assert variant["id"] == this_target().id
    assert variant["graph"]["size_bytes"] > 0
    assert document("show", "colours:1") == pushed["manifest"] | {"variants": [variant]}
    assert document("list") == {
        "schema": "isthmus.registry/1",
        "models": [{"versions": [1], "newest": pushed["manifest"]}],
    }


def test_show_lists_the_tensors(
    colours: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, steps = colours
    root = ("--root", tmp_path / "r")
    run("registry", "push", model, "--steps", steps, *root)
    capsys.readouterr()
    assert run("registry", "show", "colours", *root) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("colours:1  published ")
    assert lines[-6:-1] == [
        "input    x  FP32 [1, 3, 2, 2]",
        "output   y  FP32 [1, 3]",
        "source   bytes  BYTES [1]",
        "answer   label  BYTES [1]",
        "answer   score  FP32 [1]",
    ]


def test_show_lists_the_machines_that_a_version_is_ready_for(
    mlp: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ("--root", tmp_path / "r")
    manifest, _ = push(Catalog(tmp_path / "r"), mlp())
    (made,) = Catalog(tmp_path / "r").variants(manifest)
    other = msgspec.structs.replace(
        made,
        target=Target(architecture="vax", features=(), onnxruntime="1.0"),
        read_s=0.5,
        open_s=0.0031,
        mapped_s=0.0132,
        prepacked_s=0.01,
        measured="2026-11-24T12:00:00+00:00",
    )
    unmeasured = msgspec.structs.replace(
        other,
        target=Target(architecture="pdp", features=(), onnxruntime="1.0"),
        mapped_s=None,
        prepacked_s=None,
    )
    with Catalog(tmp_path / "r").making(manifest):
        Catalog(tmp_path / "r").add_variant(manifest, other)
        Catalog(tmp_path / "r").add_variant(manifest, unmeasured)
    assert run("registry", "show", "mlp", *root) == 0
    first, second, third = capsys.readouterr().out.splitlines()[-3:]
    assert first.startswith(f"ready    {this_target().id}  onnxruntime ")
    assert second == (
        f"ready    {other.target.id}  onnxruntime 1.0  0.0 MB  opens in 3.1 ms, 500 ms as it was"
        "  prepacked 1.32x as fast: copied where used much  measured 2026-11-24T12:00:00+00:00"
    )
    assert "  prepacking not measured  " in third


def test_an_empty_registry_lists_nothing_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("registry", "list", "--root", tmp_path) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{tmp_path} has no models: `isthmus registry push MODEL.onnx`\n"


def test_the_environment_names_the_registry(
    mlp: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_SERVE_REGISTRY", str(tmp_path / "r"))
    assert run("registry", "push", mlp()) == 0
    assert (tmp_path / "r" / "models" / "mlp" / "1.json").is_file()


@pytest.mark.parametrize("dim", ["batch", "batch=", "=2", "batch=0", "batch=x"])
def test_a_dimension_that_is_none_is_refused(
    mlp: Callable[..., Path], tmp_path: Path, dim: str
) -> None:
    with pytest.raises(RegistryError, match="is not NAME=SIZE"):
        run("registry", "push", mlp(), "--root", tmp_path / "r", "--dim", dim)


def test_a_failure_exits_with_2() -> None:
    assert IsthmusError.exit_code == RegistryError.exit_code == 2
