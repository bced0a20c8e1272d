"""A host behind a door, in a process of its own, and a gateway that is the test."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_fn import processes
from cloud_fn.functions.channel import Connection
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.far_host import FarHost, FarSettings, Opened
from cloud_fn.functions.host_calls import Close, HostClient, Ping, Start, Started, Well
from cloud_fn.functions.proving import fresh_secret
from cloud_fn.functions.reach import Cord, Far
from tests.cloud_fn.hosting import HERE, ROGUE, WAIT_S, a_function, until

HOST = """
import sys, msgspec
from cloud_fn.functions.far_host import FarHost, FarSettings
opened = FarHost(msgspec.json.decode(sys.argv[1], type=FarSettings)).open()
print(msgspec.json.encode(opened).decode(), flush=True)
"""


def settings(base: Path, **changes: Any) -> FarSettings:  # noqa: ANN401  any field
    given = {"node": "n2", "base": str(base), "kind": "cpu", "address": "127.0.0.1"}
    return FarSettings(**{**given, "secret": fresh_secret(), "engine": ROGUE, **changes})


@contextmanager
def begun(given: FarSettings) -> "Iterator[tuple[subprocess.Popen[str], Far]]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, msgspec.json.encode(given).decode()],
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE.parents[1],
    )
    try:
        assert process.stdout is not None
        opened = msgspec.json.decode(process.stdout.readline(), type=Opened)
        assert opened.process.pid == process.pid
        assert opened.port is not None, opened.why
        secret = given.secret.encode()
        yield process, Far(host="127.0.0.1", port=opened.port, secret=secret, cord=Cord())
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def come_up(far: Far) -> HostClient:
    """A connection to the host, once it is there."""
    made: list[HostClient] = []

    def is_there() -> bool:
        try:
            made.append(HostClient(far, timeout_s=WAIT_S))
        except ConnectionError:
            return False
        return True

    until(is_there)
    return made[0]


def test_a_far_host_starts_instances_that_answer_through_its_door(short: Path) -> None:
    with begun(settings(short)) as (process, far):
        with closing(come_up(far)) as host:
            well, _ = host.ask(Ping(), timeout_s=WAIT_S)
            assert isinstance(well, Well)
            assert well.host.pid == process.pid
            start = Start(label="rogue-1", confinement=Confinement(), timeout_s=WAIT_S)
            started, _ = host.ask(start, msgspec.json.encode(a_function()), timeout_s=WAIT_S)
            assert isinstance(started, Started)
            instance = replace(far, to=Path(started.socket).stem)
            with closing(Connection(instance)) as connection:
                connection.send(b'["echo", "hello"]', timeout_s=WAIT_S)
                assert bytes(connection.receive(timeout_s=WAIT_S).body) == b'"hello"'
            host.ask(Close(), timeout_s=WAIT_S)
        assert process.wait(WAIT_S) == 0
        assert not processes.alive(started.process)
    assert list(short.iterdir()) == []


def test_a_far_host_ends_with_all_it_has_when_its_gateway_falls_silent(short: Path) -> None:
    with begun(settings(short, silence_s=3.0)) as (process, far):
        with closing(come_up(far)) as host:
            start = Start(label="rogue-1", confinement=Confinement(), timeout_s=WAIT_S)
            started, _ = host.ask(start, msgspec.json.encode(a_function()), timeout_s=WAIT_S)
            assert isinstance(started, Started)
            assert process.wait(WAIT_S) == 0
        until(lambda: not processes.alive(started.process))
    assert list(short.iterdir()) == []


def test_the_host_before_that_hangs_there_is_ended_first(short: Path) -> None:
    with begun(settings(short)) as (before, far):
        come_up(far).close()
        before.send_signal(signal.SIGSTOP)
        mark = processes.mark(before.pid)
        with begun(settings(short, before=mark)) as (_, later):
            assert before.wait(WAIT_S) == -9
            come_up(later).close()


def test_a_node_that_cannot_see_the_registry_is_told_to_mount_it(short: Path) -> None:
    opened = FarHost(settings(short, readable=("/nowhere/registry",))).open()
    assert opened.port is None
    assert opened.why == "node n2 cannot read /nowhere/registry: mount it there"
    assert list(short.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"address": "0.0.0.0"}, "a door listens at one address, not at 0.0.0.0"),  # noqa: S104
        ({"address": "192.0.2.1"}, "Cannot assign requested address"),
        ({"base": "/tmp/" + "x" * 40}, "is too long for sockets"),  # noqa: S108  not made
    ],
)
def test_a_node_that_cannot_have_a_host_says_why(
    short: Path, changes: dict[str, str], why: str
) -> None:
    opened = FarHost(msgspec.structs.replace(settings(short), **changes)).open()
    assert opened.port is None
    assert opened.why.startswith("node n2 cannot have a host: ")
    assert why in opened.why
    assert list(short.iterdir()) == []
