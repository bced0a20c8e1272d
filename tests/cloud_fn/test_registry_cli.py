"""``isthmus registry``: results on stdout, one document with --json, one sentence when it fails."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_fn import cli
from cloud_fn.errors import RegistryError
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
    assert capsys.readouterr().out == (
        "mlp:1 published\nmlp:1 is there already, with the same content\n"
    )


def test_json_is_exactly_one_document_for_each_action(
    colours: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, steps = colours

    def document(*argv: object) -> Any:  # noqa: ANN401  JSON
        assert run("registry", *argv, "--root", tmp_path / "r", "--json") == 0
        return json.loads(capsys.readouterr().out)

    pushed = document("push", model, "--steps", steps)
    assert pushed["new"] is True
    assert document("show", "colours:1") == pushed["manifest"]
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
    assert lines[-5:] == [
        "input    x  FP32 [1, 3, 2, 2]",
        "output   y  FP32 [1, 3]",
        "source   bytes  BYTES [1]",
        "answer   label  BYTES [1]",
        "answer   score  FP32 [1]",
    ]


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
