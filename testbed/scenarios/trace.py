"""``isthmus testbed run trace``: an agent that follows its plan table along a drive.

The whole way with real parts, over a link that follows a recorded trace: one request after the
other, no plan pinned. The picture itself may not leave the device, so that there are several plans
to change between. Each change is held against the plan table as it was at that moment's estimate.
"""

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import msgspec

from edge_agent.options import HYSTERESIS
from edge_agent.table import fixed_s, named, redrawn
from planner import plan, read
from planner.chunks import Chunk
from planner.links import Link, parse_link
from planner.plans import Plan, PlanDocument, write_plan
from planner.profiles import read_profile
from planner.traces import PACKET_BYTES, Trace, read_trace, write_trace
from protos.messages import Estimate, PlanChanged
from testbed import models
from testbed.app import Answered, App
from testbed.device import Device
from testbed.drives import carried_s, drive
from testbed.processes import Processes
from testbed.scenarios.demo import BUDGET_S, COLD_BUDGET_S, MODEL, STEPS
from testbed.scenarios.stage import Published, Say, Stage

CODECS = ("raw", "raw+zstd", "int8+zstd")
WARM_UPS = 2
SEED = 4
WINDOW_S = 1.0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request, *at_s* into the trace; ``trace_mbps`` is over the second around it.

    ``estimate_mbps`` is the device's by the time of its answer.
    """

    at_s: float
    trace_mbps: float
    estimate_mbps: float
    plan: str
    mode: str
    ms: float
    right: bool


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of plan. ``breakpoint_mbps`` is the end that was passed of the range left.

    It is None where none was: right if the table had come to name that plan at no bandwidth, else
    wrong. ``right``: the breakpoint was passed by the hysteresis, and the plan is the one of least
    predicted latency.
    """

    at_s: float
    before: str
    after: str
    estimate_mbps: float
    breakpoint_mbps: float | None
    right: bool


class Fixed(msgspec.Struct, frozen=True, kw_only=True):
    """What one plan alone would have taken, predicted for the moments at which we asked."""

    plan: str
    median_ms: float
    mean_ms: float


class TraceResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found, as one document; bandwidths in Mbps.

    ``table`` is the planner's: each plan with the bandwidth from which it is the best. ``measured``
    is what the plans that were followed took, ``predicted`` and ``alone`` what they and each plan
    should take at the trace's bandwidth, by what the device knew at the time. ``learnt`` is what it
    knew at the end.
    """

    schema: str = "isthmus.trace/1"
    model: str
    trace: str
    device: str
    broker: str
    table: tuple[tuple[str, float], ...]
    asked: tuple[Asked, ...]
    changes: tuple[Change, ...]
    learnt: Estimate
    measured: Fixed
    predicted: Fixed
    alone: tuple[Fixed, ...]
    left_running: tuple[str, ...]

    @property
    def all_right(self) -> bool:
        """Every answer and every change right, and nothing left behind."""
        verdicts = [asked.right for asked in self.asked] + [each.right for each in self.changes]
        return all(verdicts) and not self.left_running


def run_trace(
    path: Path | None,
    *,
    seconds: float,
    speed: float,
    mqtt_url: str | None,
    keep: Path | None,
    say: Say,
) -> TraceResult:
    """Play it through.

    Args:
        path: a trace in Mahimahi's format, of what goes up; None makes one up.
        seconds: how long to ask.
        speed: the device's speed relative to one core of this machine.
        mqtt_url: a broker that is there already, or None to start one.
        keep: a folder for logs, profiles and plans; None throws them away.
        say: told what is being done.
    """
    published = Published(name=MODEL, real=models.find(MODEL), steps=STEPS)
    folder = keep or Path(tempfile.mkdtemp(prefix="isthmus-trace-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if path is None:
            path = folder / "made-up.up"
            write_trace(drive(SEED, seconds=max(1, round(seconds))), path)
        link = parse_link(str(path))
        steady = dataclasses.replace(link, trace=None, down_trace=None)
        with Processes(folder) as processes, Device(fraction=speed) as device:
            stage = Stage(processes, published, steady, device, mqtt_url=mqtt_url, say=say)
            with stage:
                result = _Drive(stage, link, path, say).play(seconds)
        left = tuple(f"{each.pid} {each.command}" for each in processes.left_running())
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return msgspec.structs.replace(result, left_running=left)


class _Drive:
    """The scenario's acts, on a stage whose link is steady until the drive begins."""

    def __init__(self, stage: Stage, link: Link, path: Path, say: Say) -> None:
        self._stage = stage
        self._link = link
        self._path = path
        self._say = say
        self._pages = models.page_rotations()
        self._desired = 0

    def play(self, seconds: float) -> TraceResult:
        stage = self._stage
        (stage.folder / "sample.jpg").write_bytes(self._pages[0][1])
        document = self._plan()
        self._say("starting link and agent")
        stage.start_agent(stage.start_link(), stage.folder / "plan.json")
        with App(stage.broker.url, stage.topics, v5="amqtt" not in stage.broker.how) as self._app:
            self._warm_up(document)
            began, answers = self._follow(seconds)
            changes = [each for each in self._app.changes if each[0] >= began]
        return self._result(document, began, answers, changes)

    def _result(
        self,
        document: PlanDocument,
        began: float,
        answers: Sequence[tuple[float, int, Answered]],
        changes: Sequence[tuple[float, PlanChanged]],
    ) -> TraceResult:
        trace = read_trace(self._path)

        def expected(name: str, plans: Sequence[str]) -> Fixed:
            return _figures(
                name,
                [
                    _expected_s(document.plan(plan), document, each.estimate, trace, at_s)
                    for plan, (at_s, _, each) in zip(plans, answers, strict=True)
                ],
            )

        followed = [each.result.placement.plan for _, _, each in answers]
        on_table = dict.fromkeys(each.plan for each in document.table)
        return TraceResult(
            model=MODEL,
            trace=self._path.name,
            device=self._stage.device.how,
            broker=self._stage.broker.how,
            table=tuple((each.plan, _mbps(each.from_bps)) for each in document.table),
            asked=tuple(_asked(at_s, degrees, each, trace) for at_s, degrees, each in answers),
            changes=tuple(_judged(document, at - began, change) for at, change in changes),
            learnt=answers[-1][2].estimate,
            measured=_figures("measured", [each.seconds for _, _, each in answers]),
            predicted=expected("predicted", followed),
            alone=tuple(expected(name, [name] * len(answers)) for name in on_table),
            left_running=(),
        )

    def _plan(self) -> PlanDocument:
        stage, published = self._stage, self._stage.published
        cloud = read_profile(stage.profile())
        stage.start_cloud()
        model = read(published.real.path, steps=published.steps, dims=published.real.dims)
        device = cloud.scaled(stage.device.fraction if stage.device.slowed else 1.0)
        document = plan(model, device, cloud, self._link, raw_input_may_leave=False, codecs=CODECS)
        write_plan(document, stage.folder / "plan.json")
        self._say(
            "plan table: "
            + ", ".join(f"{each.plan} from {_mbps(each.from_bps)} Mbps" for each in document.table)
        )
        return document

    def _warm_up(self, document: PlanDocument) -> None:
        """Follow each plan for a moment, so that its parts are loaded, and then none by order."""
        self._say("warming up each plan of the table")
        for name in dict.fromkeys(each.plan for each in document.table):
            self._pin(document, name)
            self._ask(0, timeout_s=COLD_BUDGET_S)
            for _ in range(WARM_UPS):
                self._ask(0)
        self._pin(document, None)

    def _follow(self, seconds: float) -> tuple[float, list[tuple[float, int, Answered]]]:
        """Ask along the trace: when it began, and each answer with its time in it and its truth."""
        self._say(f"following {self._path.name} for {seconds:g} s")
        self._stage.control.set(link=f"{self._path},{self._link.rtt_s * 1e3:g}ms")
        began, answers = time.perf_counter(), list[tuple[float, int, Answered]]()
        while (at_s := time.perf_counter() - began) < seconds or not answers:
            turn = len(answers) % len(self._pages)
            answers.append((at_s, self._pages[turn][0], self._ask(turn)))
        return began, answers

    def _ask(self, turn: int, *, timeout_s: float = BUDGET_S) -> Answered:
        page = self._pages[turn][1]
        return self._app.ask(MODEL, page, timeout_s=timeout_s, limit_s=2 * timeout_s)

    def _pin(self, document: PlanDocument, name: str | None) -> None:
        self._desired += 1
        wanted = {"version": "1", "digest": document.digest}
        if name is not None:
            wanted["plan"] = name
        self._app.desire(self._desired, {MODEL: wanted}, limit_s=30.0)


