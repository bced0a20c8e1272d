"""What the agent knows, as one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from math import inf

from edge_agent.adapt import LinkEstimate
from edge_agent.events import JobId, Part
from edge_agent.experience import Experience
from edge_agent.options import Options, Way
from protos.messages import Estimate

AUTO = "auto"
"""The pin of a model whose plan follows the link."""


class Link(Enum):
    """What is thought of the way to the cloud."""

    NONE = "none"
    """No cloud is configured."""
    UP = "up"
    DOUBTED = "doubted"
    """Something went wrong or nothing is known yet; a probe will tell, and until then all stay."""
    DOWN = "down"


class Stage(Enum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    """Its ``part`` is with the worker."""
    AWAY = "away"
    """In the cloud, or on the way."""
    BOUNDARY = "boundary"
    """Its head ran, the cloud won't finish it, and it waits for the worker to run the tail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One accepted request; *plan* and what follows are set when it begins.

    It is *alone* if no other was held at any time since it came: only then does its time tell what
    the software takes. *chunked*: its head is sent while it is computed.
    """

    id: JobId
    model: str
    arrived_s: float
    due_s: float
    stage: Stage = Stage.QUEUED
    plan: str = ""
    part: Part | None = None
    chunked: bool = False
    fallback: bool = False
    give_up_s: float = inf
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """One model: the plan it follows, the plans whose pieces are in memory (latest first)."""

    options: Options
    active: str
    configured_pin: str = AUTO
    pin: str = AUTO
    loaded: tuple[str, ...] = ()
    loading: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()
    experience: Experience = field(default_factory=Experience)

    def way(self, plan: str) -> Way:
        """The plan *plan* as the agent weighs it."""
        return self.options.ways[plan]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """When the cloud is asked for a sign of life."""

    next_s: float = 0.0
    under_way: bool = False
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A desired document that waits for its pieces; pins are complete, a model each."""

    version: int
    pins: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """Everything that decisions depend on; *busy* is the job that holds the worker."""

    link: Link
    models: Mapping[str, ModelState]
    estimate: LinkEstimate = field(default_factory=LinkEstimate)
    probing: Probing = field(default_factory=Probing)
    jobs: Mapping[JobId, Job] = field(default_factory=dict)
    busy: JobId | None = None
    version: int = 0
    wanted: Wanted | None = None

    def with_job(self, job: Job) -> "AgentState":
        """Put *job* in the place of its earlier self."""
        return replace(self, jobs={**self.jobs, job.id: job})

    def without_job(self, id_: JobId) -> "AgentState":
        """Leave job *id_* out."""
        return replace(self, jobs={key: job for key, job in self.jobs.items() if key != id_})

    def with_model(self, name: str, model: ModelState) -> "AgentState":
        """Put *model* in the place of its earlier self."""
        return replace(self, models={**self.models, name: model})

    def up_bps(self, at_s: float) -> float | None:
        """The link's bandwidth in bytes per second as far as it is known."""
        return self.estimate.bandwidth_bps(at_s)

    def known(self, name: str, at_s: float) -> Estimate:
        """What was measured that the choice of a plan for the model *name* depends on."""
        model = self.models[name]
        experience, document = model.experience, model.options.document
        assumed_bps = None if document is None else document.link.up_bps
        return Estimate(
            up_bps=self.estimate.bandwidth_bps(at_s, assumed_bps=assumed_bps),
            rtt_s=self.estimate.rtt_s,
            wait_s=experience.wait_s(at_s),
            local_s=experience.local_s,
            remote_s=experience.remote_s,
            pace=experience.pace if experience.paces else None,
        )
