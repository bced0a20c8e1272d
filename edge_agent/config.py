"""The agent's configuration: ``agent.toml``, then ``ISTHMUS_EDGE_*``, then flags.

Secrets are never in it, only the names of the files that hold them. Relative paths count from the
folder of the configuration file, so that it works whatever the current folder is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct
from msgspec.structs import replace

from edge_agent.errors import SettingsError
from edge_agent.state import AUTO
from protos.documents import read_config
from protos.errors import WireError
from protos.topics import Topics

ENV_PREFIX = "ISTHMUS_EDGE"
MQTT_PORT = 1883

Protocol = Literal["auto", "5", "3.1.1"]


class MqttConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker.

    ``protocol`` ``auto`` tries MQTT 5 first. ``username`` is the device's id unless set, and used
    only with a password.
    """

    url: str = f"mqtt://127.0.0.1:{MQTT_PORT}"
    protocol: Protocol = "auto"
    username: str | None = None
    password_file: str | None = None
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 30

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        return parts.hostname, parts.port or MQTT_PORT


class CloudConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gateway, ``host:port``, and the file with our API key where it asks for one."""

    address: str
    key_file: str | None = None


class ModelConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model that this device serves under *name*.

    ``path`` is the ONNX file, ``steps`` its steps, ``dims`` sizes of its dynamic dimensions, and
    ``plan`` the plan document; without one the model runs on the device only. ``pin`` is the plan
    to follow whatever the link is like, or ``auto``.
    """

    name: str
    version: str = "1"
    path: str
    steps: str | None = None
    dims: dict[str, int] = {}
    plan: str | None = None
    pin: str = AUTO


class AgentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it. ``inbox`` counts requests that are accepted and not yet answered."""

    device: str
    root: str = "isthmus"
    state_dir: str
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    deadline_s: Annotated[float, Meta(gt=0, le=3600)] = 2.0
    inbox: Annotated[int, Meta(ge=1, le=4096)] = 64
    max_payload_bytes: Annotated[int, Meta(ge=1024, le=64 << 20)] = 256 << 10
    outbox_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 256 << 20
    drain_s: Annotated[float, Meta(ge=0, le=600)] = 10.0
    mqtt: MqttConfig = MqttConfig()
    cloud: CloudConfig | None = None
    models: Annotated[tuple[ModelConfig, ...], Meta(min_length=1)]

    @property
    def topics(self) -> Topics:
        """Every topic of this device."""
        return Topics(root=self.root, device=self.device)


def read(
    path: Path | None, *, environ: Mapping[str, str], flags: Mapping[str, object]
) -> AgentConfig:
    """Read and check the configuration.

    Raises:
        DocumentError: the file is unreadable, or a key is unknown or of the wrong type or range.
        SettingsError: the values do not go together.
    """
    config = read_config(
        AgentConfig, path=path, env_prefix=ENV_PREFIX, environ=environ, flags=flags
    )
    _check(config)
    return _anchored(config, Path() if path is None else path.parent)


def read_secret(path: str, what: str) -> str:
    """Read a secret from its file, without the newline that editors put at the end.

    Raises:
        SettingsError: it can't be read, or is empty.
    """
    try:
        secret = Path(path).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise SettingsError(f"{what} {path} cannot be read ({reason}): check the path") from error
    if not secret:
        raise SettingsError(f"{what} {path} is empty: put the secret on its first line")
    return secret


def _check(config: AgentConfig) -> None:
    try:
        topics = config.topics
        for model in config.models:
            topics.infer(model.name, "req")
    except WireError as error:
        raise SettingsError(f"device, root or a model's name will not do: {error}") from error
    names = [model.name for model in config.models]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"two models are called {name}: give each a name of its own")
    _check_url(config.mqtt.url)
    if config.cloud is not None:
        _check_address(config.cloud.address)
    for model in config.models:
        if any(size < 1 for size in model.dims.values()):
            raise SettingsError(f"model {model.name} has a dimension below 1: mend its dims")
        if model.pin != AUTO and model.plan is None:
            raise SettingsError(
                f"model {model.name} is pinned to {model.pin} but names no plan document: set plan"
            )


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme == "mqtt" and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise SettingsError(
            f"mqtt.url {url!r} is no broker's address: write it as mqtt://HOST:PORT"
        )
    if parts.username is not None or parts.password is not None:
        raise SettingsError(
            "mqtt.url holds a user name or password: use mqtt.username and mqtt.password_file"
        )


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(f"//{address}")
        good = parts.hostname and parts.port and parts.netloc == address and "@" not in address
    except ValueError:
        good = False
    if not good:
        raise SettingsError(f"cloud.address {address!r} is not one: write it as HOST:PORT")


def _anchored(config: AgentConfig, folder: Path) -> AgentConfig:
    def at(path: str | None) -> str | None:
        return None if path is None else str(folder / Path(path).expanduser())

    def held(model: ModelConfig) -> ModelConfig:
        return replace(model, path=at(model.path), steps=at(model.steps), plan=at(model.plan))

    cloud = config.cloud
    return replace(
        config,
        state_dir=at(config.state_dir),
        mqtt=replace(config.mqtt, password_file=at(config.mqtt.password_file)),
        cloud=None if cloud is None else replace(cloud, key_file=at(cloud.key_file)),
        models=tuple(held(model) for model in config.models),
    )
