"""The front desk: what to do with each message that comes. It accepts, refuses or answers at once.

A message is acknowledged when it is safe: its request is on disk, or its reply is with the broker.
Refusals are awaited here, so a flood of bad requests is held up and never piles up in memory.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from edge_agent import answers, intake
from edge_agent.errors import OutboxError, OutboxFull, PublishRefused, Refused
from edge_agent.intake import ReplyTo, Served
from edge_agent.live import Live
from edge_agent.mqtt import MqttClient
from edge_agent.outbox import WINDOW_S, Known, Outbox, Pending
from edge_agent.packets import Message
from edge_agent.presence import COMMANDS
from protos.errors import WireError
from protos.topics import CommandTopic, DeviceTopic, InferTopic, Topics

log = logging.getLogger(__name__)

MAX_STARTS = 3
"""How often a request is begun again that an agent did not survive, or was stopped in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the desk goes by. *inbox* counts jobs that are accepted and not settled."""

    topics: Topics
    served: Mapping[str, Served]
    deadline_s: float
    inbox: int
    boot: str


class Desk:
    """Takes messages; *begin* is called with each job that is accepted, *held* of them at a time.

    ``idle`` is set while there is none.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        client: MqttClient,
        outbox: Outbox,
        begin: Callable[[Live], None],
        desire: Callable[[bytes], None],
    ) -> None:
        self._rules = rules
        self._client = client
        self._outbox = outbox
        self._begin = begin
        self._desire = desire
        self.held = 0
        self.idle = asyncio.Event()
        self.idle.set()

    async def run(self) -> None:
        """Take messages as they come."""
        async for message in self._client.messages():
            try:
                await self._take(message)
            except (PublishRefused, OutboxError) as error:
                log.error("message dropped: topic=%s reason=%s", message.topic, error)
                self._client.ack(message)

    async def replay(self, pending: Pending) -> None:
        """Begin again with a request that a crash left behind; its budget counts from now.

        One whose requester will have stopped waiting is answered with 408, and one that was begun
        several times with 500: it may be what brings the agent down.
        """
        now_s = asyncio.get_running_loop().time()
        message = replace(pending.message, received_s=now_s)
        try:
            topic = self._rules.topics.parse(message.topic)
        except WireError as error:  # the root or the device's name was changed
            log.error("request left behind dropped: reason=%s", error)
            await self._outbox.drop(pending.key)
            return
        assert isinstance(topic, InferTopic)
        reply = intake.reply_to(message, topic, self._rules.topics)
        try:
            _check(pending)
            live = self._read(pending.key, message, topic, reply)
        except Refused as error:
            await self._settle_refused(pending.key, reply, error)
            return
        live.stored = True
        self._hold(live)

    def done(self) -> None:
        """One job that was begun is settled."""
        self.held -= 1
        if self.held == 0:
            self.idle.set()

    async def _take(self, message: Message) -> None:
        try:
            topic = self._rules.topics.parse(message.topic)
        except WireError as error:
            log.warning("message ignored: reason=%s", error)
            self._client.ack(message)
            return
        match topic:
            case InferTopic(side="req") if not message.retained:
                await self._request(message, topic)
            case CommandTopic(side="req") if not message.retained:
                await self._command(message, topic)
            case DeviceTopic(kind="desired"):
                if message.payload:
                    self._desire(message.payload)
                self._client.ack(message)
            case _:
                log.warning(
                    "message ignored: topic=%s retained=%s", message.topic, message.retained
                )
                self._client.ack(message)

    async def _request(self, message: Message, topic: InferTopic) -> None:
        reply = intake.reply_to(message, topic, self._rules.topics)
        key = intake.key_of(message, topic)
        if key is not None and await self._was_known(key, message):
            return
        try:
            self._accept(key or uuid.uuid4().hex, message, topic, reply)
        except Refused as error:
            await self._refuse(reply, error)
            self._client.ack(message)

    async def _was_known(self, key: str, message: Message) -> bool:
        """Whether *message* was asked before; if so it is dealt with."""
        known = self._outbox.known(key)
        if known is Known.NOTHING:
            return False
        if known is Known.ANSWERED:
            answer = await self._outbox.answer(key)
            if answer is None:  # the disk failed when it was to be kept
                return False
            await self._client.publish(answer)
        log.info("duplicate request: key=%s known=%s", key, known.value)
        self._client.ack(message)
        return True

    def _accept(self, key: str, message: Message, topic: InferTopic, reply: ReplyTo) -> None:
        if self.held >= self._rules.inbox:
            raise Refused(429, f"{self.held} requests are waiting here already: try again later")
        live = self._read(key, message, topic, reply)
        try:
            self._outbox.accept(key, message, partial(self._stored, live))
        except OutboxFull as error:
            raise Refused(429, str(error)) from error
        self._hold(live)  # the disk and the worker are busy at the same time

    def _hold(self, live: Live) -> None:
        self.held += 1
        self.idle.clear()
        self._begin(live)

    def _stored(self, live: Live, error: Exception | None) -> None:
        if error is not None:
            # Unacknowledged, the broker keeps it for us until it is answered.
            log.error("request not on disk: id=%s reason=%s", live.job.id, error)
            return
        live.stored = True
        self._client.ack(live.message)

    def _read(self, key: str, message: Message, topic: InferTopic, reply: ReplyTo) -> Live:
        job = intake.read(
            message,
            topic,
            reply,
            self._rules.served,
            deadline_s=self._rules.deadline_s,
            max_payload_bytes=self._client.max_payload_bytes,
        )
        due_s = message.received_s + job.budget_s
        return Live(key=key, job=job, reply=reply, message=message, due_s=due_s)

    async def _command(self, message: Message, topic: CommandTopic) -> None:
        reply = intake.reply_to(message, topic, self._rules.topics)
        if reply.denied is not None:
            await self._refuse(reply, Refused(400, intake.denial(reply.denied, topic.device)))
        elif topic.name == "ping":
            pong = answers.pong(reply=reply, device=topic.device, boot=self._rules.boot)
            await self._client.publish(pong)
        else:
            known = ", ".join(COMMANDS)
            await self._refuse(reply, Refused(404, f"there is no {topic.name}: use {known}"))
        self._client.ack(message)

    async def _refuse(self, reply: ReplyTo, error: Refused) -> None:
        log.info("request refused: status=%d reason=%s", error.status, error.detail)
        await self._client.publish(
            answers.problem(reply=reply, status=error.status, detail=error.detail)
        )

    async def _settle_refused(self, key: str, reply: ReplyTo, error: Refused) -> None:
        problem = answers.problem(reply=reply, status=error.status, detail=error.detail)
        await self._client.publish(problem)
        self._outbox.settle(key, problem)


def _check(pending: Pending) -> None:
    if pending.age_s > WINDOW_S:
        raise Refused(408, f"the device was down for {pending.age_s:.0f} s: ask again")
    if pending.starts > MAX_STARTS:
        raise Refused(
            500, f"the device went down {MAX_STARTS} times with this request: see its log"
        )
