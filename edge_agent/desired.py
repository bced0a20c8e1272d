"""The desired document: what of it this agent can do, read strictly, and the last good one kept."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from edge_agent.errors import AgentError
from edge_agent.state import AUTO
from protos.documents import DocumentError, decode_json, write_json
from protos.messages import Fault, ModelRef

log = logging.getLogger(__name__)

Version = Annotated[int, Meta(ge=1)]


class DesiredPin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's plan. *version* and *digest*, where given, must be those that are here."""

    plan: str = AUTO
    version: str | None = None
    digest: str | None = None


class DesiredPlans(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole document; a model that is left out goes back to its configured pin."""

    version: Version
    models: dict[str, DesiredPin] = {}


class Unreadable(AgentError):
    """A desired document that can't be read; *fault* says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


def read(payload: bytes) -> DesiredPlans:
    """Read a document.

    Raises:
        Unreadable: it is no JSON, or has a field that this agent does not know or can't take.
    """
    try:
        return decode_json(payload, DesiredPlans, what="desired document")
    except (DocumentError, RecursionError) as error:
        raise Unreadable(Fault(path="", code="malformed", msg=str(error))) from error


def pins_of(document: DesiredPlans) -> dict[str, str]:
    """Each model's pin."""
    return {name: pin.plan for name, pin in document.models.items()}


def mismatches(document: DesiredPlans, held: Mapping[str, ModelRef]) -> tuple[Fault, ...]:
    """Where the document speaks of another version or digest than the ones here."""
    faults = []
    for name, pin in document.models.items():
        ref = held.get(name)
        if ref is None:
            continue  # the core says so
        for field, asked, here in (
            ("version", pin.version, ref.version),
            ("digest", pin.digest, ref.digest),
        ):
            if asked is not None and asked.removeprefix("sha256:") != here:
                msg = f"{name} is here with {field} {here}: ask for that, or install the other"
                faults.append(
                    Fault(path=f"models.{name}.{field}", code=f"{field}_mismatch", msg=msg)
                )
    return tuple(faults)


class LastGood:
    """The last desired pins that were applied, for a start without a broker."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, version: int, pins: Mapping[str, str]) -> None:
        """Keep the pins; a disk that is full costs the memory of them, not the service."""
        models = {name: DesiredPin(plan=plan) for name, plan in pins.items()}
        try:
            write_json(self._path, DesiredPlans(version=version, models=models))
        except OSError as error:
            log.error("desired not saved: path=%s reason=%s", self._path, error.strerror)

    def load(self) -> DesiredPlans | None:
        """Give the last pins; a corrupt file is moved aside, so that it can't stop every start."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.error("desired not read: path=%s reason=%s", self._path, error.strerror)
            return None
        try:
            return read(data)
        except Unreadable as error:
            aside = self._path.with_suffix(".corrupt")
            self._path.replace(aside)
            log.error("desired corrupt: moved_to=%s reason=%s", aside, error.fault.msg)
            return None
