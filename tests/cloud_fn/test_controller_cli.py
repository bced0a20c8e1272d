"""What is shown of the gateways of one Ray, from a gateway's door to the lines that people read."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import isthmus
from cloud_fn.auth import Keys
from cloud_fn.config import Config
from cloud_fn.controller.alone import alone
from cloud_fn.controller.messages import (
    GatewayRow,
    HostRow,
    InstanceRow,
    NodeRow,
    ShareRow,
    Standing,
)
from cloud_fn.doors.grpc import GrpcDoor
from cloud_fn.errors import ControllerSilent
from cloud_fn.functions import Limits, Pool
from cloud_fn.functions.budget import UNMEASURED_BYTES
from cloud_fn.registry import Catalog
from cloud_fn.service import Bounds, Service
from tests.cloud_fn.pools import FUNCTION, FakeLauncher

MiB = 1 << 20
STANDING = Standing(
    nodes=(NodeRow(id="0123456789abcdef", budget_bytes=512 * MiB, held_bytes=500 * MiB),),
    gateways=(GatewayRow(id="g1", address="10.0.0.1:8001", heard_ago_s=0.5),),
    shares=(
        ShareRow(
            gateway="g1",
            node="0123456789abcdef",
            used_bytes=64 * MiB,
            idle_bytes=32 * MiB,
            held_bytes=500 * MiB,
        ),
    ),
    hosts=(HostRow(name="h", node="0123456789abcdef", kind="cpu", pid=7, gateways=("g1", "g2")),),
    instances=(InstanceRow(name="m-1-ab", host="h", gateway="g1", private_bytes=32 * MiB),),
)


class Door:
    """A gateway's door, and the service behind it."""

    def __init__(self, service: Service, address: str) -> None:
        self.service = service
        self.address = address

    def show(self, *words: str) -> int:
        return isthmus.main(["controller", "show", "--gateway", self.address, *words])


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    launcher = FakeLauncher(tmp_path)
    pool = Pool(launcher, lambda _: pytest.fail("nothing runs"))
    service = Service(Catalog(tmp_path / "registry"), pool, Bounds(), standing=lambda: STANDING)
    opened = GrpcDoor(Config(listen="127.0.0.1:0"), Keys.read(None))
    address = opened.bind()
    opened.open(service)
    yield Door(service, str(address))
    opened.close(0.0)


def test_what_a_gateway_tells_is_printed_as_one_document(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    assert door.show("--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.pop("schema") == "isthmus.controller/1"
    assert shown["hosts"][0].pop("gateways") == ["g1", "g2"]
    assert shown["instances"] == [
        {"name": "m-1-ab", "host": "h", "gateway": "g1", "private_bytes": 32 * MiB}
    ]
    assert (shown["gathered"], shown["alone"]) == (True, False)


def test_what_people_read_has_nodes_gateways_hosts_and_instances(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    assert door.show() == 0
    assert capsys.readouterr().out.splitlines() == [
        "node 0123456789ab  gateways may use 524 MB of 537 MB",
        "gateway g1  at 10.0.0.1:8001, heard 0.5 s ago",
        "  on 0123456789ab  uses 67.1 MB, of which 33.6 MB idle, and may use 524 MB",
        "host h  process 7 on 0123456789ab, cpu, for 2 of the gateways",
        "  m-1-ab  33.6 MB, of g1",
    ]


def test_a_controller_that_does_not_answer_is_said_in_one_sentence(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent() -> Standing:
        raise ControllerSilent("the controller does not answer: it hangs")

    door.service.standing = silent
    assert door.show() == 2
    said = capsys.readouterr().err
    assert said == (
        f"isthmus: the gateway at {door.address} refuses: "
        "the controller does not answer: it hangs\n"
    )


def test_a_gateway_with_a_ray_of_its_own_tells_the_same_of_itself(short: Path) -> None:
    pool = Pool(FakeLauncher(short), lambda _: Limits(), memory_budget_bytes=512 * MiB)
    pool.call(FUNCTION, b"")
    found = alone(
        pool,
        [("n", "cpu", 7)],
        gateway="g",
        address="a:1",
        node="n",
        budget_bytes=512 * MiB,
    )
    assert found == Standing(
        alone=True,
        nodes=(NodeRow(id="n", budget_bytes=512 * MiB, held_bytes=512 * MiB),),
        gateways=(GatewayRow(id="g", address="a:1", heard_ago_s=0.0),),
        shares=(
            ShareRow(
                gateway="g",
                node="n",
                used_bytes=UNMEASURED_BYTES,
                idle_bytes=UNMEASURED_BYTES,
                held_bytes=512 * MiB,
            ),
        ),
        hosts=(HostRow(name="cpu", node="n", kind="cpu", pid=7, gateways=("g",)),),
        instances=(
            InstanceRow(name="i1", host="cpu", gateway="g", private_bytes=UNMEASURED_BYTES),
        ),
    )
    pool.close()
