"""The hands: jobs run, sent, answered and refused, as :mod:`edge_agent.core` decided.

What comes of an action comes back as an event, never within the call that began it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial

from msgspec import UNSET

from edge_agent import answers, work
from edge_agent.errors import LinkLost, PublishRefused, Refused, TooLarge, UplinkError
from edge_agent.events import (
    Answer,
    CloudAnswered,
    CloudFailed,
    Event,
    Forget,
    JobId,
    Part,
    Ran,
    Refuse,
    Run,
    RunFailed,
    Send,
    Settled,
)
from edge_agent.live import Live
from edge_agent.mqtt import MqttClient
from edge_agent.outbox import Outbox
from edge_agent.packets import Publication
from edge_agent.shelf import Shelf
from edge_agent.uplink import Answered, Uplink
from edge_agent.work import Ahead, Finished, Headed
from edge_agent.worker import Worker
from protos.errors import WireError
from protos.messages import Estimate, ModelRef, Placement

log = logging.getLogger(__name__)


class Hands:
    """Holds the live jobs.

    Args:
        client: where answers are published.
        outbox: where they are settled.
        shelf: the plans' pieces.
        worker: the thread that runs them.
        uplink: the cloud; None where none is configured.
        models: name, version and digest of each model.
        known: what is known of one at a time, for its answers.
        tell: takes the events that come of it.
        settled: called after each job that is over.
    """

    def __init__(  # noqa: PLR0913  its seams to the rest of the shell, each named
        self,
        *,
        client: MqttClient,
        outbox: Outbox,
        shelf: Shelf,
        worker: Worker,
        uplink: Uplink | None,
        models: Mapping[str, ModelRef],
        known: Callable[[str, float], Estimate],
        tell: Callable[[Event], None],
        settled: Callable[[], None],
    ) -> None:
        self._client = client
        self._outbox = outbox
        self._shelf = shelf
        self._worker = worker
        self._uplink = uplink
        self._models = models
        self._known = known
        self._tell = tell
        self._settled = settled
        self._live: dict[JobId, Live] = {}

    def take(self, live: Live) -> JobId:
        """Hold a new job."""
        id_ = JobId(live.key)
        self._live[id_] = live
        return id_

    def run(self, action: Run) -> None:
        """Have the worker run a part."""
        live = self._live[action.job]
        if live.pieces is None:
            live.pieces = self._shelf[action.model, action.plan]
        pieces = live.pieces
        call: Callable[[], Headed | Finished]
        match action.part:
            case Part.HEAD:
                call = partial(
                    work.head,
                    live.job,
                    pieces,
                    version=self._models[action.model].version,
                    plan=action.plan,
                    key=live.key,
                    due_s=live.due_s,
                    ahead=self._hopping(action.job, live) if action.chunked else None,
                )
            case Part.TAIL:
                assert live.headed is not None
                call = partial(work.tail, live.headed, pieces)
            case Part.WHOLE:
                call = partial(work.whole, live.job, pieces)
        self._worker.submit(call, partial(self._ran, action.job, live))

    def send(self, action: Send) -> None:
        """Send a head's output to the cloud, but for what was sent ahead."""
        live = self._live[action.job]
        assert self._uplink is not None
        assert live.headed is not None
        future = self._uplink.ask(live.key, live.headed.chunks)
        future.add_done_callback(partial(self._came, action.job, live))

    def forget(self, action: Forget) -> None:
        """Want no answer from the cloud any more."""
        if self._uplink is not None:
            self._uplink.forget(action.job)

    def answer(self, action: Answer) -> None:
        """Publish a job's answer."""
        live = self._pop(action.job)
        try:
            publication = self._written(live, action)
            live.followed = action.plan if action.undisturbed else None
        except Refused as error:
            log.error("answer not written: id=%s reason=%s", live.job.id, error)
            publication = _problem(live, error.status, error.detail)
        self._deliver(live, publication)

    def refuse(self, action: Refuse) -> None:
        """Publish why a job has no answer."""
        live = self._pop(action.job)
        log.info("job refused: id=%s status=%d", live.job.id, action.status)
        self._deliver(live, _problem(live, action.status, action.detail))

    def _pop(self, id_: JobId) -> Live:
        """Let go of a job that is over, and of what was sent ahead of one that nobody asked for."""
        if self._uplink is not None:
            self._uplink.forget(id_)
        return self._live.pop(id_)

    def _hopping(self, id_: JobId, live: Live) -> Ahead:
        """Give the worker's thread a way to send a chunk on the loop.

        The loop runs what a thread asks of it in the order it asks: every chunk comes before the
        worker's word that the head is done, and so before the request's last chunk is sent.
        """
        loop = asyncio.get_running_loop()

        def ahead(number: int, chunk: bytes) -> None:
            loop.call_soon_threadsafe(self._ahead, id_, live, number, chunk)

        return ahead

    def _ahead(self, id_: JobId, live: Live, number: int, chunk: bytes) -> None:
        if self._uplink is not None and self._live.get(id_) is live:  # else it was refused
            self._uplink.ahead(id_, number, chunk)

    def _written(self, live: Live, action: Answer) -> Publication:
        assert live.pieces is not None
        split = () if action.mode == "edge" else tuple(c.tensor for c in live.pieces.crossing)
        now_s = asyncio.get_running_loop().time()
        known = self._known(live.job.model, now_s)
        return answers.answer(
            id_=live.job.id,
            reply=live.reply,
            model=self._models[live.job.model],
            outputs=live.outputs,
            placement=Placement(
                mode=action.mode,
                plan=action.plan,
                split=split,
                estimate=UNSET if known == Estimate() else known,
            ),
            course=live.course(now_s),
            sent_bytes=live.sent_bytes,
            received_bytes=live.received_bytes,
        )

    def _deliver(self, live: Live, publication: Publication) -> None:
        """Publish, and only then settle: a crash in between has the job run again."""
        self._client.post(publication).add_done_callback(
            partial(self._delivered, live, publication)
        )

    def _delivered(
        self, live: Live, publication: Publication, future: asyncio.Future[None]
    ) -> None:
        if future.cancelled():
            return
        if isinstance(error := future.exception(), PublishRefused):
            log.error("answer refused: id=%s reason=%s", live.job.id, error)
            if isinstance(error, TooLarge) and publication.content_type != answers.PROBLEM_TYPE:
                live.followed = None
                self._deliver(live, _problem(live, 413, str(error)))
                return
        if not live.stored:
            self._client.ack(live.message)
        self._outbox.settle(live.key, publication)
        self._settled()
        if live.followed is not None and future.exception() is None:
            self._tell(self._taught(live, live.followed))

    def _taught(self, live: Live, plan: str) -> Settled:
        at_s = asyncio.get_running_loop().time()
        return Settled(
            model=live.job.model,
            plan=plan,
            took_s=at_s - live.message.received_s,
            travel_s=live.travel_s,
            wait_s=live.cloud.wait_s,
            at_s=at_s,
        )

    def _ran(
        self, id_: JobId, live: Live, done: Headed | Finished | None, error: Exception | None
    ) -> None:
        at_s = asyncio.get_running_loop().time()
        match done, error:
            case Headed(), _:
                live.headed = done
                self._tell(Ran(job=id_, took_s=done.work_s, at_s=at_s))
            case Finished(), _:
                live.finished = done
                self._tell(Ran(job=id_, took_s=done.work_s, at_s=at_s))
            case _, Refused(status=status, detail=detail):
                self._tell(RunFailed(job=id_, status=status, detail=detail, at_s=at_s))
            case _:
                log.error("job failed: id=%s error=%r", live.job.id, error, exc_info=error)
                detail = f"the device could not run the model: {error}"
                self._tell(RunFailed(job=id_, status=500, detail=detail, at_s=at_s))

    def _came(self, id_: JobId, live: Live, future: asyncio.Future[Answered]) -> None:
        if future.cancelled():
            return
        at_s = asyncio.get_running_loop().time()
        error = future.exception()
        if error is None:
            found = future.result()
            error = _unusable(live, found)
        if error is None:
            event: Event = CloudAnswered(
                job=id_,
                sends=tuple((found.received_s - sent_s, each) for sent_s, each in found.sends),
                nbytes=found.nbytes,
                cloud_s=live.cloud.total_s,
                wait_s=None if found.reply.timing is None else found.reply.timing.wait_s,
                waits=found.reply.waits,
                at_s=at_s,
            )
        else:
            log.warning("cloud failed a job: id=%s reason=%s", live.job.id, error)
            event = CloudFailed(job=id_, link_lost=isinstance(error, LinkLost), at_s=at_s)
        self._tell(event)


def _unusable(live: Live, found: Answered) -> UplinkError | None:
    """Keep the cloud's tensors, or say what is wrong with them; the device can still finish."""
    assert live.pieces is not None
    try:
        late = {tensor.name: tensor.array() for tensor in found.reply.outputs}
    except WireError as error:
        return UplinkError(f"its answer cannot be read: {error}")
    if missing := [name for name in live.pieces.late if name not in late]:
        return UplinkError(f"its answer lacks {', '.join(missing)}: is it the same version?")
    live.answered, live.late = found, {name: late[name] for name in live.pieces.late}
    return None


def _problem(live: Live, status: int, detail: str) -> Publication:
    return answers.problem(reply=live.reply, status=status, detail=detail, id_=live.job.id)
