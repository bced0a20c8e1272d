"""From profiles to the solvers' problem, and from what they chose to a plan."""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from planner.errors import PlannerError
from planner.graph import Graph
from planner.links import Link
from planner.loads import Load
from planner.objectives import World
from planner.plans import Crossing, Plan
from planner.profiles import Profile, TensorSize
from planner.rates import Rates
from planner.solve.problem import Chosen, Problem
from planner.solve.way import Way
from planner.tariffs import LAMBDA_1_GB
from planner.ways import codec_rates, op_seconds, ways_of
from protos import codecs


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may run and cross where, whatever it costs.

    ``codecs`` are those that a tensor may cross with; ``accepted`` the lossy ones among them whose
    effect on the answers is accepted; ``banned`` (tensor, codec) pairs found to cost too much
    accuracy. ``kept`` tensors stay on the device; ``on_device`` and ``in_cloud`` pin ops by name.
    """

    codecs: tuple[str, ...]
    accepted: frozenset[str] = frozenset()
    banned: frozenset[tuple[str, str]] = frozenset()
    kept: frozenset[str] = frozenset()
    on_device: frozenset[str] = frozenset()
    in_cloud: frozenset[str] = frozenset()


class Costs:
    """One model between one device and one cloud.

    Args:
        graph: the model's graph.
        device: its profile on the device.
        cloud: its profile in the cloud; one of the two must hold the tensors' sizes.
        world: what lies around; a bare link leaves the rest at its defaults.
        allowed: the codecs that a tensor may cross with, or all the rules.
        accepted: the lossy codecs among them whose effect on the answers is accepted.

    Raises:
        PlannerError: the profiles are of another model, none holds the tensors' sizes, or an op
            that is pinned does not exist.
    """

    def __init__(
        self,
        graph: Graph,
        device: Profile,
        cloud: Profile,
        world: World | Link,
        allowed: Sequence[str] | Rules,
        *,
        accepted: Collection[str] = (),
    ) -> None:
        self.graph = graph
        self.world = plain_world(world, device) if isinstance(world, Link) else world
        rules = (
            allowed
            if isinstance(allowed, Rules)
            else Rules(codecs=tuple(allowed), accepted=frozenset(accepted))
        )
        self.rules = rules
        self._here, self._there = codec_rates(device), codec_rates(cloud)
        self._message_s = device.message_s
        sizes = {size.name: size for size in (*cloud.tensors, *device.tensors)}
        if not sizes:
            raise PlannerError("no profile holds the tensors' sizes: make one without --no-sizes")
        known = {op.name for op in graph.ops}
        if lost := sorted((rules.on_device | rules.in_cloud) - known):
            raise PlannerError(f"there is no op {lost[0]!r} to pin: `isthmus inspect` lists them")
        device_s = op_seconds(graph, device, "the device's profile")
        cloud_s = op_seconds(graph, cloud, "the cloud's profile", "tail")
        weights = {op.name: op.weight_bytes for op in device.ops}
        raw = {name: size.raw_bytes for name, size in sizes.items()}
        self.problem = Problem(
            graph=graph,
            device_s=_unless(rules.in_cloud, graph, device_s),
            cloud_s=_unless(rules.on_device, graph, cloud_s),
            ways={name: self._ways_of(sizes.get(name), name) for name in graph.consumers},
            answer_bytes={name: raw.get(name, 0) for name in graph.answers},
            weight_bytes=tuple(weights[op.name] for op in graph.ops),
            live_bytes=_live(graph, raw),
            message_s=device.message_s,
        )

    def latency(self, up_bps: float) -> Rates:
        return self.world.latency().at(up_bps)

    def way(self, name: str, codec: str) -> Way | None:
        """How a tensor crosses with *codec*, None if it cannot."""
        return next((way for way in self.problem.ways[name] if way.codec == codec), None)

    def plan(
        self,
        head: frozenset[int],
        up_bps: float,
        *,
        id_: str | None = None,
        codec: str | None = None,
    ) -> Plan:
        """The plan that *head* makes, each tensor with its fastest codec or with *codec*.

        Raises:
            PlannerError: a boundary tensor cannot cross, or not with *codec*.
        """
        crossing = {}
        for name in self.problem.boundary(head):
            way = self.problem.best_way(name, self.latency(up_bps)) if codec is None else None
            way = way or (self.way(name, codec) if codec is not None else None)
            if way is None:
                raise PlannerError(f"the tensor {name!r} cannot cross the link as {codec}")
            crossing[name] = way
        return self.plan_of(self.problem.use(head, crossing), id_=id_)

    def plan_of(self, chosen: Chosen, *, id_: str | None = None, drop: float | None = None) -> Plan:
        """What the solvers chose, as a plan for people and devices."""
        crossing = tuple(
            Crossing(tensor=name, codec=way.codec, bytes=way.nbytes)
            for name, way in chosen.crossing.items()
        )
        world, ops = self.world, self.graph.ops
        return Plan(
            id=id_ or _name(crossing),
            crossing=crossing,
            ops_on_device=sum(not op.is_step for i, op in enumerate(ops) if i in chosen.head),
            ops=sum(not op.is_step for op in ops),
            device_s=chosen.device_s,
            encode_s=chosen.encode_s,
            decode_s=chosen.decode_s,
            cloud_s=chosen.cloud_s,
            download_bytes=chosen.download_bytes,
            overhead_s=world.remote_s if crossing else world.local_s,
            wait_s=world.load.wait_s if crossing else 0.0,
            device_bytes=chosen.device_bytes,
            drop=drop,
            refused=self.refused(crossing),
            chunks=chosen.chunks,
        )

    def refused(self, crossing: Sequence[Crossing]) -> str:
        """Why a plan with these tensors is no candidate, empty where it is one."""
        for each in crossing:
            if each.tensor in self.rules.kept:
                return "the raw input may not leave the device"
            if (each.tensor, each.codec) in self.rules.banned:
                return f"{each.codec} changes too many answers"
            if codecs.parse(each.codec).lossy and each.codec not in self.rules.accepted:
                return f"{each.codec} may change the answer"
        return ""

    def _ways_of(self, size: TensorSize | None, name: str) -> tuple[Way, ...]:
        if size is None or not self.graph.info(name).crosses or name in self.rules.kept:
            return ()
        return tuple(
            way
            for way in ways_of(
                size,
                self._here,
                self._there,
                self.rules.codecs,
                info=self.graph.info(name),
                message_s=self._message_s,
            )
            if (name, way.codec) not in self.rules.banned
        )


def plain_world(link: Link, device: Profile) -> World:
    """Only a link and what the profile knows: an idle cloud, no power figures, the list price."""
    return idle_world(link, local_s=device.local_s, remote_s=device.remote_s)


def idle_world(link: Link, *, local_s: float = 0.0, remote_s: float = 0.0) -> World:
    """The same where no profile is at hand."""
    return World(
        link=link,
        load=Load(),
        local_s=local_s,
        remote_s=remote_s,
        busy_w=None,
        radio=None,
        tariff=LAMBDA_1_GB,
    )


def _unless(names: Collection[str], graph: Graph, seconds: Sequence[float]) -> tuple[float, ...]:
    """*seconds* of the ops, and infinitely many for those that must run elsewhere."""
    return tuple(
        math.inf if op.name in names else s for op, s in zip(graph.ops, seconds, strict=True)
    )


def _live(graph: Graph, raw_bytes: Mapping[str, int]) -> tuple[int, ...]:
    """Bytes alive while each op runs, when all run in order and each tensor goes with its last use.

    A tensor that the profile has no size for counts by its shape, and as nothing where that is not
    fixed either.
    """
    change = [0] * (len(graph.ops) + 1)
    for name, info in graph.tensors.items():
        size = raw_bytes.get(name, info.nbytes or 0)
        begins = graph.producer.get(name, 0)
        ends = max(graph.consumers.get(name, ()), default=begins)
        if name in graph.answers:
            ends = len(graph.ops) - 1
        change[begins] += size
        change[ends + 1] -= size
    out, alive = [], 0
    for step in change[:-1]:
        alive += step
        out.append(alive)
    return tuple(out)


def _name(crossing: Sequence[Crossing]) -> str:
    if not crossing:
        return "device-only"
    text = "|".join(f"{each.tensor}:{each.codec}" for each in crossing)
    return "plan-" + hashlib.sha256(text.encode()).hexdigest()[:7]
