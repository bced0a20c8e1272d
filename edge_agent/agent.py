"""The agent's shell: it does what :mod:`edge_agent.core` decides, and tells it what came of it.

One loop; one worker thread (an inference at a time); one thread for the disk; pieces are loaded in
a thread of their own while the worker goes on. An action that takes long comes back as an event.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from edge_agent import core, desired
from edge_agent.deployment import deployments
from edge_agent.desired import LastGood
from edge_agent.desk import Desk, Rules
from edge_agent.errors import PublishRefused
from edge_agent.events import (
    Action,
    Answer,
    DesiredArrived,
    Event,
    Forget,
    JobArrived,
    LinkDegraded,
    LinkRestored,
    Load,
    LoadFailed,
    PiecesLoaded,
    PlanChanged,
    Probe,
    Probed,
    Reconnect,
    Refuse,
    Report,
    Run,
    Save,
    Send,
    Tick,
    Unload,
    UplinkBroke,
)
from edge_agent.hands import Hands
from edge_agent.herald import Herald
from edge_agent.live import Live
from edge_agent.mqtt import MqttClient
from edge_agent.outbox import Outbox, Pending
from edge_agent.presence import Presence
from edge_agent.session import Settings
from edge_agent.shelf import Shelf
from edge_agent.state import AgentState
from edge_agent.uplink import Uplink
from edge_agent.worker import Worker
from planner.errors import PlannerError
from planner.plans import Plan
from protos.messages import Estimate, ModelRef

log = logging.getLogger(__name__)

FIRST_PROBE_S = 1.0
STOP_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an agent is put together from; see :func:`edge_agent.compose.compose`."""

    rules: Rules
    mqtt: Settings
    cloud: tuple[str, str | None] | None
    models: Mapping[str, ModelRef]
    plans: Mapping[tuple[str, str], Plan | None]
    shelf: Shelf
    outbox: Outbox
    last_good: LastGood
    presence: Presence
    status_path: Path
    drain_s: float
    state: AgentState


