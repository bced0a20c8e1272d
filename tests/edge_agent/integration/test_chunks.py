"""A request that is sent in chunks while its head works, over a real stream."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from edge_agent.errors import LinkLost, UplinkError
from edge_agent.intake import InferJob
from edge_agent.shelf import Shelf
from edge_agent.uplink import Uplink
from edge_agent.work import head
from planner.model import Model
from planner.plans import PlanDocument
from protos.wire import route
from tests.edge_agent.conftest import Files
from tests.edge_agent.integration.conftest import LIMIT_S, TOPICS, Agents, App, Cloud, Heard

pytestmark = pytest.mark.integration

OWN = TOPICS.infer("tiny", "res")


@pytest.fixture
def tiny(forked: Files) -> Files:
    """Here the devices have the forked model, under the tiny one's name."""
    return forked


@pytest.fixture
def tiny_model(forked_model: Model) -> Model:
    return forked_model


@pytest.fixture
def chunks_of(
    forked_model: Model, forked_document: PlanDocument, picture: Callable[[int], bytes]
) -> Callable[[str], tuple[bytes, ...]]:
    """A request of that id in three chunks."""
    shelf = Shelf({"tiny": forked_model}, threads=1)
    shelf.load("tiny", "chunked", forked_document.plan("chunked"))
    job = InferJob(id="1", model="tiny", image=picture(1), budget_s=1.0)

    def make(id_: str) -> tuple[bytes, ...]:
        return head(
            job,
            shelf["tiny", "chunked"],
            version="1",
            plan="chunked",
            key=id_,
            due_s=1e9,
            ahead=lambda _number, _chunk: None,
        ).chunks

    return make


def answer_of(heard: Heard) -> list[tuple[str, list[object]]]:
    """The outputs, numbers to four places."""
    return [
        (each.name, [round(n, 4) if isinstance(n, float) else n for n in each.data])
        for each in heard.result.outputs
    ]


def came(cloud: Cloud, count: int) -> list[tuple[str, tuple[int, int] | None]]:
    """Take the next *count* messages that the cloud got: whose they were, and which chunks."""
    found = [route(cloud.asked.get(timeout=LIMIT_S)) for _ in range(count)]
    return [(each.id, each.chunk) for each in found]


def three(id_: str) -> list[tuple[str, tuple[int, int]]]:
    return [(id_, (number, 3)) for number in (1, 2, 3)]


