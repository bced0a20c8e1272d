"""The doctor says what is there, and what to do about what is not."""

import socket
import subprocess
from pathlib import Path

import pytest

from testbed import doctor
from testbed.doctor import Finding


def test_every_check_ends_in_a_mark_a_finding_and_a_fix_where_one_is_due() -> None:
    found = doctor.examine()
    assert [f.check for f in found] == [
        "python",
        "cpu",
        "memory",
        "disk",
        "onnxruntime",
        "mosquitto",
        "ports",
        "ray",
        "models",
    ]
    assert all(f.finding for f in found)
    assert all(bool(f.fix) == (f.mark != "ok") for f in found), found


def test_a_missing_broker_is_a_failure_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "mosquitto_path", lambda: None)
    assert doctor.mosquitto() == Finding(
        check="mosquitto",
        mark="fail",
        finding="no MQTT broker on this machine",
        fix="apt-get install mosquitto",
    )
    assert not doctor.healthy((doctor.mosquitto(),))


def test_an_import_that_dies_of_a_signal_is_told_from_one_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On old boards onnxruntime's import is an illegal instruction: the doctor must survive it."""
    monkeypatch.setattr(doctor, "_PROBE", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    died = doctor.onnxruntime()
    monkeypatch.setattr(doctor, "_PROBE", "raise ImportError('no such wheel')")
    failed = doctor.onnxruntime()
    assert (died.mark, died.finding) == ("fail", "its import dies of SIGILL")
    assert (failed.mark, failed.finding) == ("fail", "ImportError: no such wheel")


def test_a_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {port: "somebody"})
        assert doctor.ports().finding == f"in use on 127.0.0.1: {port} (somebody)"
    assert doctor.ports().mark == "ok"


def test_mosquitto_says_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "mosquitto"
    fake.write_text("#!/bin/sh\necho 'mosquitto version 9.9.9'\nexit 3\n")
    fake.chmod(0o755)
    assert subprocess.run([str(fake)], capture_output=True, check=False).returncode == 3
    monkeypatch.setattr(doctor, "mosquitto_path", lambda: fake)
    assert doctor.mosquitto().finding.startswith(f"mosquitto version 9.9.9 at {fake}")
