"""From the worker's thread to the uplink: a request's chunks, in order, and only while wanted."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast
from unittest.mock import Mock

from edge_agent.events import Event, JobId, Part, Ran, Refuse, Run, Send
from edge_agent.hands import Hands
from edge_agent.intake import InferJob, ReplyTo
from edge_agent.live import Live
from edge_agent.packets import Message
from edge_agent.shelf import Shelf
from edge_agent.uplink import Answered, Uplink
from edge_agent.worker import Worker
from planner.model import Model
from planner.plans import PlanDocument
from protos.messages import Estimate, ModelRef
from protos.wire import route

K = JobId("k")
HEAD = Run(job=K, model="tiny", plan="chunked", part=Part.HEAD, chunked=True)


@dataclass(slots=True)
class Sent:
    """An uplink that writes down what it is given: chunk numbers, and how many were asked with."""

    ahead_of: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    def ahead(self, id_: str, number: int, chunk: bytes) -> None:
        assert route(chunk).id == id_
        assert route(chunk).chunk == (number, 3)
        assert not self.asked
        self.ahead_of.append(number)

    def ask(self, _id: str, chunks: Sequence[bytes]) -> asyncio.Future[Answered]:
        self.asked.append(len(chunks))
        return asyncio.get_running_loop().create_future()

    def forget(self, id_: str) -> None:
        self.forgotten.append(id_)


def told(
    model: Model, document: PlanDocument, image: bytes, do: Callable[[Hands], None]
) -> tuple[Sent, list[Event]]:
    """Take a job, *do* something with it, and wait for the worker; what was sent and told."""
    sent, events = Sent(), list[Event]()

    async def run() -> None:
        shelf = Shelf({"tiny": model}, threads=1)
        shelf.load("tiny", "chunked", document.plan("chunked"))
        worker = Worker("test")
        worker.start()

        def tell(event: Event) -> None:
            events.append(event)
            if isinstance(event, Ran) and not sent.forgotten:
                hands.send(Send(job=K))

        hands = Hands(
            client=Mock(),
            outbox=Mock(),
            shelf=shelf,
            worker=worker,
            uplink=cast("Uplink", sent),
            models={"tiny": ModelRef(name="tiny", version="1", digest="0" * 64)},
            known=lambda _model, _at_s: Estimate(),
            tell=tell,
            settled=lambda: None,
        )
        hands.take(
            Live(
                key=K,
                job=InferJob(id="1", model="tiny", image=image, budget_s=1.0),
                reply=ReplyTo(topic="t"),
                message=Mock(spec=Message),
                due_s=1e9,
            )
        )
        do(hands)
        await worker.call(lambda: None)
        await worker.stop(30.0)

    asyncio.run(run())
    return sent, events


def test_every_chunk_comes_before_the_word_that_the_head_is_done(
    forked_model: Model, forked_document: PlanDocument, picture: Callable[[int], bytes]
) -> None:
    sent, events = told(forked_model, forked_document, picture(1), lambda hands: hands.run(HEAD))
    assert (sent.ahead_of, sent.asked, sent.forgotten) == ([1, 2], [3], [])
    assert [type(event) for event in events] == [Ran]


def test_nothing_is_sent_of_a_job_that_was_refused_meanwhile(
    forked_model: Model, forked_document: PlanDocument, picture: Callable[[int], bytes]
) -> None:
    """The uplink is told to forget what it has of it already."""

    def run_and_refuse(hands: Hands) -> None:
        hands.run(HEAD)
        hands.refuse(Refuse(job=K, status=408, detail="late"))

    sent, _ = told(forked_model, forked_document, picture(1), run_and_refuse)
    assert (sent.ahead_of, sent.asked, sent.forgotten) == ([], [], [K])


def test_a_head_that_is_not_to_be_sent_in_chunks_is_one_message(
    forked_model: Model, forked_document: PlanDocument, picture: Callable[[int], bytes]
) -> None:
    whole = Run(job=K, model="tiny", plan="chunked", part=Part.HEAD)
    sent, _ = told(forked_model, forked_document, picture(1), lambda hands: hands.run(whole))
    assert (sent.ahead_of, sent.asked) == ([], [1])
