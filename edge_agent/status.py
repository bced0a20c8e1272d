"""What an agent on this machine last said of itself, and what is in its outbox."""

from pathlib import Path

from msgspec import Struct

from edge_agent import journal
from edge_agent.errors import AgentError
from edge_agent.folder import OUTBOX_FILE, STATUS_FILE, ModelStatus, StatusFile
from edge_agent.lock import is_locked
from protos.documents import read_json


class OutboxStatus(Struct, frozen=True, kw_only=True):
    """Requests without an answer, answers that are kept, and the bytes of both."""

    pending: int
    settled: int
    nbytes: int


class AgentStatus(Struct, frozen=True, kw_only=True):
    """*running* is certain; *said* is as old as its ``ts``."""

    running: bool
    said: StatusFile
    outbox: OutboxStatus | None


class NeverRan(AgentError):
    """No agent has run with this state folder."""

    exit_code = 1


def look(state_dir: Path) -> AgentStatus:
    """Look into the state folder of an agent, which may be running.

    Raises:
        NeverRan: nothing is there.
        DocumentError: the status file is not readable.
        OutboxError: the outbox is not readable.
    """
    path = state_dir / STATUS_FILE
    if not path.is_file():
        raise NeverRan(f"no agent has run with state_dir {state_dir}: start one, or name another")
    counts = journal.count(state_dir / OUTBOX_FILE)
    outbox = None
    if counts is not None:
        outbox = OutboxStatus(pending=counts.pending, settled=counts.settled, nbytes=counts.nbytes)
    return AgentStatus(
        running=is_locked(state_dir),
        said=read_json(path, StatusFile, what="status file"),
        outbox=outbox,
    )


def as_text(status: AgentStatus) -> str:
    """Write it for people."""
    said = status.said
    lines = [
        f"{said.device}: {said.state if status.running else 'not running'} (said at {said.ts})",
        f"  link {said.link}{_figures(said)}, desired version {said.applied_version}",
    ]
    lines += [
        f"  {model.name} {model.version}: follows {model.plan} (pin {model.pin}){_learnt(model)}"
        for model in said.models
    ]
    if status.outbox is not None:
        outbox = status.outbox
        lines.append(
            f"  outbox: {outbox.pending} pending, {outbox.settled} answered, {outbox.nbytes} bytes"
        )
    return "\n".join(lines)


def _learnt(model: ModelStatus) -> str:
    known = model.known
    parts = [
        f"{name} {seconds * 1e3:.0f} ms"
        for name, seconds in (
            ("waits in the cloud", known.wait_s),
            ("software around a local request", known.local_s),
            ("around a sent one", known.remote_s),
        )
        if seconds is not None
    ]
    return f"; learnt: {', '.join(parts)}" if parts else ""


def _figures(said: StatusFile) -> str:
    parts = []
    if said.bandwidth_bps is not None:
        parts.append(f"{said.bandwidth_bps * 8 / 1e6:.2f} Mbps")
    if said.rtt_s is not None:
        parts.append(f"{said.rtt_s * 1e3:.0f} ms")
    return f" ({', '.join(parts)})" if parts else ""