class Agent:
    """One device's agent; :meth:`run` is its life."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._state = parts.state
        self._timer: asyncio.TimerHandle | None = None
        self._due_s: float | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._ready = asyncio.Event()
        self._probed = asyncio.Event()
        self._crash: asyncio.Queue[Exception] = asyncio.Queue()
        self._worker = Worker("agent.work")
        self._client = MqttClient(parts.mqtt, on_connected=self._connected)
        self._uplink = self._made_uplink()
        self._desk = Desk(
            parts.rules,
            client=self._client,
            outbox=parts.outbox,
            begin=self._begin,
            desire=self._desire,
        )
        self._hands = Hands(
            client=self._client,
            outbox=parts.outbox,
            shelf=parts.shelf,
            worker=self._worker,
            uplink=self._uplink,
            models=parts.models,
            known=self._known,
            tell=self._handle,
            settled=self._desk.done,
        )
        self._herald = Herald(
            client=self._client,
            topics=parts.rules.topics,
            presence=parts.presence,
            models=parts.models,
            status_path=parts.status_path,
            boot=parts.rules.boot,
            now=lambda: self._state,
            spawn=self._spawn,
        )

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Serve until *stop* is set, then finish what was accepted.

        *on_ready* is called once requests are taken. A task that fails takes the agent down with
        it: systemd restarts a dead agent, nobody restarts a deaf one.
        """
        self._worker.start()
        try:
            pending = await self._parts.outbox.open()
            async with asyncio.TaskGroup() as self._tasks:
                self._spawn(self._client.run())
                self._spawn(self._fail_with_callbacks())
                if self._uplink is not None:
                    self._spawn(self._uplink.run())
                    await self._first_probe()
                if (document := self._parts.last_good.load()) is not None:
                    self._desired(document)
                self._spawn(self._replay(pending))
                intake = self._spawn(self._desk.run())
                await _first(self._ready, stop)
                if self._ready.is_set():
                    on_ready()
                await stop.wait()
                intake.cancel()  # 1. accept nothing new
                await self._drain()  # 2. finish what was accepted
                for task in tuple(self._running):  # 3. cut off the rest
                    task.cancel()
        finally:
            self._tasks = None
            self._wake_at(None)
            await self._client.close()
            self._herald.write_status(state="offline")
            if not await self._worker.stop(STOP_LIMIT_S):
                log.warning("worker still busy: it ends with the process")
            await self._parts.outbox.close()

    # Deciding and doing -----------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        """Decide and do; called by callbacks, whose exceptions asyncio would only log."""
        try:
            self._state, actions = core.step(self._state, event)
            for action in actions:
                self._perform(action)
            self._wake_at(core.due_s(self._state))
        except Exception as error:  # noqa: BLE001  it ends the agent, in _fail_with_callbacks
            self._crash.put_nowait(error)

    def _perform(self, action: Action) -> None:  # noqa: C901, PLR0912  one case an action
        match action:
            case Run():
                self._hands.run(action)
            case Send():
                self._hands.send(action)
            case Forget():
                self._hands.forget(action)
            case Answer():
                self._hands.answer(action)
            case Refuse():
                self._hands.refuse(action)
            case Probe(limit_s=limit_s):
                self._spawn(self._probe(limit_s))
            case Reconnect():
                if self._uplink is not None:
                    self._uplink.reconnect()
            case Load():
                self._spawn(self._load(action))
            case Unload(model=model, plan=plan):
                self._parts.shelf.unload(model, plan)
            case LinkDegraded():
                self._herald.link_degraded(action)
            case LinkRestored():
                self._herald.link_restored(action)
            case PlanChanged():
                self._herald.plan_changed(action)
            case Save(version=version, pins=pins):
                self._parts.last_good.save(version, pins)
            case Report():
                self._herald.report(action)
            case _:
                assert_never(action)

    def _wake_at(self, due_s: float | None) -> None:
        if due_s == self._due_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due_s, self._timer = due_s, None
        if due_s is not None:
            self._timer = asyncio.get_running_loop().call_at(due_s, self._tick)

    def _tick(self) -> None:
        self._due_s = None
        self._handle(Tick(at_s=self._now_s()))

    async def _probe(self, limit_s: float) -> None:
        assert self._uplink is not None
        rtt_s = await self._uplink.probe(limit_s)
        self._handle(Probed(rtt_s=rtt_s, at_s=self._now_s()))
        self._probed.set()

    async def _load(self, action: Load) -> None:
        key = (action.model, action.plan)
        try:
            await asyncio.to_thread(self._parts.shelf.load, *key, self._parts.plans[key])
        except PlannerError as error:
            log.error("plan not loaded: model=%s plan=%s reason=%s", *key, error)
            at_s = self._now_s()
            self._handle(
                LoadFailed(model=action.model, plan=action.plan, detail=str(error), at_s=at_s)
            )
        else:
            self._handle(PiecesLoaded(model=action.model, plan=action.plan, at_s=self._now_s()))

    # What happens -----------------------------------------------------------------------------

    def _begin(self, live: Live) -> None:
        job = self._hands.take(live)
        self._handle(
            JobArrived(job=job, model=live.job.model, due_s=live.due_s, at_s=self._now_s())
        )

    def _connected(self) -> None:
        self._ready.set()
        self._herald.greet()

    def _broken(self) -> None:
        self._handle(UplinkBroke(at_s=self._now_s()))

    def _desire(self, payload: bytes) -> None:
        try:
            self._desired(desired.read(payload))
        except desired.Unreadable as error:
            version = self._state.version
            self._herald.report(Report(version=version, status="rejected", faults=(error.fault,)))

    def _desired(self, document: desired.DesiredPlans) -> None:
        self._handle(
            DesiredArrived(
                version=document.version,
                pins=desired.pins_of(document),
                faults=desired.mismatches(document, self._parts.models),
                at_s=self._now_s(),
            )
        )

    async def _first_probe(self) -> None:
        """Know the link before the first request, if it can be known soon."""
        self._handle(Tick(at_s=self._now_s()))
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PROBE_S):
                await self._probed.wait()

    async def _replay(self, pending: tuple[Pending, ...]) -> None:
        if pending:
            log.info("answering what a crash left behind: requests=%d", len(pending))
        for each in pending:
            await self._desk.replay(each)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._parts.drain_s):
                await self._desk.idle.wait()
        except TimeoutError:
            log.warning("gave up draining: requests=%d, kept for the next start", self._desk.held)
        if self._client.connected:
            with suppress(TimeoutError, PublishRefused):
                async with asyncio.timeout(STOP_LIMIT_S):
                    await self._client.publish(self._herald.offline())

    async def _fail_with_callbacks(self) -> None:
        raise await self._crash.get()

    # ------------------------------------------------------------------------------------------

    def _known(self, name: str, at_s: float) -> Estimate:
        return self._state.known(name, at_s)

    def _made_uplink(self) -> Uplink | None:
        if self._parts.cloud is None:
            return None
        address, key = self._parts.cloud
        return Uplink(
            address,
            key=key,
            on_broken=self._broken,
            deployments=deployments(self._parts.models, self._parts.plans),
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._tasks is not None
        name = getattr(work, "__name__", "task").strip("_")
        task = self._tasks.create_task(work, name=f"agent.{name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()


async def _first(*events: asyncio.Event) -> None:
    """Wait until one of *events* is set."""
    waits = [asyncio.create_task(event.wait(), name="agent.first") for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
