"""JSON and TOML documents, read into frozen structs with errors that name the field."""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from protos.errors import IsthmusError

T = TypeVar("T")


class DocumentError(IsthmusError):
    """A file or message that does not have the form it should have."""


def decode_json(data: bytes, type_: type[T], *, what: str) -> T:
    """Decode one JSON document.

    Args:
        data: the document's bytes.
        type_: a ``msgspec.Struct`` (frozen, unknown fields forbidden) or any type msgspec knows.
        what: how the error calls it, such as ``"plan plan.json"``.

    Raises:
        DocumentError: not JSON, or a field is missing, unknown or of the wrong type or range.
    """
    try:
        return msgspec.json.decode(data, type=type_)
    except msgspec.ValidationError as error:
        raise DocumentError(f"{what} is not valid: {_sentence(error)}") from error
    except RecursionError as error:
        raise DocumentError(f"{what} is nested too deeply: send plain JSON") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DocumentError(f"{what} is not a JSON document: {_sentence(error)}") from error


def read_json(path: Path, type_: type[T], *, what: str) -> T:
    """Read one JSON file; see :func:`decode_json`."""
    return decode_json(_read(path, what), type_, what=f"{what} {path}")


def encode_json(value: object) -> bytes:
    """Write *value* as people read it: indented, fields in declaration order, a newline at the end.

    Floats are written so that they read back exactly.
    """
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def write_json(path: Path, value: object) -> None:
    """Write one JSON file that a reader finds whole or not at all; see :func:`encode_json`.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(encode_json(value))
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def read_config(
    type_: type[T],
    *,
    path: Path | None,
    env_prefix: str,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
) -> T:
    """Merge a TOML file, the environment and flags (each wins over the one before) and check it.

    Args:
        type_: the frozen struct of the configuration.
        path: the TOML file, or None for defaults only.
        env_prefix: ``ISTHMUS_EDGE`` makes ``ISTHMUS_EDGE_MQTT__URL`` set ``mqtt.url``.
        environ: the environment, passed in.
        flags: dotted names to values; None means that the flag was not given.

    Raises:
        DocumentError: the file is missing or not TOML, or a key is unknown or its value wrong.
    """
    what = f"configuration {path}" if path else "configuration"
    merged: dict[str, Any] = {}
    if path is not None:
        try:
            merged = tomllib.loads(_read(path, "configuration").decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DocumentError(f"{what} is not a TOML file: {_sentence(error)}") from error
    for name, text in environ.items():
        if name.startswith(env_prefix + "_"):
            keys = name.removeprefix(env_prefix + "_").lower().split("__")
            _put(merged, keys, text, what=f"environment variable {name}")
    for dotted, value in flags.items():
        if value is not None:
            _put(merged, dotted.split("."), value, what=f"flag for {dotted}")
    try:
        return msgspec.convert(merged, type=type_, strict=False)
    except msgspec.ValidationError as error:
        raise DocumentError(f"{what} is not valid: {_sentence(error)}") from error


def as_builtin(value: object) -> object:
    """*value* as dicts, lists, strings and numbers, for a larger JSON document."""
    return json.loads(msgspec.json.encode(value))


def _put(tree: dict[str, Any], keys: list[str], value: object, *, what: str) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise DocumentError(f"{what} names a field below {key}, which is a single value")
    tree[keys[-1]] = value


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DocumentError(f"{what} {path} does not exist: check the path") from error
    except OSError as error:
        raise DocumentError(f"{what} {path} cannot be read: {error.strerror}") from error


def _sentence(error: Exception) -> str:
    """Say it as a sentence: msgspec's messages end with ``- at `$.path.of.the.field` ``."""
    return str(error).replace(" - at `$.", " at field `").replace(" - at `$`", " at the top level")
