"""Python before and after the engine: where it comes from, and what it may get wrong."""
# ruff: noqa: ANN401  (arrays are of any type)

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from cloud_fn.errors import FunctionFailed, InvalidRequest
from cloud_fn.functions.handlers import Handler, Handlers, load

X = np.array([[1.0, 2.0]], np.float32)


@pytest.fixture(autouse=True)
def _own_imports() -> Iterator[None]:
    """What a test imports is gone afterwards."""
    paths, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = paths
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package = tmp_path / "handlers" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("NUMBER = 3\n")
    (package / "images.py").write_text(
        dedent("""
        from shop.inner import FACTOR

        def double(inputs):
            return {name: FACTOR * each for name, each in inputs.items()}

        def rename(outputs):
            return {"renamed": outputs["y"]}
        """)
    )
    (package / "inner.py").write_text("FACTOR = 2\n")
    (package / "broken.py").write_text("import no_such_module\n")
    (package / "loud.py").write_text("raise ValueError('not today\\nnor tomorrow')\n")
    (package / "ends.py").write_text("raise SystemExit(3)\n")
    (package.parent / "json.py").write_text("def loads(inputs):\n    return inputs\n")
    return package.parent


def network(inputs: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {"y": inputs["x"] + 1}


def as_lists(arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    return {name: each.tolist() for name, each in arrays.items()}


def test_the_inputs_go_through_one_and_the_outputs_through_the_other(folder: Path) -> None:
    both = Handlers.load("shop.images:double", "shop.images:rename", folder=folder)
    assert as_lists(both.wrap(network)({"x": X})) == {"renamed": [[3.0, 5.0]]}
    one = Handlers.load("shop.images:double", None, folder=folder)
    assert as_lists(one.wrap(network)({"x": X})) == {"y": [[3.0, 5.0]]}
    other = Handlers.load(None, "shop.images:rename", folder=folder)
    assert as_lists(other.wrap(network)({"x": X})) == {"renamed": [[2.0, 3.0]]}


def test_without_handlers_nothing_is_wrapped() -> None:
    assert Handlers.load(None, None).wrap(network) is network


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "stall:run",
            "is not there: neither the server's environment nor FOLDER has a module stall",
        ),
        ("shop.stall:run", "environment nor FOLDER has a module shop.stall"),
        ("shop.inner.x:run", "environment nor FOLDER has a module shop.inner.x"),
        ("shop:run", "handler shop:run is not there: module shop has no run"),
        ("shop:NUMBER", "handler shop:NUMBER is a int: name something that can be called"),
        (
            "shop.broken:run",
            "cannot be imported: it needs the module no_such_module, which is not installed",
        ),
        (
            "shop.loud:run",
            "handler shop.loud:run cannot be imported: it raised ValueError: not today",
        ),
        ("shop.ends:run", "handler shop.ends:run cannot be imported: it raised SystemExit: 3"),
        ("../shop:run", "handler '../shop:run' is no handler's name: write package.module:callab"),
        ("shop.images:double.__globals__", "is no handler's name"),
    ],
)
def test_a_handler_that_cannot_be_had_is_said_in_one_sentence(
    folder: Path, name: str, sentence: str
) -> None:
    with pytest.raises(FunctionFailed) as caught:
        load(name, folder=folder)
    said = str(caught.value).replace(str(folder), "FOLDER")
    assert sentence in said
    assert "\n" not in said


def test_without_a_folder_only_what_is_installed_can_be_a_handler(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor can what lies where the process was started, which an instance may write."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend("")
    monkeypatch.syspath_prepend(".")
    with pytest.raises(FunctionFailed, match="the server's environment has no module shop"):
        load("shop.images:double")
    assert load("copy:copy").function is __import__("copy").copy


def test_the_folder_cannot_stand_in_for_what_is_installed(folder: Path) -> None:
    import json

    del sys.modules["json"]
    try:
        assert load("json:loads", folder=folder).function.__module__ == "json"
        assert sys.modules["json"].__file__ == json.__file__
    finally:
        sys.modules["json"] = json


def raising(error: BaseException) -> Any:
    def handler(arrays: Any) -> Any:
        raise error

    return handler


def giving(value: object) -> Any:
    return lambda _: value


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (raising(ValueError("too dark\nsecret detail")), "h raised ValueError: too dark"),
        (raising(KeyError("x")), "handler h raised KeyError: 'x'"),
        (raising(RuntimeError()), "handler h raised RuntimeError"),
        (raising(SystemExit(3)), "handler h raised SystemExit: 3"),
        (raising(ValueError("x" * 900)), f"handler h raised ValueError: {'x' * 200}"),
        (giving(None), "handler h gave a NoneType: it must give a dict of arrays by name"),
        (giving([X]), "handler h gave a list: it must give a dict of arrays by name"),
        (giving({"y": [1.0]}), "handler h gave a list for 'y': it must be a numpy array"),
        (giving({"y": np.float32(1)}), "gave a float32 for 'y': it must be a numpy array"),
        (giving({1: X}), "handler h gave an array the name '1', a int: names are texts"),
        (
            giving({"y": X.astype(complex)}),
            "dtype complex128 has no wire datatype: cast it to float32 or an integer",
        ),
        (
            giving({"y": np.array([{}], object)}),
            "an array of dict objects: give numbers, bytes or texts",
        ),
    ],
)
def test_what_a_handler_gets_wrong_is_the_functions_failure_in_one_sentence(
    function: Any, sentence: str
) -> None:
    with pytest.raises(FunctionFailed) as caught:
        Handler("h", function)({"x": X})
    said = str(caught.value)
    assert said.endswith(sentence)
    assert said.startswith("handler h ")


def test_the_log_has_the_traceback_that_the_caller_is_spared(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(FunctionFailed):
        Handler("h", raising(ValueError("too dark\nsecret detail")))({"x": X})
    assert "secret detail" in caplog.text
    assert "Traceback" in caplog.text


def test_a_handler_may_itself_refuse_a_request_and_run_out_of_memory() -> None:
    for error in (InvalidRequest("too dark: send a brighter one"), MemoryError()):
        with pytest.raises(type(error)) as caught:
            Handler("h", raising(error))({"x": X})
        assert caught.value is error


def test_texts_and_bytes_are_arrays_like_any_other() -> None:
    made = {"label": np.array([b"red", "blue"], object), "n": np.array(["a"])}
    assert Handler("h", giving(made))({}) == made


def test_a_handler_that_changes_its_dict_does_not_change_the_callers() -> None:
    inputs = {"x": X}
    Handler("h", lambda arrays: {"y": arrays.pop("x")})(inputs)
    assert list(inputs) == ["x"]
