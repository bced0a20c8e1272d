"""A host of several gateways, each played by a connection of the test; see Leases and Host."""

import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from cloud_fn import processes
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.host_calls import HostClient, Leave, Ping, Start, Started, Weigh, Weighed
from cloud_fn.functions.leases import Lease, Leases
from cloud_fn.functions.reach import Near
from protos.errors import WireError
from tests.cloud_fn.hosting import WAIT_S, RunningHost, a_function, until

SILENCE_S = 1.5


class Gateway:
    """One that holds a lease on a host for as long as its connection is open."""

    def __init__(self, folder: Path, name: str) -> None:
        self.lease = f"lease-{name}"
        self._gateway = name
        self._address = Near(folder / "host.sock")
        self.held = HostClient(self._address, timeout_s=WAIT_S)
        self.speak()

    def speak(self) -> None:
        ping = Ping(lease=self.lease, gateway=self._gateway, holds={"n": 7})
        self.held.ask(ping, timeout_s=WAIT_S)

    def start(self) -> Started:
        request = Start(
            label="rogue-1", confinement=Confinement(), timeout_s=WAIT_S, lease=self.lease
        )
        with closing(HostClient(self._address, timeout_s=WAIT_S)) as client:
            reply, _ = client.ask(request, msgspec.json.encode(a_function()), timeout_s=WAIT_S)
        assert isinstance(reply, Started)
        return reply

    def weigh(self, name: str) -> int:
        with closing(HostClient(self._address, timeout_s=WAIT_S)) as client:
            reply, _ = client.ask(Weigh(name=name), timeout_s=WAIT_S)
        assert isinstance(reply, Weighed)
        return reply.private_bytes

    def leave(self) -> None:
        gone = contextlib.suppress(WireError)  # a host without a door ends before it can say so
        with gone, closing(HostClient(self._address, timeout_s=WAIT_S)) as client:
            client.ask(Leave(lease=self.lease), timeout_s=WAIT_S)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="is-", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[RunningHost]:
    with RunningHost(folder / "host", silence_s=SILENCE_S) as running:
        yield running


def test_a_gateways_instances_end_with_its_connection_and_nobody_elses(host: RunningHost) -> None:
    """The kernel closes it for a gateway that is killed."""
    stays, goes = Gateway(host.folder, "stays"), Gateway(host.folder, "goes")
    kept, lost = stays.start(), goes.start()
    assert stays.weigh(kept.name) > 0
    goes.held.close()
    until(lambda: not processes.alive(lost.process))
    stays.speak()
    assert processes.alive(kept.process)
    assert stays.weigh(lost.name) == 0
    stays.held.close()
    until(lambda: not processes.alive(kept.process))
    assert host.process.poll() is None  # another may come; its door knows when none does


def test_a_gateway_that_falls_silent_loses_what_it_has(host: RunningHost) -> None:
    """Its node may have lost its power, which closes no connection."""
    silent = Gateway(host.folder, "silent")
    started = silent.start()
    until(lambda: not processes.alive(started.process))
    silent.held.close()


def test_nothing_starts_under_a_lease_that_is_over(host: RunningHost) -> None:
    """The host hangs up, as one does that is lost: the gateway goes to another, or comes back."""
    gone = Gateway(host.folder, "gone")
    gone.held.close()
    until(lambda: not _starts(gone))


def _starts(gateway: Gateway) -> bool:
    try:
        gateway.start()
    except (OSError, WireError):
        return False
    return True


def test_a_host_ends_with_the_last_gateway_that_leaves(short: Path) -> None:
    with RunningHost(short / "host") as host:
        first, last = Gateway(host.folder, "first"), Gateway(host.folder, "last")
        first.start()
        first.leave()
        first.held.close()
        assert host.well().instances == 0
        started = last.start()
        last.leave()
        last.held.close()
        assert host.process.wait(WAIT_S) == 0
        assert not processes.alive(started.process)
    assert list(short.iterdir()) == []


def test_a_host_that_is_ending_takes_no_gateway() -> None:
    """One that came between would wait for a host that is going."""
    leases = Leases()
    assert leases.renew(Ping(lease="a", gateway="g", holds={"n": 1}))
    assert not leases.close_if_none()
    assert leases.renew(Ping(lease="a", gateway="g", holds={"n": 2}))
    assert leases.all() == (Lease(id="a", gateway="g", holds={"n": 2}),)
    assert leases.drop("a")
    assert not leases.drop("a")
    assert leases.close_if_none()
    assert not leases.renew(Ping(lease="b", gateway="g", holds={}))
    assert "b" not in leases
