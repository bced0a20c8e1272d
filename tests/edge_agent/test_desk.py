"""What the desk does with each message, and when it acknowledges it."""

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec
import pytest

from edge_agent.desk import MAX_STARTS, Desk, Rules
from edge_agent.errors import OutboxError, OutboxFull
from edge_agent.intake import Served
from edge_agent.live import Live
from edge_agent.mqtt import MqttClient
from edge_agent.outbox import WINDOW_S, Known, Outbox, Pending
from edge_agent.packets import Message, Publication
from protos.topics import Topics

TOPICS = Topics(device="cam-01")
OWN = TOPICS.infer("photos", "res")
REQUEST = Message(topic=TOPICS.infer("photos", "req"), payload=b"\xff\xd8\xff", correlation=b"c")


class Scene:
    """A desk with a broker and an outbox that only note what happens to them, in order."""

    max_payload_bytes = 1000

    def __init__(self, *, inbox: int = 2, known: Known = Known.NOTHING) -> None:
        self.seen: list[tuple[str, object]] = []
        self.full = False
        self.written: list[Callable[[Exception | None], None]] = []
        self._known = known
        rules = Rules(
            topics=TOPICS,
            served={"photos": Served(version="1", sources=("bytes",), takes_bytes=True)},
            deadline_s=2.0,
            inbox=inbox,
            boot="b",
        )
        self.desk = Desk(
            rules,
            client=cast("MqttClient", self),
            outbox=cast("Outbox", self),
            begin=self._begin,
            desire=lambda payload: self.seen.append(("desired", payload)),
        )

    def take(self, *messages: Message) -> list[tuple[str, object]]:
        async def scenario() -> None:
            for message in messages:
                await self.desk._take(message)

        asyncio.run(scenario())
        return self.seen

    def replay(self, pending: Pending) -> list[tuple[str, object]]:
        asyncio.run(self.desk.replay(pending))
        return self.seen

    def _begin(self, live: Live) -> None:
        self.seen.append(("begun", live.job.id))

    # the client

    async def publish(self, publication: Publication) -> None:
        status = dict(publication.user).get("status", "")
        self.seen.append(("published", f"{publication.topic} {status}"))

    def ack(self, message: Message) -> None:
        self.seen.append(("acknowledged", message.topic))

    # the outbox

    def known(self, _key: str) -> Known:
        return self._known

    def accept(
        self, _key: str, _message: Message, done: Callable[[Exception | None], None]
    ) -> None:
        if self.full:
            raise OutboxFull("full")
        self.written.append(done)

    async def answer(self, _key: str) -> Publication | None:
        return Publication(topic=OWN, payload=b"kept", user=(("status", "200"),))

    def settle(self, key: str, answer: Publication) -> None:
        self.seen.append(("settled", (key, msgspec.json.decode(answer.payload)["status"])))

    async def drop(self, key: str) -> None:
        self.seen.append(("dropped", key))


def test_a_request_is_acknowledged_when_it_is_on_disk_and_begun_before() -> None:
    """The disk and the worker are busy at the same time."""
    scene = Scene()
    assert scene.take(REQUEST) == [("begun", "c")]
    scene.written[0](None)
    assert scene.seen[1:] == [("acknowledged", REQUEST.topic)]


def test_a_request_that_the_disk_did_not_take_stays_with_the_broker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    scene.take(REQUEST)
    scene.written[0](OutboxError("no space"))
    assert scene.seen == [("begun", "c")]
    assert "request not on disk: id=c reason=no space" in caplog.text


def test_a_refusal_is_published_before_the_request_is_acknowledged() -> None:
    bad = Message(topic=REQUEST.topic, payload=b"hello")
    assert Scene().take(bad) == [
        ("published", f"{OWN} 400"),
        ("acknowledged", REQUEST.topic),
    ]


def test_more_than_the_inbox_holds_is_refused_until_one_is_settled() -> None:
    scene = Scene(inbox=1)
    scene.take(REQUEST, REQUEST)
    assert scene.seen == [
        ("begun", "c"),
        ("published", f"{OWN} 429"),
        ("acknowledged", REQUEST.topic),
    ]
    assert not scene.desk.idle.is_set()
    scene.desk.done()
    assert scene.desk.idle.is_set()
    assert scene.take(REQUEST)[3:] == [("begun", "c")]


def test_what_a_full_outbox_does_not_take_is_refused() -> None:
    scene = Scene()
    scene.full = True
    assert scene.take(REQUEST)[0] == ("published", f"{OWN} 429")
    assert scene.desk.idle.is_set()


def test_a_duplicate_of_a_request_under_way_is_only_acknowledged() -> None:
    """Its answer goes where the first one's goes."""
    assert Scene(known=Known.PENDING).take(REQUEST) == [("acknowledged", REQUEST.topic)]


def test_a_duplicate_of_an_answered_request_gets_the_answer_again() -> None:
    assert Scene(known=Known.ANSWERED).take(REQUEST) == [
        ("published", f"{OWN} 200"),
        ("acknowledged", REQUEST.topic),
    ]


@pytest.mark.parametrize(
    "topic", ["isthmus/v1/d/cam-01/infer/Photos/req", "elsewhere", OWN, TOPICS.status]
)
def test_what_is_none_of_our_business_is_acknowledged_and_left(topic: str) -> None:
    assert Scene().take(Message(topic=topic, payload=b"x")) == [("acknowledged", topic)]


def test_a_desired_document_is_handed_on_and_a_cleared_one_is_not() -> None:
    scene = Scene()
    scene.take(
        Message(topic=TOPICS.desired, payload=b"{}", retained=True),
        Message(topic=TOPICS.desired, payload=b"", retained=True),
    )
    assert [each for each in scene.seen if each[0] == "desired"] == [("desired", b"{}")]


def test_what_a_crash_left_behind_is_begun_again() -> None:
    assert Scene().replay(Pending(key="k", message=REQUEST, age_s=9.0)) == [("begun", "c")]


@pytest.mark.parametrize(
    ("pending", "status"),
    [
        (Pending(key="k", message=REQUEST, age_s=WINDOW_S + 1), 408),
        (Pending(key="k", message=REQUEST, age_s=1.0, starts=MAX_STARTS + 1), 500),
    ],
)
def test_what_nobody_waits_for_or_no_agent_survives_is_given_up(
    pending: Pending, status: int
) -> None:
    assert Scene().replay(pending) == [
        ("published", f"{OWN} {status}"),
        ("settled", ("k", status)),
    ]


def test_what_was_left_behind_under_another_root_is_dropped() -> None:
    other = Message(topic="acme/v1/d/cam-01/infer/photos/req", payload=b"")
    assert Scene().replay(Pending(key="k", message=other, age_s=1.0)) == [("dropped", "k")]
