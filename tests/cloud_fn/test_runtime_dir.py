"""A server's directory, and what becomes of it when the server is killed."""
# ruff: noqa: S108  (a path that is only looked at)

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_fn import processes
from cloud_fn.errors import ServeError
from cloud_fn.processes import Mark
from cloud_fn.runtime_dir import Record, RuntimeDir
from protos.documents import encode_json, read_json


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that runs until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    yield process
    process.kill()
    process.communicate()


def mark_of(process: "subprocess.Popen[bytes]") -> Mark:
    found = processes.mark(process.pid)
    assert found is not None
    return found


def a_dead_process() -> Mark:
    process = subprocess.Popen([sys.executable, "-c", ""])
    found = mark_of(process)
    process.wait()
    return found


def left_by_a_dead_server(base: Path, *started: Mark) -> Path:
    server = a_dead_process()
    path = base / str(server.pid)
    path.mkdir()
    (path / "server.json").write_bytes(encode_json(Record(server=server, processes=started)))
    return path


def test_only_its_owner_may_enter_it_and_it_is_gone_afterwards(short: Path) -> None:
    runtime = RuntimeDir.create(short / "run")
    assert runtime.path == short / "run" / str(os.getpid())
    assert (short / "run").stat().st_mode & 0o777 == 0o700
    assert runtime.path.stat().st_mode & 0o777 == 0o700
    runtime.remove()
    assert list((short / "run").iterdir()) == []


def test_what_it_remembers_is_what_still_runs(
    short: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    runtime = RuntimeDir.create(short)
    runtime.remember([a_dead_process()])
    runtime.remember([mark_of(sleeper)])
    record = read_json(runtime.path / "server.json", Record, what="record")
    assert record.server.pid == os.getpid()
    assert record.processes == (mark_of(sleeper),)


def test_the_next_server_ends_what_a_killed_one_left(
    short: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    mark = mark_of(sleeper)
    stale = left_by_a_dead_server(short, mark)
    RuntimeDir.create(short)
    assert not processes.alive(mark)
    assert not stale.exists()


def test_the_next_server_ends_a_killed_ones_host_and_what_it_had_started(short: Path) -> None:
    """The host was killed, too; of one of its instances only a child is left."""
    code = (
        "import subprocess, sys\n"
        "print(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL).pid, flush=True)"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", code, sys.executable, "-c", "import signal; signal.pause()"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    instance = mark_of(leader)
    out, _ = leader.communicate()
    orphan = processes.mark(int(out))
    assert orphan is not None
    stale = left_by_a_dead_server(short)
    host = stale / "hosts" / "cpu"
    host.mkdir(parents=True)
    (host / "host.json").write_bytes(
        encode_json(Record(server=a_dead_process(), processes=(instance,)))
    )
    RuntimeDir.create(short)
    assert not processes.alive(orphan)
    assert not stale.exists()


def test_a_host_folder_is_taken_from_one_that_still_has_it(
    short: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    folder = RuntimeDir.create(short).host("cpu")
    folder.path.mkdir(parents=True)
    (folder.path / "left").touch()
    mark = mark_of(sleeper)
    (folder.path / "host.json").write_bytes(encode_json(Record(server=mark)))
    folder.take()
    assert not processes.alive(mark)
    assert [path.name for path in folder.path.iterdir()] == ["host.json"]
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_a_stranger_with_a_number_of_ours_is_left_alone(
    short: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    """Numbers are used again; a start time is not."""
    ours = mark_of(sleeper)
    left_by_a_dead_server(short, Mark(ours.pid, ours.started_s - 60))
    RuntimeDir.create(short)
    assert processes.alive(ours)


def test_a_server_that_runs_keeps_its_directory(
    short: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    other = short / str(sleeper.pid)
    other.mkdir()
    (other / "server.json").write_bytes(encode_json(Record(server=mark_of(sleeper))))
    RuntimeDir.create(short)
    assert processes.alive(mark_of(sleeper))
    assert other.exists()


def test_a_directory_whose_server_died_before_it_wrote_its_record_is_removed(short: Path) -> None:
    for name in (f"{a_dead_process().pid}", f".new-{a_dead_process().pid}-x"):
        (short / name).mkdir()
    (short / "not-ours").mkdir()
    runtime = RuntimeDir.create(short)
    assert sorted(short.iterdir()) == sorted([runtime.path, short / "not-ours"])


def test_a_directory_that_others_may_enter_is_refused(short: Path) -> None:
    short.chmod(0o755)
    with pytest.raises(ServeError, match=f"run `chmod 700 {short}`"):
        RuntimeDir.create(short)


def test_a_link_in_its_place_is_refused(short: Path) -> None:
    """Others may write in /tmp, and could have us write elsewhere."""
    (short / "link").symlink_to(short)
    with pytest.raises(ServeError, match="belongs to somebody else"):
        RuntimeDir.create(short / "link")


def test_a_path_too_long_for_sockets_is_refused_at_once() -> None:
    with pytest.raises(ServeError, match="is too long for sockets: use at most 31 characters"):
        RuntimeDir.create(Path("/tmp") / ("x" * 40))
