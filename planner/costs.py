"""From profiles and a link to prices, and from a head to the plan it makes."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.errors import PlannerError
from planner.graph import Graph
from planner.links import Link
from planner.plans import Crossing, Plan
from planner.profiles import CodecRate, Profile, TensorSize
from planner.solve.mincut import Prices
from protos import codecs


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way for a tensor to cross: its codec, its bytes, and the seconds at both ends."""

    codec: str
    nbytes: int
    encode_s: float
    decode_s: float

    def seconds(self, up_bps: float) -> float:
        return self.encode_s + self.nbytes / up_bps + self.decode_s


class Costs:
    """Prices of one model between one device and one cloud, at any bandwidth.

    Args:
        graph: the model's graph.
        device: its profile on the device.
        cloud: its profile in the cloud; one of the two must hold the tensors' sizes.
        link: round trip and downlink; its bandwidth is only where the caller starts.
        allowed: the codecs that a tensor may cross with.
        accepted: the lossy ones among them whose effect on the answers is accepted.

    Raises:
        PlannerError: the profiles are of another model, or none holds the tensors' sizes.
    """

    def __init__(
        self,
        graph: Graph,
        device: Profile,
        cloud: Profile,
        link: Link,
        allowed: Sequence[str],
        *,
        accepted: Sequence[str] = (),
    ) -> None:
        self.graph, self.link = graph, link
        self.device, self.cloud = device, cloud
        self._kept: frozenset[str] = frozenset()
        self._accepted = frozenset(accepted)
        self._device_s = _times(graph, device, "device")
        self._cloud_s = _times(graph, cloud, "cloud")
        sizes = {size.name: size for size in (*device.tensors, *cloud.tensors)}
        if not sizes:
            raise PlannerError("no profile holds the tensors' sizes: make one without --no-sizes")
        self._ways = {
            name: self._ways_of(sizes.get(name), allowed, name) for name in graph.consumers
        }
        self._answer_bytes = {
            name: sizes[name].raw_bytes if name in sizes else 0 for name in graph.answers
        }

    def keep(self, names: Sequence[str]) -> None:
        """Forbid the tensors *names* to leave the device."""
        self._kept |= set(names)

    @property
    def trip_s(self) -> float:
        """Paid once by a plan that uses the link: the round trip, and the software's extra time."""
        return self.link.rtt_s + max(self.device.remote_s - self.device.local_s, 0.0)

    @property
    def stay_s(self) -> float:
        """Paid by the device alone: the software's extra time where that is the slower way."""
        return max(self.device.local_s - self.device.remote_s, 0.0)

    @property
    def software_s(self) -> float:
        """Paid by every plan, whatever it does."""
        return min(self.device.local_s, self.device.remote_s)

    def best_way(self, name: str, up_bps: float) -> Way | None:
        """The cheapest way for a tensor to cross, None if there is none."""
        return min(self._ways[name], key=lambda way: (way.seconds(up_bps), way.codec), default=None)

    def way(self, name: str, codec: str) -> Way | None:
        """How a tensor crosses with *codec*, None if it cannot."""
        return next((way for way in self._ways[name] if way.codec == codec), None)

    def prices(self, up_bps: float) -> Prices:
        """What the solver needs, in seconds, at *up_bps* bytes per second."""
        crossing = {}
        for name in self.graph.consumers:
            way = self.best_way(name, up_bps)
            if way is None or name in self._kept:
                crossing[name] = math.inf
            else:
                crossing[name] = way.seconds(up_bps)
        return Prices(
            device=self._device_s,
            cloud=self._cloud_s,
            crossing=crossing,
            answer={name: n / self.link.down_bps for name, n in self._answer_bytes.items()},
            round_trip=self.trip_s,
            stay=self.stay_s,
        )

    def plan(
        self,
        head: frozenset[int],
        up_bps: float,
        *,
        id_: str | None = None,
        codec: str | None = None,
    ) -> Plan:
        """The plan that *head* makes, each tensor with its best codec or with *codec*.

        Raises:
            PlannerError: a boundary tensor cannot cross, or not with *codec*.
        """
        crossing, encode_s, decode_s = [], 0.0, 0.0
        boundary = self.graph.boundary(head) if len(head) < len(self.graph.ops) else ()
        for name in boundary:
            way = self.best_way(name, up_bps) if codec is None else self.way(name, codec)
            if way is None:
                raise PlannerError(f"the tensor {name!r} cannot cross the link as {codec}")
            crossing.append(Crossing(tensor=name, codec=way.codec, bytes=way.nbytes))
            encode_s += way.encode_s
            decode_s += way.decode_s
        everywhere = range(len(self.graph.ops))
        overhead = self.device.remote_s if crossing else self.device.local_s
        return Plan(
            id=id_ or _name(crossing),
            crossing=tuple(crossing),
            ops_on_device=sum(not op.is_step for i, op in enumerate(self.graph.ops) if i in head),
            ops=sum(not op.is_step for op in self.graph.ops),
            device_s=math.fsum(self._device_s[i] for i in everywhere if i in head),
            encode_s=encode_s,
            decode_s=decode_s,
            cloud_s=math.fsum(self._cloud_s[i] for i in everywhere if i not in head),
            download_bytes=sum(
                n
                for name, n in self._answer_bytes.items()
                if crossing
                and name in self.graph.producer
                and self.graph.producer[name] not in head
            ),
            overhead_s=overhead,
            refused=self._refused(crossing),
        )

    def _refused(self, crossing: Sequence[Crossing]) -> str:
        for each in crossing:
            if each.tensor in self._kept:
                return "the raw input may not leave the device"
            if codecs.parse(each.codec).lossy and each.codec not in self._accepted:
                return f"{each.codec} may change the answer"
        return ""

    def _ways_of(
        self, size: TensorSize | None, allowed: Sequence[str], name: str
    ) -> tuple[Way, ...]:
        if size is None or not self.graph.info(name).crosses:
            return ()
        here = {rate.codec: rate for rate in self.device.codecs}
        there = {rate.codec: rate for rate in self.cloud.codecs}
        free = CodecRate(
            codec="raw",
            encode_fixed_s=0.0,
            encode_per_byte_s=0.0,
            decode_fixed_s=0.0,
            decode_per_byte_s=0.0,
        )
        return tuple(
            Way(
                codec=codec,
                nbytes=nbytes,
                encode_s=here.get(codec, free).encode_s(size.raw_bytes),
                decode_s=there.get(codec, free).decode_s(size.raw_bytes),
            )
            for codec, nbytes in size.coded_bytes.items()
            if codec in allowed and (codec == "raw" or (codec in here and codec in there))
        )


def _times(graph: Graph, profile: Profile, which: str) -> tuple[float, ...]:
    times: Mapping[str, float] = {op.name: op.seconds for op in profile.ops}
    missing = [op.name for op in graph.ops if op.name not in times]
    if missing:
        raise PlannerError(
            f"the {which}'s profile is of another model or version: it lacks the op "
            f"{missing[0]!r}; profile this model again"
        )
    return tuple(times[op.name] for op in graph.ops)


def _name(crossing: Sequence[Crossing]) -> str:
    if not crossing:
        return "device-only"
    text = "|".join(f"{each.tensor}:{each.codec}" for each in crossing)
    return "plan-" + hashlib.sha256(text.encode()).hexdigest()[:7]
