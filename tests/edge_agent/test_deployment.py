"""What an agent tells a gateway of its plans, and what it makes of the answer."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import msgspec
import pytest

from edge_agent.deployment import Deployer, Deployment, deployments
from planner.plans import Crossing, Plan, PlanDocument
from protos.deployments import (
    DEPLOY,
    MAX_CUTS,
    MAX_NAME_CHARS,
    MAX_TENSORS,
    Deployed,
    decode_deployed,
    encode_deployment,
)
from protos.errors import WireError
from protos.gen import control_pb2 as pb
from protos.messages import ModelRef

TINY = ModelRef(name="tiny", version="3", digest="0" * 64)
A, B = ("a",), ("b", "c")
LOGGER = "edge_agent.deployment"


@pytest.fixture
def a_plan(plan_document: PlanDocument) -> Callable[..., Plan]:
    def make(*tensors: str, refused: str = "") -> Plan:
        crossing = tuple(Crossing(tensor=name, codec="raw", bytes=1) for name in tensors)
        return msgspec.structs.replace(
            plan_document.plan("plan-1"), crossing=crossing, refused=refused
        )

    return make


def test_the_cuts_of_every_plan_that_the_cloud_finishes_are_deployed(
    plan_document: PlanDocument,
) -> None:
    plans = {("tiny", plan.id): plan for plan in plan_document.plans}
    other = ModelRef(name="other", version="1", digest="0" * 64)
    found = deployments({"tiny": TINY, "other": other}, {**plans, ("other", "device-only"): None})
    assert found == (Deployment(model="tiny", version="3", cuts=(("relu",), ("bytes",))),)


def test_each_cut_is_deployed_once_and_those_that_the_table_may_name_come_first(
    a_plan: Callable[..., Plan],
) -> None:
    plans = [a_plan("z", refused="too lossy"), a_plan("b", "a"), a_plan("a", "b"), a_plan("a")]
    (found,) = deployments({"tiny": TINY}, {("tiny", str(n)): p for n, p in enumerate(plans)})
    assert found.cuts == (("a", "b"), ("a",), ("z",))


def test_what_exceeds_a_deployment_is_left_out(a_plan: Callable[..., Plan]) -> None:
    plans = [a_plan("x" * (MAX_NAME_CHARS + 1)), a_plan(*map(str, range(MAX_TENSORS + 1)))]
    plans += [a_plan(str(number)) for number in range(MAX_CUTS + 1)]
    (found,) = deployments({"tiny": TINY}, {("tiny", str(n)): p for n, p in enumerate(plans)})
    assert found.cuts == tuple((str(number),) for number in range(MAX_CUTS))


def test_a_gateways_answer_is_read() -> None:
    message = pb.DeployResponse(warm=[pb.Cut(tensors=A)])
    message.refused.add(cut=pb.Cut(tensors=B), reason="no tensor b")
    found = decode_deployed(message.SerializeToString())
    assert found == Deployed(warm=(A,), refused=((B, "no tensor b"),))
    with pytest.raises(WireError, match="the answer to a deployment is none"):
        decode_deployed(b"\xff\xff")


class Gateway(grpc.GenericRpcHandler):
    """Answers a deployment with the next of *answers*, a status among them; keeps what came."""

    def __init__(self) -> None:
        self.came: list[pb.DeployRequest] = []
        self.answers: list[bytes | grpc.StatusCode] = []
        self.server = grpc.server(ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def service(
        self, details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        if details.method != DEPLOY:
            return None
        return grpc.unary_unary_rpc_method_handler(self._deploy)

    def _deploy(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.came.append(pb.DeployRequest.FromString(request))
        answer = self.answers.pop(0)
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "why not")
        assert isinstance(answer, bytes)
        return answer


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.server.stop(0).wait()


def deploy(gateway: Gateway, *models: str, times: int) -> None:
    """Have a deployer tell of two cuts of each model, at so many connections."""
    deployer = Deployer([Deployment(model=name, version="1", cuts=(A, B)) for name in models])

    async def run() -> None:
        for _ in range(times):
            async with grpc.aio.insecure_channel(gateway.address) as channel:
                await deployer.deploy(channel, None)

    asyncio.run(run())


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == level]


def test_every_model_is_deployed_at_each_connection(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    warm = pb.DeployResponse(warm=[pb.Cut(tensors=A), pb.Cut(tensors=["another's"])])
    gateway.answers = [warm.SerializeToString()] * 4
    deploy(gateway, "m", "n", times=2)
    assert [each.SerializeToString() for each in gateway.came] == [
        encode_deployment(name, "1", (A, B)) for name in ("m", "n", "m", "n")
    ]
    assert lines(caplog, logging.INFO)[:2] == [
        "cuts deployed: model=m cuts=2 warm=1",
        "cuts deployed: model=n cuts=2 warm=1",
    ]
    assert lines(caplog, logging.WARNING) == []


def test_what_a_gateway_refuses_is_said_once_and_the_next_model_is_deployed(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    message = pb.DeployResponse()
    message.refused.add(cut=pb.Cut(tensors=B), reason="no tensor b")
    refused = message.SerializeToString()
    no = grpc.StatusCode.INVALID_ARGUMENT
    gateway.answers = [no, refused, no, refused, b"\xff\xff", b""]
    deploy(gateway, "m", "n", times=3)
    *first, last = lines(caplog, logging.WARNING)
    assert first == [
        "cuts not deployed: model=m reason=INVALID_ARGUMENT why not",
        "cuts not deployed: model=n reason=b, c: no tensor b",
    ]
    assert last.startswith("cuts not deployed: model=m reason=the answer to a deployment is none: ")


@pytest.mark.parametrize("status", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE])
def test_a_gateway_that_lacks_the_call_or_has_gone_is_left_alone(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, status: grpc.StatusCode
) -> None:
    gateway.answers = [status]
    deploy(gateway, "m", "n", times=1)
    assert [each.model for each in gateway.came] == ["m"]
    assert lines(caplog, logging.WARNING) == []
