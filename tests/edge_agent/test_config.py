"""The configuration: where values come from, and what is refused with which sentence."""

import re
from pathlib import Path

import pytest

from edge_agent import config
from edge_agent.config import AgentConfig, CloudConfig, ModelConfig, MqttConfig
from edge_agent.errors import SettingsError
from protos.documents import DocumentError

LEAST = 'device = "cam-01"\nstate_dir = "state"\n[[models]]\nname = "m"\npath = "m.onnx"\n'


def read(tmp_path: Path, text: str = LEAST, **given: dict[str, object]) -> AgentConfig:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    environ = {name: str(value) for name, value in given.get("environ", {}).items()}
    return config.read(path, environ=environ, flags=given.get("flags", {}))


def test_the_least_configuration_and_its_defaults(tmp_path: Path) -> None:
    assert read(tmp_path) == AgentConfig(
        device="cam-01",
        root="isthmus",
        state_dir=str(tmp_path / "state"),
        threads=1,
        deadline_s=2.0,
        inbox=64,
        max_payload_bytes=262_144,
        mqtt=MqttConfig(url="mqtt://127.0.0.1:1883", protocol="auto"),
        cloud=None,
        models=(ModelConfig(name="m", version="1", path=str(tmp_path / "m.onnx"), pin="auto"),),
    )


def test_the_environment_wins_over_the_file_and_flags_over_both(tmp_path: Path) -> None:
    environ: dict[str, object] = {
        "ISTHMUS_EDGE_MQTT__URL": "mqtt://env:1",
        "ISTHMUS_EDGE_DEADLINE_S": "3",
        "ISTHMUS_SERVE_LISTEN": "not ours",
    }
    flags: dict[str, object] = {"mqtt.url": "mqtt://flag:2", "cloud.address": "gate:8001"}
    found = read(tmp_path, LEAST, environ=environ, flags=flags)
    assert (found.mqtt.address, found.deadline_s, found.cloud) == (
        ("flag", 2),
        3.0,
        CloudConfig(address="gate:8001"),
    )


def test_relative_paths_count_from_the_configurations_folder(tmp_path: Path) -> None:
    text = LEAST + 'steps = "../s.json"\nplan = "/abs/p.json"\n'
    model = read(tmp_path, text).models[0]
    assert (model.steps, model.plan) == (str(tmp_path / "../s.json"), "/abs/p.json")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (LEAST + "colour = 1\n", "unknown field `colour`"),
        ("colour = 1\n" + LEAST, "unknown field `colour`"),
        ("deadline_s = 0\n" + LEAST, "deadline_s"),
        ("threads = 0\n" + LEAST, "threads"),
        ("threads = 'many'\n" + LEAST, "threads"),
        ('device = "cam-01"\nstate_dir = "s"\nmodels = []\n', "models"),
        ("not toml", "not a TOML file"),
    ],
)
def test_a_document_that_is_wrong_is_named_by_its_field(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(DocumentError, match=re.escape(sentence)):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"cam-01"', '"Cam 01"', "device, root or a model's name will not do"),
        ('name = "m"', 'name = "a/b"', "device, root or a model's name will not do"),
        ("[[models]]", '[mqtt]\nurl = "http://x"\n[[models]]', "write it as mqtt://HOST:PORT"),
        ("[[models]]", '[mqtt]\nurl = "mqtt://u:p@x"\n[[models]]', "mqtt.password_file"),
        ("[[models]]", '[mqtt]\nurl = "mqtt://x:99999"\n[[models]]', "write it as mqtt://"),
        ("[[models]]", '[cloud]\naddress = "gate"\n[[models]]', "write it as HOST:PORT"),
        ("[[models]]", '[cloud]\naddress = "h:1/x"\n[[models]]', "write it as HOST:PORT"),
        ('"m.onnx"', '"m.onnx"\npin = "plan-1"', "names no plan document"),
        ('"m.onnx"', '"m.onnx"\ndims = {b = 0}', "a dimension below 1"),
        ('"m.onnx"', '"m.onnx"\n[[models]]\nname = "m"\npath = "n"', "two models are called m"),
    ],
)
def test_values_that_do_not_go_together_are_refused_in_one_sentence(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)) as caught:
        read(tmp_path, LEAST.replace(old, new))
    assert "\n" not in str(caught.value)


def test_an_ipv6_address_is_an_address(tmp_path: Path) -> None:
    text = LEAST.replace("[[models]]", '[mqtt]\nurl = "mqtt://[::1]"\n[[models]]')
    assert read(tmp_path, text).mqtt.address == ("::1", 1883)


def test_a_secret_is_read_from_its_file_without_the_newline(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("s3cret\n")
    assert config.read_secret(str(path), "cloud.key_file") == "s3cret"


def test_a_secret_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for name, sentence in (("none", "cannot be read"), ("empty", "is empty")):
        with pytest.raises(SettingsError, match=f"cloud.key_file .*{name} {sentence}"):
            config.read_secret(str(tmp_path / name), "cloud.key_file")
