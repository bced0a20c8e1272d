"""A function's own Python that does wrong, in a real server: one outcome each, and no neighbour's.

Whatever it does, the next request finds the function again, and another function never noticed.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from cloud_fn.config import Instance
from cloud_fn.functions.scaling import Fixed
from cloud_fn.functions.settings import Settings
from cloud_fn.functions.specifications import Specifications
from cloud_fn.registry import Catalog
from cloud_fn.registry.function_store import FunctionStore
from cloud_fn.registry.push import push
from protos import wire
from protos.invocation import Request, Tensor
from tests.cloud_fn.test_serve import MAX_EXECUTION_S, Server, X, running

pytestmark = pytest.mark.integration

MiB = 1 << 20
MEMORY_BYTES = 256 * MiB

HANDLERS = """
import ctypes, os, subprocess, sys
import numpy as np

def doubled(arrays): return {name: 2 * array for name, array in arrays.items()}
def raises(arrays): raise KeyError("no such shelf")
def loops(arrays):
    while True: pass
def eats(arrays): return {"x": np.ones(1 << 29, np.float64)[:4].reshape(1, 4)}
def shares(arrays):
    import mmap
    room = mmap.mmap(-1, 1 << 30)
    for _ in range(1 << 10): room.write(bytes(1 << 20))
    loops(arrays)
def forks(arrays):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    return arrays
def crashes(arrays): ctypes.string_at(0)
def leaves(arrays): os._exit(3)
def prints(arrays):
    for _ in range(4000): print("x" * 1000)
    return arrays
def writes(arrays):
    open("/var/tmp/isthmus-was-here", "w")
def keeps(arrays):
    open("kept.txt", "w").write("mine"); return arrays
def nothing(arrays): return None
"""

REFUSED = {
    "raises": ("INTERNAL", "handler bad:raises raised KeyError: 'no such shelf'"),
    "loops": (
        "DEADLINE_EXCEEDED",
        f"loops (mlp:1) ran longer than {MAX_EXECUTION_S:g} s (max_execution_s)",
    ),
    "eats": ("INTERNAL", "the function needed more memory than it may have (max_memory_bytes)"),
    "shares": (
        "INTERNAL",
        "the instance of shares (mlp:1) ended while it ran the request: it used more",
    ),
    "crashes": (
        "INTERNAL",
        "the instance of crashes (mlp:1) ended while it ran the request: it was killed by SIGSEGV",
    ),
    "leaves": ("INTERNAL", "the instance of leaves (mlp:1) ended while it ran the request: "),
    "writes": ("INTERNAL", "handler bad:writes raised PermissionError"),
    "nothing": ("INTERNAL", "handler bad:nothing gave a NoneType: it must give a dict"),
    "missing": ("INTERNAL", "handler bad:missing is not there: module bad has no missing"),
}
FINE = ("doubled", "forks", "prints", "keeps")


@pytest.fixture(scope="module")
def server(build_mlp: Callable[[Path], Path]) -> Iterator[Server]:
    path = Path(tempfile.mkdtemp(prefix="is-", dir="/tmp"))
    catalog = Catalog(path / "registry")
    push(catalog, build_mlp(path / "mlp.onnx"))
    (path / "handlers").mkdir()
    (path / "handlers" / "bad.py").write_text(HANDLERS)
    said = Specifications(catalog, FunctionStore(catalog.root), Instance())
    for name in (*REFUSED, *FINE):
        settings = Settings(model="mlp", before=f"bad:{name}", max_memory_bytes=MEMORY_BYTES)
        said.set(name, settings)
    said.set("mlp", Settings(scaling=Fixed()))  # it outlasts the server's 3 s
    before = os.environ.get("ISTHMUS_SERVE_HANDLERS_DIR")
    os.environ["ISTHMUS_SERVE_HANDLERS_DIR"] = str(path / "handlers")
    try:
        with Server(path) as served:
            yield served
    finally:
        os.environ.pop("ISTHMUS_SERVE_HANDLERS_DIR")
        if before is not None:
            os.environ["ISTHMUS_SERVE_HANDLERS_DIR"] = before
        shutil.rmtree(path)


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_handler_does_wrong_is_told_in_a_sentence_and_costs_no_neighbour(
    server: Server, name: str
) -> None:
    neighbour = server.infer("mlp").instance
    data = wire.encode_request(Request(model=name, inputs=(Tensor.of("x", X),)))
    for _ in range(2):
        status, sentence = REFUSED[name]
        got_status, got = server.refusal(data)
        assert (got_status, got[: len(sentence)]) == (status, sentence)
        assert "Traceback" not in got
    assert server.infer("mlp").instance == neighbour


def test_a_handler_changes_what_the_model_is_given(server: Server) -> None:
    plain, doubled = (server.infer(name).outputs[0].array() for name in ("mlp", "doubled"))
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-6)


def test_a_handler_is_left_out_where_a_device_has_run_the_head(server: Server) -> None:
    hidden = np.ones((1, 8), np.float32)
    replies = [
        server.infer(name, inputs=(Tensor.of("hidden", hidden),), cut="plan-1")
        for name in ("mlp", "doubled")
    ]
    assert replies[0].outputs == replies[1].outputs


def test_what_a_handler_has_started_ends_with_its_instance(server: Server) -> None:
    server.infer("forks")
    left = [each for each in server.family() if "time.sleep(600)" in " ".join(each.cmdline())]
    assert len(left) == 1
    psutil.wait_procs(left, timeout=30)
    assert running(left) == []


def test_a_handler_that_prints_megabytes_fills_no_log(server: Server) -> None:
    assert server.infer("prints").outputs
    assert server.infer("prints").outputs
    assert server.log.stat().st_size < 2 * MiB


def test_what_a_handler_writes_in_its_folder_is_gone_with_its_instance(server: Server) -> None:
    assert server.infer("keeps").outputs
    folder = server.config.parent / "run"
    kept = list(folder.rglob("kept.txt"))
    assert len(kept) == 1
    psutil.wait_procs(server.instances(), timeout=1)
    server.infer("mlp")
    gone = psutil.wait_procs(
        [each for each in server.instances() if Path(each.cwd()) == kept[0].parent], timeout=30
    )
    assert gone[1] == []
    assert not Path("/var/tmp/isthmus-was-here").exists()  # noqa: S108  nobody may have written it
