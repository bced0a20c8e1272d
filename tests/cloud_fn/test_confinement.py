"""What an instance cannot do, and what becomes of one that tries."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cloud_fn.errors import FunctionFailed
from cloud_fn.functions import landlock
from cloud_fn.functions.channel import Connection
from cloud_fn.functions.listener import OUT_OF_MEMORY
from tests.cloud_fn.hosting import WAIT_S, MiB, RunningHost, a_function, running, until

needs_landlock = pytest.mark.skipif(
    landlock.abi() < 1, reason="this kernel has no Landlock, and instances are not confined by it"
)
needs_scopes = pytest.mark.skipif(
    landlock.abi() < 6, reason="this kernel's Landlock lets signals out"
)


@pytest.fixture(scope="module")
def host() -> Iterator[RunningHost]:
    folder = Path(tempfile.mkdtemp(prefix="is-", dir="/tmp"))
    (folder / "readable").mkdir()
    (folder / "readable" / "cache").write_text("weights")
    with RunningHost(folder / "cpu", readable=(str(folder / "readable"),)) as served:
        yield served
    shutil.rmtree(folder)


def test_more_memory_than_allowed_is_an_answer_and_the_instance_goes_on(host: RunningHost) -> None:
    instance = host.start(max_memory_bytes=64 * MiB)
    with pytest.raises(FunctionFailed) as caught:
        instance.do("reserve", 256)
    assert str(caught.value) == OUT_OF_MEMORY
    assert instance.do("reserve", 8) == 8 * MiB
    host.end(instance)


def test_memory_that_no_wall_stands_against_ends_the_instance(host: RunningHost) -> None:
    instance, neighbour = host.start(max_memory_bytes=64 * MiB), host.start()
    instance.begin("share", 128)
    instance.await_end()
    assert host.why(instance)[0] == ("it used more than its 64 MiB of memory (max_memory_bytes)")
    assert neighbour.do("echo", 1) == 1
    host.end(neighbour)


def test_a_file_that_is_mapped_to_be_read_is_no_memory_of_the_instances(host: RunningHost) -> None:
    """All instances share its pages, and the system may take them back."""
    instance = host.start(max_memory_bytes=64 * MiB)
    assert instance.do("map", 256) == 0
    assert host.why(instance)[0] is None
    host.end(instance)


def test_an_instance_opens_so_many_files_dumps_no_core_and_keeps_to_its_processors(
    host: RunningHost,
) -> None:
    cpu = min(os.sched_getaffinity(0))
    instance = host.start(open_files=64, cpus=(cpu,), environment={"GIVEN": "value"})
    about = instance.do("about")
    assert about["cpus"] == [cpu]
    assert (about["core"], about["files"]) == ([0, 0], [64, 64])
    assert about["given"] == "value"
    assert 0 < instance.do("open", 100) < 64
    host.end(instance)


def test_an_instance_that_has_opened_all_it_may_lets_callers_in_once_it_closes_some(
    host: RunningHost,
) -> None:
    instance = host.start(open_files=64)
    assert 0 < instance.do("open", 100) < 64
    with closing(Connection(instance.address)) as second:
        second.send(b'["echo", 2]', timeout_s=WAIT_S)
        assert instance.do("close") is None
        assert bytes(second.receive(timeout_s=WAIT_S).body) == b"2"
    host.end(instance)


@needs_landlock
def test_an_instance_writes_in_its_own_folder_only(host: RunningHost) -> None:
    instance, other = host.start(), host.start()
    theirs = Path(other.do("about")["folder"])
    elsewhere = host.folder.parent / "elsewhere"
    for path, outcome in {
        "own": "written",
        "/dev/null": "written",
        str(elsewhere): "PermissionError",
        str(theirs / "x"): "PermissionError",
        str(host.folder / "x"): "PermissionError",
        f"/dev/shm/is-{os.getpid()}": "PermissionError",  # noqa: S108
        f"/tmp/is-{os.getpid()}": "PermissionError",  # noqa: S108
    }.items():
        assert (path, instance.do("write", path)) == (path, outcome)
    host.end(instance)
    host.end(other)


@needs_landlock
def test_a_folder_may_be_made_writable_and_the_functions_cache_is(host: RunningHost) -> None:
    given, cache = host.folder.parent / "given", host.folder.parent / "cache"
    given.mkdir()
    cache.mkdir()
    instance = host.start(a_function(cache_path=str(cache)), writable_paths=(str(given),))
    assert instance.do("write", str(given / "x")) == "written"
    assert instance.do("write", str(cache / "x")) == "written"
    host.end(instance)


@needs_landlock
def test_an_instance_reads_what_it_needs_and_nobodys_secrets(host: RunningHost) -> None:
    secret = host.folder.parent / "token"
    secret.write_text("secret")
    handlers = host.folder.parent / "handlers"
    handlers.mkdir()
    (handlers / "mine.py").write_text("code")
    instance = host.start(a_function(handlers_dir=str(handlers)))
    assert instance.do("read", str(secret)) == "PermissionError"
    assert instance.do("read", str(host.folder / "host.json")) == "PermissionError"
    assert instance.do("read", f"/proc/{host.process.pid}/environ") == "PermissionError"
    assert instance.do("read", str(host.folder.parent / "readable" / "cache")) == "weights"
    assert instance.do("read", str(handlers / "mine.py")) == "code"
    assert instance.do("read", "/etc/hostname") != "PermissionError"
    host.end(instance)


@needs_scopes
def test_an_instance_cannot_signal_its_host_or_a_neighbour(host: RunningHost) -> None:
    instance, other = host.start(), host.start()
    assert instance.do("signal", host.process.pid) == "PermissionError"
    assert instance.do("signal", other.pid) == "PermissionError"
    assert instance.do("signal", instance.pid) == "sent"
    host.end(instance)
    host.end(other)


@pytest.mark.parametrize("way", ["child", "leave", "hide"])
def test_what_an_instance_starts_ends_with_it(host: RunningHost, way: str) -> None:
    """Whatever it does to get away: a session of its own, or no parent any more."""
    instance, neighbour = host.start(), host.start()
    started = instance.do(way)
    theirs = neighbour.do("child")
    host.end(instance)
    until(lambda: not running(started))
    assert running(theirs)
    host.end(neighbour)


def test_what_a_crashed_instance_has_started_ends_too(host: RunningHost) -> None:
    instance = host.start()
    started = [instance.do("child"), instance.do("leave")]
    instance.begin("exit", 1)
    until(lambda: not any(map(running, started)))


def test_a_function_that_prints_megabytes_is_cut_short_and_goes_on(host: RunningHost) -> None:
    instance = host.start()
    host.well()
    instance.do("print", 4)
    instance.begin("exit", 0)
    instance.await_end()
    why, tail = host.why(instance)
    lines = [line for name, line in host.well().printed if name == instance.name]
    assert why == "it left with exit code 0"
    assert tail.endswith(b"xxx\nthe end \x1b[2J\n")
    assert len(tail) == 64 << 10
    assert 0 < len(lines) < 100
    assert set(lines[0]) == {"x"}


def test_a_kernel_without_landlock_restricts_nothing_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    rules = landlock.Ruleset()
    rules.allow_reading(["/"])
    assert rules.restrict() is False