def test_a_request_in_chunks_gets_the_answer_of_the_device_alone(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    agents(with_cloud(cloud.address, pin="chunked")).start()
    app.ask(picture(1))
    heard = app.wait(OWN)
    result = heard.result
    assert (result.placement.mode, result.placement.plan, result.placement.split) == (
        "split",
        "chunked",
        ("relu", "tanh"),
    )
    assert result.sent_bytes == 2048
    assert [chunk for _, chunk in came(cloud, 3)] == [(1, 3), (2, 3), (3, 3)]
    app.publish(
        TOPICS.desired, b'{"version":1,"models":{"tiny":{"plan":"device-only"}}}', retain=True
    )
    app.wait(TOPICS.reported, lambda heard: bool(heard.json["applied_version"] == 1))
    app.ask(picture(1))
    alone = app.wait(OWN)
    assert alone.result.placement.mode == "edge"
    assert dict(answer_of(heard)) == dict(answer_of(alone))
    assert [name for name, _ in answer_of(heard)] == ["most", "label", "score"]


@pytest.mark.parametrize("breaks", [1, 1000])
def test_a_connection_that_breaks_between_chunks_costs_no_answer(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
    breaks: int,
) -> None:
    """The device sends all of it again, if there is a stream by then, or finishes by itself."""
    agents(with_cloud(cloud.address, pin="chunked")).start()
    app.ask(picture(1))
    expected = answer_of(app.wait(OWN))
    cloud.breaks = breaks
    app.ask(picture(1), CorrelationData=b"broken")
    heard = app.wait(OWN, lambda heard: heard.correlation == b"broken")
    assert heard.result.placement.mode in ({"split", "fallback"} if breaks == 1 else {"fallback"})
    assert dict(answer_of(heard)) == dict(expected)


def test_a_cloud_that_refuses_a_request_in_chunks_costs_no_answer(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    cloud.refusal = "there is no model tiny here"
    agents(with_cloud(cloud.address, pin="chunked")).start()
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.mode == "fallback"
    cloud.refusal = ""
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.mode == "split"
    assert app.heard(TOPICS.event("link_degraded")) == []


# The uplink by itself ---------------------------------------------------------------------------


def over(cloud: Cloud, what: Callable[[Uplink, asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Do *what* with an uplink that is connected; the event is set when its stream breaks."""

    async def run() -> None:
        broken = asyncio.Event()
        uplink = Uplink(cloud.address, on_broken=broken.set)
        running = asyncio.create_task(uplink.run())
        try:
            async with asyncio.timeout(LIMIT_S):
                assert await uplink.probe(LIMIT_S) is not None
                await what(uplink, broken)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


def test_what_went_ahead_is_not_sent_again(
    cloud: Cloud, chunks_of: Callable[[str], tuple[bytes, ...]]
) -> None:
    chunks = chunks_of("k")

    async def check(uplink: Uplink, _broken: asyncio.Event) -> None:
        uplink.ahead("k", 1, chunks[0])
        uplink.ahead("k", 2, chunks[1])
        found = await uplink.ask("k", chunks)
        assert [nbytes for _, nbytes in found.sends] == [len(chunk) for chunk in chunks]
        assert found.sent_s == max(at_s for at_s, _ in found.sends)

    over(cloud, check)
    assert came(cloud, 3) == three("k")
    assert cloud.asked.empty()


def test_on_another_stream_every_chunk_is_sent_again(
    cloud: Cloud, chunks_of: Callable[[str], tuple[bytes, ...]]
) -> None:
    """The second chunk alone goes nowhere: the new stream has not had the first."""
    cloud.breaks, chunks = 1, chunks_of("k")

    async def check(uplink: Uplink, broken: asyncio.Event) -> None:
        uplink.ahead("k", 1, chunks[0])
        await broken.wait()
        assert await uplink.probe(LIMIT_S) is not None
        uplink.ahead("k", 2, chunks[1])
        found = await uplink.ask("k", chunks)
        assert len(found.sends) == 3

    over(cloud, check)
    assert came(cloud, 4) == [("k", (1, 3)), *three("k")]


def test_without_a_connection_nothing_is_sent_ahead_and_asking_fails() -> None:
    async def check() -> None:
        uplink = Uplink("127.0.0.1:1", on_broken=lambda: None)
        uplink.ahead("k", 1, b"chunk")
        with pytest.raises(LinkLost):
            await uplink.ask("k", (b"chunk", b"last"))

    asyncio.run(check())


def test_a_request_that_is_forgotten_between_its_chunks_leaves_the_stream_to_others(
    cloud: Cloud, chunks_of: Callable[[str], tuple[bytes, ...]]
) -> None:
    async def check(uplink: Uplink, _broken: asyncio.Event) -> None:
        uplink.ahead("gone", 1, chunks_of("gone")[0])
        await uplink.ask("k", chunks_of("k"))
        uplink.forget("gone")
        await uplink.ask("l", chunks_of("l"))

    over(cloud, check)
    assert came(cloud, 7) == [("gone", (1, 3)), *three("k"), *three("l")]


def test_a_chunk_that_was_refused_is_the_answer_to_all_of_the_request(
    cloud: Cloud, chunks_of: Callable[[str], tuple[bytes, ...]]
) -> None:
    """The gateway says it once and ignores the rest, so that who asks later would wait in vain."""
    cloud.refused = "bad"

    async def check(uplink: Uplink, _broken: asyncio.Event) -> None:
        bad = chunks_of("bad")
        uplink.ahead("bad", 1, bad[0])
        await uplink.ask("k", chunks_of("k"))  # the refusal came before this answer
        uplink.ahead("bad", 2, bad[1])
        with pytest.raises(UplinkError, match="too many are open"):
            await uplink.ask("bad", bad)
        await uplink.ask("l", chunks_of("l"))

    over(cloud, check)
    assert came(cloud, 7) == [("bad", (1, 3)), *three("k"), *three("l")]
