"""What ONNX Runtime is told of its devices, and how one session takes another's place."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from planner.errors import ModelError
from planner.graph import TensorInfo
from planner.pieces import Piece
from planner.sessions import provider_options

LIMIT_S = 20


def test_a_graphics_processors_memory_is_limited_if_that_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: there)
    limited = {"arena_extend_strategy": "kSameAsRequested", "gpu_mem_limit": str(1 << 30)}
    assert provider_options(("cuda", "cpu"), 1 << 30) == [
        ("CUDAExecutionProvider", limited),
        "CPUExecutionProvider",
    ]
    assert provider_options(("cuda",)) == [
        ("CUDAExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})
    ]
    assert provider_options(("cpu",), 1) == ["CPUExecutionProvider"]


def test_a_device_that_is_not_there_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime itself would warn, and use the CPU."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ModelError, match="no cuda: install onnxruntime-gpu, or ask for cpu alone"):
        provider_options(("cuda", "cpu"))


class Named:
    """Makes its own number out of anything, once it may."""

    def __init__(self, number: float, gate: threading.Event | None = None) -> None:
        self._number = number
        self._gate = gate
        self.entered = threading.Event()

    def get_inputs(self) -> list[Any]:
        return [type("Value", (), {"name": "x"})]

    def get_outputs(self) -> list[Any]:
        return [type("Value", (), {"name": "y"})]

    def run(self, names: Sequence[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        del names, feeds
        self.entered.set()
        if self._gate is not None:
            assert self._gate.wait(LIMIT_S)
        return [np.array([self._number], np.float32)]


def a_piece(session: Any) -> Piece:  # noqa: ANN401  stands in for ONNX Runtime's
    info = TensorInfo(name="x", datatype="FP32", shape=(1,))
    return Piece(inputs=[info], outputs=["y"], before=[], session=session, after=[])


def session_of(piece: Piece) -> Any:  # noqa: ANN401  as above
    assert piece._held is not None
    return piece._held.session


def test_what_runs_ends_on_the_old_session_and_what_comes_uses_the_new() -> None:
    gate, answers = threading.Event(), []
    old = Named(1, gate)
    piece = a_piece(old)
    x = {"x": np.zeros(1, np.float32)}
    running = threading.Thread(target=lambda: answers.append(piece.run(x)["y"][0]))
    running.start()
    assert old.entered.wait(LIMIT_S)
    new: Any = Named(2)
    swapping = threading.Thread(target=piece.swap, args=(new,))
    swapping.start()
    with piece._changed:
        assert piece._changed.wait_for(lambda: session_of(piece) is new, LIMIT_S)
    assert piece.run(x)["y"][0] == 2
    assert swapping.is_alive()
    gate.set()
    running.join(LIMIT_S)
    swapping.join(LIMIT_S)
    assert answers == [1]
    assert not swapping.is_alive()


def test_waking_onnx_runtime_leaves_no_thread_that_a_fork_could_harm() -> None:
    code = (
        "import os\n"
        "from planner.waking import wake\n"
        "before = os.listdir('/proc/self/task')\n"
        "wake()\n"
        "print(os.listdir('/proc/self/task') == before)\n"
    )
    environ = os.environ | {"OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ
    )
    assert done.stdout.strip() == "True"
