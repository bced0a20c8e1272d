"""A server that is told to end before it serves."""
# ruff: noqa: ARG002  (fakes take what the real ones take)

import os
import signal
import threading
from pathlib import Path

import pytest

from cloud_fn import serve
from cloud_fn.config import Config
from cloud_fn.errors import InstanceLost

LIMIT_S = 30.0


class NoHosts:
    """A launcher whose first host does not come; who waits for it is told so when it is closed."""

    def __init__(self) -> None:
        self.asked, self.closed = threading.Event(), threading.Event()

    def open(self, *, timeout_s: float) -> None:
        self.asked.set()
        assert self.closed.wait(LIMIT_S)
        raise InstanceLost("there is no host")

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_waits_for_its_first_host_ends_when_told_to(
    short: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    launcher = NoHosts()

    def tell() -> None:
        assert launcher.asked.wait(LIMIT_S)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(serve, "_start_ray", lambda *_: None)
    monkeypatch.setattr(serve, "_launcher", lambda *_: launcher)
    teller = threading.Thread(target=tell)
    teller.start()
    config = Config(
        listen="127.0.0.1:0", registry=str(short / "registry"), runtime_dir=str(short / "run")
    )
    assert serve.serve(config, ready_file=short / "ready.json") == 0
    teller.join(LIMIT_S)
    assert launcher.closed.is_set()
    assert list((short / "run").iterdir()) == []
    assert not (short / "ready.json").exists()
    assert capsys.readouterr().err == "isthmus serve: stopped\n"


def test_a_server_whose_first_host_does_not_come_says_so(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = NoHosts()
    launcher.closed.set()
    monkeypatch.setattr(serve, "_start_ray", lambda *_: None)
    monkeypatch.setattr(serve, "_launcher", lambda *_: launcher)
    with pytest.raises(InstanceLost, match="there is no host"):
        serve.serve(Config(listen="127.0.0.1:0", runtime_dir=str(short / "run")))
    assert list((short / "run").iterdir()) == []
