"""What happens to the agent, and what it decides to do about it.

Times (``at_s``, ``due_s``) are seconds on the shell's one monotonic clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NewType

from protos.messages import Fault
from protos.timing import Waits

JobId = NewType("JobId", str)
Mode = Literal["edge", "split", "cloud", "fallback"]


class Part(Enum):
    """What the device computes of a job in one go."""

    HEAD = "head"
    """From the sensor's message to the crossing, encoded for the uplink."""
    TAIL = "tail"
    """From the crossing to the answer."""
    WHOLE = "whole"
    """From the sensor's message to the answer."""


# What happens ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArrived:
    """A request was accepted; its answer is due at *due_s*."""

    job: JobId
    model: str
    due_s: float
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """The worker finished a part."""

    job: JobId
    took_s: float
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed:
    """The worker could not run a part: the request is at fault (*status* 400) or we are (500)."""

    job: JobId
    status: int
    detail: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudAnswered:
    """The cloud's answer of *nbytes* came; *cloud_s* of the time away it says were its own.

    *sends* are the messages that asked for it, in order: the seconds from handing it over until the
    answer, and its bytes. *wait_s* of the cloud's time passed before it began with the inference,
    and *waits* are those of everybody's requests lately; None if it does not say.
    """

    job: JobId
    sends: tuple[tuple[float, int], ...]
    nbytes: int
    cloud_s: float
    at_s: float
    wait_s: float | None = None
    waits: Waits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The broker has the answer of a job that ran undisturbed, *took_s* after its request came.

    *travel_s* of them it was on the link, and *wait_s* it waited in the cloud.
    """

    model: str
    plan: str
    took_s: float
    travel_s: float
    wait_s: float
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudFailed:
    """The cloud gave no answer; *link_lost* when it was not even reached."""

    job: JobId
    link_lost: bool
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkBroke:
    """The connection to the cloud ended while nobody waited for anything."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A probe came back after *rtt_s*, or not at all (None)."""

    rtt_s: float | None
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecesLoaded:
    """The pieces that *plan* needs are there."""

    model: str
    plan: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailed:
    """They could not be loaded."""

    model: str
    plan: str
    detail: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredArrived:
    """A desired document: for each model it names, the plan's id or ``auto``.

    *faults* are what reading it found wrong.
    """

    version: int
    pins: Mapping[str, str]
    faults: tuple[Fault, ...] = ()
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The time that :func:`edge_agent.core.due_s` asked to be woken at."""

    at_s: float


Event = (
    JobArrived
    | Ran
    | RunFailed
    | CloudAnswered
    | Settled
    | CloudFailed
    | UplinkBroke
    | Probed
    | PiecesLoaded
    | LoadFailed
    | DesiredArrived
    | Tick
)


# What to do about it --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Have the worker compute a part; exactly one :class:`Ran` or :class:`RunFailed` follows.

    *chunked*: what a head has ready is sent while the rest of it is computed.
    """

    job: JobId
    model: str
    plan: str
    part: Part
    chunked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send what was not sent yet of the head's output.

    :class:`CloudAnswered` or :class:`CloudFailed` may follow.
    """

    job: JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Drop the cloud's answer if it comes after all."""

    job: JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Publish the answer; the job is over.

    If it was *undisturbed*, :class:`Settled` follows once the broker has the answer.
    """

    job: JobId
    plan: str
    mode: Mode
    undisturbed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Publish a problem document; the job is over."""

    job: JobId
    status: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Ask the cloud for a sign of life; :class:`Probed` follows within *limit_s*."""

    limit_s: float


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Replace the connection to the cloud: TCP may take minutes to notice that a dead one lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Load the pieces of *plan*; :class:`PiecesLoaded` or :class:`LoadFailed` follows."""

    model: str
    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unload:
    """Give the memory of *plan*'s pieces back."""

    model: str
    plan: str


@dataclass(frozen=True, slots=True)
class LinkDegraded:
    """Tell the world that the cloud is out of reach."""


@dataclass(frozen=True, slots=True)
class LinkRestored:
    """Tell the world that it is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChanged:
    """Tell the world that *model* follows another plan."""

    model: str
    before: str
    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Keep the desired pins for the next start."""

    version: int
    pins: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Publish what is applied."""

    version: int
    status: Literal["applied", "applying", "rejected"]
    faults: tuple[Fault, ...] = ()


Action = (
    Run
    | Send
    | Forget
    | Answer
    | Refuse
    | Probe
    | Reconnect
    | Load
    | Unload
    | LinkDegraded
    | LinkRestored
    | PlanChanged
    | Save
    | Report
)
