"""Documents and configuration: what is read, and the sentence when it cannot be."""

from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from protos import documents
from protos.documents import DocumentError, read_json, write_json


class Broker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str = "mqtt://127.0.0.1"
    keepalive_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    topics: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    debug: bool = False
    mqtt: Broker = Broker()


def read(
    path: Path | None = None,
    environ: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> Config:
    return documents.read_config(
        Config, path=path, env_prefix="ISTHMUS_EDGE", environ=environ or {}, flags=flags or {}
    )


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "edge.toml"
    path.write_text('name = "from file"\n[mqtt]\nurl = "mqtt://file"\nkeepalive_s = 5\n')
    return path


def test_a_document_comes_back_exactly() -> None:
    config = Config(name="ü", mqtt=Broker(keepalive_s=0.1 + 0.2, topics=("a", "b")))
    assert documents.decode_json(documents.encode_json(config), Config, what="it") == config


def test_a_document_is_written_for_people() -> None:
    assert documents.encode_json({"b": 1, "a": [0.1]}) == (
        b'{\n  "b": 1,\n  "a": [\n    0.1\n  ]\n}\n'
    )


def test_a_file_is_read_as_its_type(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b'{"name":"x"}')
    assert documents.read_json(path, Config, what="plan") == Config(name="x")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "plan {} is not a JSON document: Input data was truncated"),
        ('{"name":1}', "plan {} is not valid: Expected `str`, got `int` at field `name`"),
        ("{}", "plan {} is not valid: Object missing required field `name`"),
        (
            '{"name":"x","nam":"y"}',
            "plan {} is not valid: Object contains unknown field `nam`",
        ),
        (
            '{"name":"x","mqtt":{"keepalive_s":0}}',
            "plan {} is not valid: Expected `float` > 0.0 at field `mqtt.keepalive_s`",
        ),
        ("[]", "plan {} is not valid: Expected `object`, got `array`"),
    ],
)
def test_a_file_of_another_form_is_refused_by_field(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        documents.read_json(path, Config, what="plan")
    assert str(caught.value) == sentence.format(path)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(DocumentError, match=r"^it is not a JSON document: "):
        documents.decode_json(b'{"name":"\xff"}', Config, what="it")


def test_a_file_that_is_not_there_or_not_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        documents.read_json(tmp_path / "none.json", Config, what="plan")
    assert str(caught.value) == f"plan {tmp_path}/none.json does not exist: check the path"
    with pytest.raises(DocumentError) as caught:
        documents.read_json(tmp_path, Config, what="plan")
    assert str(caught.value) == f"plan {tmp_path} cannot be read: Is a directory"


def test_flags_win_over_the_environment_and_that_over_the_file(toml: Path) -> None:
    environ = {"ISTHMUS_EDGE_MQTT__URL": "mqtt://environ", "ISTHMUS_EDGE_NAME": "from environ"}
    flags: dict[str, object] = {"name": "from flag", "mqtt.url": None}
    assert read(toml, environ, flags) == Config(
        name="from flag", mqtt=Broker(url="mqtt://environ", keepalive_s=5.0)
    )


def test_without_a_file_the_defaults_stand() -> None:
    assert read(flags={"name": "x"}) == Config(name="x")


def test_variables_are_texts_and_become_what_the_field_is() -> None:
    environ = {
        "ISTHMUS_EDGE_NAME": "7",
        "ISTHMUS_EDGE_DEBUG": "true",
        "ISTHMUS_EDGE_MQTT__KEEPALIVE_S": "2.5",
        "ISTHMUS_CLOUD_NAME": "another room's",
    }
    assert read(environ=environ) == Config(name="7", debug=True, mqtt=Broker(keepalive_s=2.5))


@pytest.mark.parametrize(
    ("environ", "flags", "sentence"),
    [
        (
            {"ISTHMUS_EDGE_NAMES": "x"},
            {"name": "x"},
            "configuration is not valid: Object contains unknown field `names`",
        ),
        (
            {"ISTHMUS_EDGE_MQTT__KEEPALIVE_S": "soon"},
            {"name": "x"},
            "configuration is not valid: Expected `float`, got `str` at field `mqtt.keepalive_s`",
        ),
        (
            {"ISTHMUS_EDGE_NAME__FIRST": "x"},
            {"name": "x"},
            "configuration is not valid: Expected `str`, got `object` at field `name`",
        ),
        (
            {"ISTHMUS_EDGE_NAME": "x", "ISTHMUS_EDGE_NAME__FIRST": "x"},
            {},
            (
                "environment variable ISTHMUS_EDGE_NAME__FIRST names a field below name, "
                "which is a single value"
            ),
        ),
    ],
)
def test_a_setting_that_is_none_is_refused(
    environ: dict[str, str], flags: dict[str, object], sentence: str
) -> None:
    if "ISTHMUS_EDGE_NAME__FIRST" in environ:
        flags = {}
    with pytest.raises(DocumentError) as caught:
        read(environ=environ, flags=flags)
    assert str(caught.value) == sentence


def test_a_configuration_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text("name = \n")
    with pytest.raises(DocumentError, match=rf"^configuration {path} is not a TOML file: "):
        read(path)
    path.write_text("nam = 'x'\n")
    with pytest.raises(DocumentError) as caught:
        read(path, flags={"name": "x"})
    assert str(caught.value) == (
        f"configuration {path} is not valid: Object contains unknown field `nam`"
    )


def test_a_value_joins_a_larger_document_as_plain_lists_and_numbers() -> None:
    assert documents.as_builtin((Broker(topics=("a",)), None)) == [
        {"url": "mqtt://127.0.0.1", "keepalive_s": 30.0, "topics": ["a"]},
        None,
    ]


def test_a_written_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """A write that fails leaves what was there before, and no draft."""
    path = tmp_path / "ready.json"
    write_json(path, {"pid": 1})
    assert read_json(path, dict[str, int], what="facts") == {"pid": 1}
    with pytest.raises(OSError, match="No such file"):
        write_json(tmp_path / "missing" / "ready.json", {"pid": 2})
    assert [each.name for each in tmp_path.iterdir()] == ["ready.json"]
