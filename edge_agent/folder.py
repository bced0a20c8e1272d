"""The state folder: its files, and the status that an agent leaves in it."""

from msgspec import Struct

from protos.messages import Estimate

OUTBOX_FILE = "outbox.sqlite"
DESIRED_FILE = "desired.json"
STATUS_FILE = "status.json"
LOCK_FILE = "lock"


class ModelStatus(Struct, frozen=True, kw_only=True):
    """One model: the plan it follows, its pin, the plans whose pieces are in memory.

    *known* is what its requests have taught, and the link's figures.
    """

    name: str
    version: str
    digest: str
    plan: str
    pin: str
    loaded: tuple[str, ...]
    known: Estimate = Estimate()


class StatusFile(Struct, frozen=True, kw_only=True):
    """What an agent last said about itself."""

    device: str
    pid: int
    boot: str
    state: str
    link: str
    bandwidth_bps: float | None
    rtt_s: float | None
    applied_version: int
    models: tuple[ModelStatus, ...]
    ts: str
