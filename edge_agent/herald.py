"""The herald: what the agent makes known, to the broker and to ``isthmus edge status``."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import PublishRefused
from edge_agent.events import LinkDegraded, LinkRestored, PlanChanged, Report
from edge_agent.folder import ModelStatus, StatusFile
from edge_agent.mqtt import MqttClient
from edge_agent.packets import Publication
from edge_agent.presence import Presence
from edge_agent.state import AUTO, AgentState, Link
from protos import messages
from protos.documents import write_json
from protos.messages import (
    Desired,
    DesiredModel,
    HeldModel,
    ModelRef,
    Reported,
    encode,
)
from protos.topics import Topics

log = logging.getLogger(__name__)


class Herald:
    """Publishes what changed; *now* is what holds at that moment."""

    def __init__(
        self,
        *,
        client: MqttClient,
        topics: Topics,
        presence: Presence,
        models: Mapping[str, ModelRef],
        status_path: Path,
        boot: str,
        now: Callable[[], AgentState],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._client = client
        self._topics = topics
        self._presence = presence
        self._models = models
        self._status_path = status_path
        self._boot = boot
        self._now = now
        self._spawn = spawn
        self._reported: Report | None = None

    def greet(self) -> None:
        """Say all of it again: after each connection, for a broker forgets."""
        state = self._now()
        held = [self._held(name, state) for name in state.models]
        info = self._presence.info(
            held, v5=self._client.v5, max_payload_bytes=self._client.max_payload_bytes
        )
        self._publish(info, self._status(), self._report(self._last_report()))
        self.write_status()

    def link_degraded(self, _change: LinkDegraded) -> None:
        """Say that the cloud is out of reach."""
        log.warning("link degraded: jobs stay on the device")
        self._publish(self._event("link_degraded"), self._status())
        self.write_status()

    def link_restored(self, _change: LinkRestored) -> None:
        """Say that it is back."""
        log.info("link restored")
        self._publish(self._event("link_restored"), self._status())
        self.write_status()

    def plan_changed(self, change: PlanChanged) -> None:
        """Say that a model follows another plan."""
        log.info("plan changed: model=%s from=%s to=%s", change.model, change.before, change.plan)
        event = messages.PlanChanged(
            boot=self._boot,
            ts=datetime.now(UTC),
            model=change.model,
            before=change.before,
            plan=change.plan,
            estimate=self._now().known(change.model, asyncio.get_running_loop().time()),
        )
        topic = self._topics.event("plan_changed")
        self._publish(Publication(topic=topic, payload=encode(event)))
        self.write_status()

    def report(self, report: Report) -> None:
        """Say what is applied."""
        log.info(
            "desired %s: version=%d faults=%d", report.status, report.version, len(report.faults)
        )
        self._reported = report
        self._publish(self._report(report))
        self.write_status()

    def offline(self) -> Publication:
        """Make the goodbye."""
        return self._presence.offline()

    def write_status(self, *, state: str | None = None) -> None:
        """Write the file that ``isthmus edge status`` reads."""
        now = self._now()
        at_s = asyncio.get_running_loop().time()
        document = StatusFile(
            device=self._topics.device,
            pid=os.getpid(),
            boot=self._boot,
            state=state or self._state_word(now),
            link=now.link.value,
            bandwidth_bps=now.up_bps(at_s),
            rtt_s=now.estimate.rtt_s,
            applied_version=now.version,
            models=tuple(
                ModelStatus(
                    name=name,
                    version=self._models[name].version,
                    digest=self._models[name].digest,
                    plan=model.active,
                    pin=model.pin,
                    loaded=model.loaded,
                    known=now.known(name, at_s),
                )
                for name, model in now.models.items()
            ),
            ts=datetime.now(UTC).isoformat(),
        )
        try:
            write_json(self._status_path, document)
        except OSError as error:
            log.error("status not written: path=%s reason=%s", self._status_path, error.strerror)

    def _state_word(self, state: AgentState) -> str:
        if not self._client.connected:
            return "connecting"
        return "degraded" if state.link is Link.DOWN else "online"

    def _status(self) -> Publication:
        return self._presence.status(degraded=self._now().link is Link.DOWN)

    def _last_report(self) -> Report:
        return self._reported or Report(version=self._now().version, status="applied")

    def _report(self, report: Report) -> Publication:
        state = self._now()
        models = {
            name: DesiredModel(
                version=self._models[name].version,
                digest=self._models[name].digest,
                plan=None if model.pin == AUTO else model.pin,
            )
            for name, model in state.models.items()
        }
        reported = Reported(
            applied_version=report.version,
            status=report.status,
            errors=report.faults,
            config=Desired(version=state.version, models=models),
        )
        return Publication(topic=self._topics.reported, payload=encode(reported), retain=True)

    def _event(self, type_: str) -> Publication:
        body = {"boot": self._boot, "ts": datetime.now(UTC).isoformat()}
        return Publication(topic=self._topics.event(type_), payload=msgspec.json.encode(body))

    def _held(self, name: str, state: AgentState) -> HeldModel:
        ref = self._models[name]
        splits = tuple(
            plan for plan, way in state.models[name].options.ways.items() if way.kind == "split"
        )
        return HeldModel(
            name=name, version=ref.version, digest=ref.digest, role="full", splits=splits
        )

    def _publish(self, *publications: Publication) -> None:
        """Publish if there is a broker; if not, :meth:`greet` says what holds once there is."""
        if self._client.connected:
            self._spawn(self._in_turn(publications))

    async def _in_turn(self, publications: tuple[Publication, ...]) -> None:
        for publication in publications:
            try:
                await self._client.publish(publication)
            except PublishRefused as error:
                log.error("not published: topic=%s reason=%s", publication.topic, error)
