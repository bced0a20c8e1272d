"""The fork server: clean when it forks, and what it forks can infer."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cloud_fn.functions import Function
from cloud_fn.functions.spare import ENGINE
from protos import wire
from protos.invocation import Request, Tensor
from tests.cloud_fn.hosting import RunningHost, running, until

X = np.array([[1, -2, 3, 0.5]], np.float32)
FORKS = 200


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    """A host of real instances."""
    folder = Path(tempfile.mkdtemp(prefix="is-", dir="/tmp"))
    with RunningHost(folder / "cpu", engine=ENGINE) as served:
        yield served
    shutil.rmtree(folder)


def test_a_fork_server_has_one_thread_and_onnx_runtime(host: RunningHost) -> None:
    """A fork copies the locks that other threads hold, but not the threads."""
    server = host.fork_server()
    assert len([*Path(f"/proc/{server}/task").iterdir()]) == 1
    assert "onnxruntime_pybind11" in Path(f"/proc/{server}/maps").read_text()


def test_a_fork_server_leaves_no_socket_where_temporary_files_lie(host: RunningHost) -> None:
    (socket,) = (host.folder / "forks").glob("listener-*")
    assert socket.stat().st_mode & 0o777 == 0o600


def test_an_instance_holds_nothing_open_that_keeps_its_fork_server_alive(host: RunningHost) -> None:
    """It ends when the last write end of a pipe closes, and children inherit one."""
    server = host.fork_server()
    (pipe,) = {
        link
        for link in opened(server).values()
        if link.startswith("pipe:") and link in set(opened(host.process.pid).values())
    } & read_ends(server)
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    assert len(children) == 2
    assert not any(pipe in opened(int(child)).values() for child in children)


def test_two_hundred_instances_forked_from_one_server_infer_and_end(
    host: RunningHost, functions: dict[str, Function]
) -> None:
    request = wire.encode_request(Request(model="mlp", inputs=(Tensor.of("x", X),)))

    def live(_: int) -> tuple[int, bytes]:
        instance = host.start(functions["mlp"])
        answer = instance.ask(request)
        host.end(instance)
        return instance.pid, answer

    with ThreadPoolExecutor(4) as threads:
        lives = list(threads.map(live, range(FORKS)))
    assert len({answer for _, answer in lives}) == 1
    assert wire.decode_reply(lives[0][1]).outputs[0].array().shape == (1, 3)
    assert [pid for pid, _ in lives if running(pid)] == []
    spares = 2 * 2  # a folder and a socket each
    until(
        lambda: len([*host.folder.iterdir()]) == len({"forks", "host.json", "host.sock"}) + spares
    )
    assert host.well().instances == 0


def opened(pid: int) -> dict[str, str]:
    """What a process has open, by number."""
    folder = Path(f"/proc/{pid}/fd")
    return {path.name: str(path.readlink()) for path in folder.iterdir()}


def read_ends(pid: int) -> set[str]:
    """The pipes that a process reads."""
    flags = {
        name: int(Path(f"/proc/{pid}/fdinfo/{name}").read_text().split("flags:")[1].split()[0], 8)
        for name in opened(pid)
    }
    links = opened(pid)
    return {links[name] for name, value in flags.items() if value & os.O_ACCMODE == os.O_RDONLY}