def judge(document: PlanDocument, change: PlanChanged) -> tuple[float | None, bool]:
    """The breakpoint that *change* passed (bytes per second), and whether it was right.

    The table is drawn as the agent draws it; that the plan is the best is priced anew, by the
    planner's own sum.
    """
    known = change.estimate
    if known.up_bps is None:
        return None, False
    table = redrawn(document, known)
    best = min(
        (each for each in document.plans if not each.refused),
        key=lambda each: _total_s(each, document, known),
    )
    is_best = _total_s(best, document, known) >= 0.999 * _total_s(
        document.plan(change.plan), document, known
    )
    right = is_best and named(table, known.up_bps) == change.plan
    left = next((each for each in table if each.plan == change.before), None)
    if left is None:
        return None, right
    if known.up_bps >= left.to_bps:
        return left.to_bps, right and known.up_bps >= left.to_bps * (1 + HYSTERESIS)
    if known.up_bps < left.from_bps:
        return left.from_bps, right and known.up_bps * (1 + HYSTERESIS) < left.from_bps
    return None, False


def _judged(document: PlanDocument, at_s: float, change: PlanChanged) -> Change:
    breakpoint_bps, right = judge(document, change)
    return Change(
        at_s=round(at_s, 2),
        before=change.before,
        after=change.plan,
        estimate_mbps=_mbps(change.estimate.up_bps or 0.0),
        breakpoint_mbps=None if breakpoint_bps is None else _mbps(breakpoint_bps),
        right=right,
    )


def _total_s(each: Plan, document: PlanDocument, known: Estimate) -> float:
    """The planner's sum, with what is known in the place of what was planned."""
    link, paced = document.link, _paced(each, known)
    overhead_s = known.remote_s if each.remote else known.local_s
    found = msgspec.structs.replace(
        paced,
        overhead_s=each.overhead_s if overhead_s is None else overhead_s,
        wait_s=known.wait_s if each.remote and known.wait_s is not None else each.wait_s,
    )
    rtt_s = link.rtt_s if known.rtt_s is None else known.rtt_s
    return found.total_s(known.up_bps or link.up_bps, rtt_s, link.down_bps)


def _expected_s(
    each: Plan, document: PlanDocument, known: Estimate, trace: Trace, at_s: float
) -> float:
    """What a request should take that comes *at_s* into *trace*."""
    expected_s = fixed_s(each, document, known)
    if not each.remote:
        return expected_s
    paced = _paced(each, known)
    whole_s = paced.busy_s + carried_s(trace, at_s + paced.busy_s, each.upload_bytes)
    sent_s = min(whole_s, _ahead_s(paced.chunks, trace, at_s)) if each.chunks else whole_s
    return expected_s - paced.busy_s + sent_s


def _paced(each: Plan, known: Estimate) -> Plan:
    """The plan on a device as slow as it was found to be."""
    pace = known.pace or 1.0
    return msgspec.structs.replace(
        each,
        device_s=pace * each.device_s,
        encode_s=pace * each.encode_s,
        chunks=tuple(
            msgspec.structs.replace(
                chunk, device_s=pace * chunk.device_s, encode_s=pace * chunk.encode_s
            )
            for chunk in each.chunks
        ),
    )


def _ahead_s(chunks: Sequence[Chunk], trace: Trace, at_s: float) -> float:
    """From *at_s* in *trace* until all *chunks* are across.

    Each leaves once it is ready and the one before it is across.
    """
    ready_s = free_s = at_s
    for chunk in chunks:
        ready_s += chunk.device_s + chunk.encode_s
        free_s = max(free_s, ready_s)
        free_s += carried_s(trace, free_s, chunk.bytes)
    return free_s - at_s


def _asked(at_s: float, degrees: int, answer: Answered, trace: Trace) -> Asked:
    placement = answer.result.placement
    return Asked(
        at_s=round(at_s, 2),
        trace_mbps=_mbps(_bandwidth_bps(trace, at_s)),
        estimate_mbps=_mbps(answer.estimate.up_bps or 0.0),
        plan=placement.plan,
        mode=placement.mode,
        ms=round(answer.seconds * 1e3, 1),
        right=answer.label == str(degrees),
    )


def _bandwidth_bps(trace: Trace, at_s: float) -> float:
    """What the trace lets through in the second around *at_s*."""
    period_s = trace.period_s
    low_s = at_s % period_s - WINDOW_S / 2
    packets = sum(1 for ms in trace.opportunities_ms if (ms / 1e3 - low_s) % period_s < WINDOW_S)
    return packets * PACKET_BYTES / WINDOW_S


def _figures(name: str, seconds: Sequence[float]) -> Fixed:
    return Fixed(
        plan=name,
        median_ms=round(median(seconds) * 1e3, 1),
        mean_ms=round(fmean(seconds) * 1e3, 1),
    )


def _mbps(bps: float) -> float:
    return round(bps * 8 / 1e6, 3)
