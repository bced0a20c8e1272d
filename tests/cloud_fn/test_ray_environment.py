"""What Ray finds in the environment, set before it is imported."""

import os
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cloud_fn import ray_environment
from cloud_fn.errors import ServeError


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment of the test's own, in which Ray was not imported yet."""
    empty = {"RAY_AUTH_TOKEN": "somebody else's"}
    monkeypatch.setattr(os, "environ", empty)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    return empty


def settings(environ: dict[str, str]) -> dict[str, str]:
    """Ray's part of it; pytest has one too."""
    return {name: value for name, value in environ.items() if name.startswith("RAY_")}


def test_our_own_ray_is_shut_behind_a_token_that_only_we_can_read(
    environ: dict[str, str], tmp_path: Path
) -> None:
    ray_environment.prepare_own(tmp_path / "ray")
    token = tmp_path / "ray" / "token"
    assert settings(environ) == {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_AUTO_CONNECT": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_num_workers_soft_limit": "0",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_worker_niceness": "0",
    }
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) == 64


def test_each_start_has_a_token_of_its_own(environ: dict[str, str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        ray_environment.prepare_own(tmp_path / name)
    assert (tmp_path / "a" / "token").read_text() != (tmp_path / "b" / "token").read_text()


def test_a_ray_that_answers_is_joined_with_its_own_token(environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ray_environment.prepare_join(f"127.0.0.1:{listening.getsockname()[1]}")
    assert settings(environ) == {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "somebody else's",
        "RAY_ENABLE_AUTO_CONNECT": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_task_events_report_interval_ms": "0",
    }


def test_a_ray_whose_token_nobody_has_is_not_joined(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """The secrets of hosts on other nodes go through it."""
    environ.clear()
    environ["HOME"] = str(tmp_path)
    expected = tmp_path / ".ray" / "auth_token"
    with pytest.raises(ServeError, match=f"no token of the Ray that is to be joined at {expected}"):
        ray_environment.prepare_join("auto")
    expected.parent.mkdir()
    expected.write_text("secret")
    ray_environment.prepare_join("auto")
    assert environ["RAY_AUTH_MODE"] == "token"


def test_a_ray_that_is_said_to_have_no_token_is_joined_without(environ: dict[str, str]) -> None:
    environ.clear()
    environ.update(RAY_AUTH_MODE="disabled", HOME="/nowhere")
    ray_environment.prepare_join("auto")
    assert environ["RAY_AUTH_MODE"] == "disabled"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:1"])
def test_an_address_where_no_ray_answers_is_said_so(environ: dict[str, str], address: str) -> None:
    with pytest.raises(ServeError, match="no Ray answers at"):
        ray_environment.prepare_join(address)


def test_settings_that_come_too_late_are_a_fault_of_ours(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    with pytest.raises(RuntimeError, match="imported already"):
        ray_environment.prepare_own(tmp_path)
