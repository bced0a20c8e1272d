"""What an instance may take of a GPU's memory, with a driver's tool that is a script."""

from pathlib import Path

import pytest

from cloud_fn.functions import gpus

MIB = 1 << 20


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the driver's; it knows GPU 1 alone."""
    path = tmp_path / "nvidia-smi"
    path.write_text(
        '#!/bin/sh\n[ "$4" = 1 ] && echo 16384 || { echo "no such GPU" >&2; exit 6; }\n'
    )
    path.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv(gpus.MEMORY, "1")  # what an earlier one noted
    return path


@pytest.mark.usefixtures("tool")
def test_a_share_is_taken_of_the_memory_of_the_gpu_that_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(gpus.VISIBLE, "1,0")
    gpus.note_memory()
    assert gpus.share_bytes(0.25) == 4096 * MIB
    assert gpus.share_bytes(1.0) is None
    assert gpus.share_bytes(0.0) is None


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize("given", ["", "-1", "NoDevFiles"])
def test_without_a_gpu_nothing_binds_and_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    monkeypatch.setenv(gpus.VISIBLE, given)
    gpus.note_memory()
    assert gpus.share_bytes(0.5) is None
    assert caplog.text == ""


@pytest.mark.parametrize("says", ["exit 6", "echo N/A", "echo", None])
def test_a_gpu_that_nobody_can_ask_about_is_said_so(
    tool: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, says: str | None
) -> None:
    tool.unlink() if says is None else tool.write_text(f"#!/bin/sh\n{says}\n")
    monkeypatch.setenv(gpus.VISIBLE, "GPU-8d1c")
    gpus.note_memory()
    assert gpus.share_bytes(0.5) is None
    assert "memory unknown, shares of it do not bind: gpu=GPU-8d1c error=" in caplog.text
