"""The server's configuration: a TOML file, then ``ISTHMUS_SERVE_*``, then flags."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from cloud_fn.errors import ServeError
from protos.documents import read_config

ENV_PREFIX = "ISTHMUS_SERVE"

_Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_MiB = 1 << 20


class Ray(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[ray]``: ``address`` is ``local`` for a Ray of our own, else that of a running one.

    ``num_cpus`` and ``num_gpus`` are what our own Ray may hand out; None is all that the machine
    has. ``host_cpus`` is what Ray sets aside for a host: of use where others share the cluster, for
    it limits nothing. ``gpus_per_host``, which may be a fraction, is what the host of ``cuda``
    instances gets; 0 is no such host. ``spread`` lets instances of a Ray that was joined run on
    every node that can read the registry at the same path.
    """

    address: str = "local"
    num_cpus: _Count | None = None
    num_gpus: Annotated[int, msgspec.Meta(ge=0, le=1024)] | None = None
    host_cpus: Annotated[float, msgspec.Meta(ge=0)] = 0.1
    gpus_per_host: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    object_store_bytes: Annotated[int, msgspec.Meta(ge=75 * _MiB)] = 80 * _MiB
    spread: bool = True

    @property
    def is_local(self) -> bool:
        return self.address == "local"

    @property
    def spreads(self) -> bool:
        """Whether instances may be on other nodes; a Ray of our own has none."""
        return self.spread and not self.is_local


class Instance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[instance]``: what one instance may use and how long it lives.

    ``threads`` are ONNX Runtime's for one request, ``concurrency`` the requests at one time.
    ``spares`` are processes that wait for a function, forked ahead: about 4 MiB each. For
    ``max_memory_bytes`` and ``open_files`` see :class:`cloud_fn.functions.confinement.Confinement`.
    The default of the former is what a convolution of 1.3 GB would need that was not made ready for
    this machine: one of 500 MB has 0.75 GB at the peak while it is read and optimised (2026-11).
    """

    threads: _Count = 1
    concurrency: _Count = 4
    spares: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    max_memory_bytes: Annotated[int, msgspec.Meta(ge=16 * _MiB)] = 2048 * _MiB
    open_files: Annotated[int, msgspec.Meta(ge=64, le=1 << 20)] = 1024
    keep_alive_s: _Seconds = 600.0
    max_execution_s: _Seconds = 30.0
    start_timeout_s: _Seconds = 60.0


class Cache(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[node_cache]``: what this node makes itself of versions that were not made ready for it.

    ``dir`` is where it lies, below the registry by default: of use where that is on a shared or
    slow file system. All versions together may take ``max_bytes``.
    """

    dir: str | None = None
    max_bytes: Annotated[int, msgspec.Meta(ge=_MiB)] = 8192 * _MiB


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it. Paths that are None are chosen by :func:`load`.

    ``handlers_dir`` is where functions' own Python may lie, beside what is installed.
    ``memory_budget_bytes`` is what all instances may take together, of a Ray that was joined those
    on each node and of all gateways; None is half the machine's.
    """

    listen: str = "127.0.0.1:8001"
    registry: str | None = None
    runtime_dir: str | None = None
    key_file: str | None = None
    max_message_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 30)] = 64 * _MiB
    max_in_flight: _Count = 64
    max_streams: _Count = 64
    max_in_stream: _Count = 16
    drain_s: _Seconds = 10.0
    handlers_dir: str | None = None
    memory_budget_bytes: Annotated[int, msgspec.Meta(ge=64 * _MiB)] | None = None
    instance: Instance = Instance()
    ray: Ray = Ray()
    node_cache: Cache = Cache()

    @property
    def node_cache_path(self) -> Path:
        return Path(self.node_cache.dir) if self.node_cache.dir else self.registry_path / "cache"

    @property
    def registry_path(self) -> Path:
        return Path(self.registry or "registry")

    @property
    def runtime_path(self) -> Path:
        return Path(self.runtime_dir or "runtime")

    @property
    def address(self) -> "Address":
        return Address.parse(self.listen)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens; port 0 lets the system choose one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``127.0.0.1:8001`` or ``[::1]:8001``.

        Raises:
            ServeError: it is neither.
        """
        host, _, port = text.rpartition(":")
        plain = host.removeprefix("[").removesuffix("]")
        if not plain or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
            raise ServeError(f"listen is {text!r}: write HOST:PORT, such as 127.0.0.1:8001")
        return cls(plain, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; a name other than localhost may be anything."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Config:
    """Merge and check the configuration, and choose the paths that nobody gave.

    Raises:
        DocumentError: as :func:`protos.documents.read_config`.
        ServeError: ``listen`` is no address.
    """
    config = read_config(Config, path=path, env_prefix=ENV_PREFIX, environ=environ, flags=flags)
    Address.parse(config.listen)
    return msgspec.structs.replace(
        config,
        registry=config.registry or str(_data_home(environ) / "isthmus" / "registry"),
        runtime_dir=config.runtime_dir or str(_runtime_home(environ)),
    )


def check_exposure(config: Config) -> None:
    """Refuse to be reached from other machines by anybody who likes.

    Raises:
        ServeError: ``listen`` is beyond loopback and there is no key.
    """
    if config.key_file is None and not config.address.is_loopback:
        raise ServeError(
            f"listening on {config.listen} lets other machines in without a key: "
            "set key_file, or listen on 127.0.0.1"
        )


def _data_home(environ: Mapping[str, str]) -> Path:
    given = environ.get("XDG_DATA_HOME", "")
    if given.startswith("/"):
        return Path(given)
    return Path(environ.get("HOME") or "/var/lib") / ".local" / "share"


def _runtime_home(environ: Mapping[str, str]) -> Path:
    given = environ.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/") and Path(given).is_dir():
        return Path(given) / "isthmus"
    return Path(f"/tmp/isthmus-{os.getuid()}")  # noqa: S108  checked to be ours, mode 0700
