"""What the shell holds of one job: its request, its pieces, and the course it took."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.account import Away, Course
from edge_agent.intake import InferJob, ReplyTo
from edge_agent.packets import Message
from edge_agent.shelf import Pieces
from edge_agent.uplink import Answered
from edge_agent.work import Finished, Headed
from protos.tensors import Array
from protos.timing import Timing


@dataclass(slots=True, kw_only=True)
class Live:
    """One job from its acceptance until its answer is settled.

    *key* is its entry in the outbox; *stored* turns true when that is on disk, and *message* can be
    acknowledged from then on. *late* are the tensors of what the cloud *answered*. *followed* is
    the plan, once an undisturbed job is answered.
    """

    key: str
    job: InferJob
    reply: ReplyTo
    message: Message
    due_s: float
    stored: bool = False
    pieces: Pieces | None = None
    headed: Headed | None = None
    finished: Finished | None = None
    answered: Answered | None = None
    late: Mapping[str, Array] | None = None
    followed: str | None = None

    @property
    def outputs(self) -> Mapping[str, Array]:
        """The answer's tensors: the device's own, or the cloud's with those the head had made."""
        if self.finished is not None:
            return self.finished.outputs
        assert self.headed is not None
        assert self.late is not None
        return {**self.headed.early, **self.late}

    @property
    def sent_bytes(self) -> int:
        """The tensors' bytes that were sent, whether an answer came or not."""
        return 0 if self.headed is None else self.headed.sent_bytes

    @property
    def received_bytes(self) -> int:
        """The tensors' bytes that came back."""
        if self.answered is None:
            return 0
        return sum(len(tensor.data) for tensor in self.answered.reply.outputs)

    @property
    def cloud(self) -> Timing:
        """What the cloud says of its own time; nothing if it was not asked."""
        return (None if self.answered is None else self.answered.reply.timing) or Timing()

    @property
    def travel_s(self) -> float:
        """How long the request was away, from the head's end on, and not in the cloud."""
        if self.answered is None:
            return 0.0
        return max(0.0, self.answered.received_s - self.answered.sent_s - self.cloud.total_s)

    def course(self, done_s: float) -> Course:
        """Give the course as far as :func:`edge_agent.account.account` wants it."""
        parts = [part for part in (self.headed, self.finished) if part is not None]
        away = None
        if self.finished is None and self.answered is not None:
            assert self.headed is not None
            away = Away(
                sent_s=self.answered.sent_s,
                received_s=self.answered.received_s,
                sent_bytes=self.headed.request_bytes,
                received_bytes=self.answered.nbytes,
                cloud=self.cloud,
            )
        return Course(
            received_s=self.message.received_s,
            begun_s=parts[0].begun_s,
            pre_s=sum(part.pre_s for part in parts),
            work_s=sum(part.work_s for part in parts),
            done_s=done_s,
            away=away,
        )
