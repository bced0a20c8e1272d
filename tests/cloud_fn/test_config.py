"""Where the configuration comes from, and what it must not be."""
# ruff: noqa: S104, S108  (addresses and paths that are only looked at)

from pathlib import Path

import pytest

from cloud_fn.config import Address, Cache, Config, Instance, Ray, check_exposure, load
from cloud_fn.errors import ServeError
from protos.errors import IsthmusError


def test_a_file_the_environment_and_flags_each_win_over_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "cloud.toml"
    file.write_text(
        'listen = "127.0.0.1:1"\nregistry = "/r"\nruntime_dir = "/t"\n'
        "[instance]\nthreads = 2\nkeep_alive_s = 5\n[ray]\nnum_cpus = 3\n"
    )
    environ = {"ISTHMUS_SERVE_LISTEN": "127.0.0.1:2", "ISTHMUS_SERVE_INSTANCE__THREADS": "4"}
    assert load(file, environ, {"listen": "127.0.0.1:3", "registry": None}) == Config(
        listen="127.0.0.1:3",
        registry="/r",
        runtime_dir="/t",
        instance=Instance(threads=4, keep_alive_s=5),
        ray=Ray(num_cpus=3),
    )


def test_paths_that_nobody_gave_are_where_the_desktop_standard_says(tmp_path: Path) -> None:
    config = load(None, {"XDG_DATA_HOME": "/d", "XDG_RUNTIME_DIR": str(tmp_path)}, {})
    assert config.registry_path == Path("/d/isthmus/registry")
    assert config.runtime_path == tmp_path / "isthmus"


def test_the_nodes_cache_is_below_the_registry_or_where_it_is_told_to_be() -> None:
    config = load(None, {"HOME": "/home/me"}, {"registry": "/r"})
    assert (config.node_cache_path, config.node_cache.max_bytes) == (Path("/r/cache"), 8 << 30)
    environ = {
        "ISTHMUS_SERVE_NODE_CACHE__DIR": "/fast",
        "ISTHMUS_SERVE_NODE_CACHE__MAX_BYTES": "2000000",
    }
    config = load(None, environ, {"registry": "/r"})
    assert config.node_cache == Cache(dir="/fast", max_bytes=2_000_000)
    assert config.node_cache_path == Path("/fast")
    with pytest.raises(IsthmusError, match=r"Expected `int` >= 1048576 at field `node_cache.max_"):
        load(None, {"ISTHMUS_SERVE_NODE_CACHE__MAX_BYTES": "1"}, {})


def test_without_a_runtime_directory_there_is_one_per_user() -> None:
    config = load(None, {"HOME": "/home/me", "XDG_RUNTIME_DIR": "/nowhere/at/all"}, {})
    assert config.registry_path == Path("/home/me/.local/share/isthmus/registry")
    assert str(config.runtime_path).startswith("/tmp/isthmus-")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8001", Address("127.0.0.1", 8001)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_an_address_reads_back_as_it_is_written(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text
    assert address.is_loopback


@pytest.mark.parametrize("text", ["", "8001", ":8001", "host:", "host:x", "host:65536", "host:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ServeError, match="write HOST:PORT"):
        load(None, {}, {"listen": text})


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "example.org"])
def test_nobody_listens_beyond_loopback_without_a_key(host: str) -> None:
    with pytest.raises(ServeError, match="set key_file, or listen on 127"):
        check_exposure(Config(listen=f"{host}:8001"))
    check_exposure(Config(listen=f"{host}:8001", key_file="/keys"))


@pytest.mark.parametrize(
    "flags",
    [
        {"threads": 1},
        {"instance.threads": 0},
        {"instance.spares": 0},
        {"instance.cpus": 1},
        {"instance.max_memory_bytes": 1},
        {"max_message_bytes": 1},
        {"ray.num_cpus": "many"},
        {"ray.gpus_per_host": -0.5},
    ],
)
def test_an_unknown_key_or_a_value_out_of_range_is_an_error(flags: dict[str, object]) -> None:
    with pytest.raises(IsthmusError, match="configuration is not valid"):
        load(None, {}, flags)
