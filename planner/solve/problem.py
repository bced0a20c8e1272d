"""One model between a device and a cloud, as the solvers see it: times, ways to cross, limits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.chunks import Chunk, hidden_s
from planner.graph import Graph
from planner.rates import Rates
from planner.solve.mincut import Prices
from planner.solve.overlap import chunks_of
from planner.solve.way import Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Which heads there are and what each uses.

    ``device_s`` and ``cloud_s`` have an entry per op; an infinite one forbids the op to run there.
    ``ways`` holds every allowed way of each tensor that an op reads; a tensor without one cannot
    cross. ``weight_bytes`` are an op's weights, ``live_bytes`` what is alive while it runs: both
    count where a device's memory is limited. ``message_s`` is what a message more costs the device;
    None sends every request in one.
    """

    graph: Graph
    device_s: tuple[float, ...]
    cloud_s: tuple[float, ...]
    ways: Mapping[str, tuple[Way, ...]]
    answer_bytes: Mapping[str, int]
    weight_bytes: tuple[int, ...] = ()
    live_bytes: tuple[int, ...] = ()
    message_s: float | None = None

    def best_way(self, name: str, rates: Rates) -> Way | None:
        """The cheapest way for a tensor to cross, None if there is none."""
        return min(self.ways[name], key=lambda way: (way.price(rates), way.codec), default=None)

    def prices(self, rates: Rates) -> tuple[Prices, float]:
        """What the minimum cut takes, and what every head costs beyond it.

        Of ``trip`` and ``stay`` only the difference matters for the choice.
        """
        both = min(rates.trip, rates.stay)
        crossing = {}
        for name in self.graph.consumers:
            way = self.best_way(name, rates)
            crossing[name] = math.inf if way is None else way.price(rates)
        prices = Prices(
            device=tuple(_times(rates.device, s) for s in self.device_s),
            cloud=tuple(_times(rates.cloud, s) for s in self.cloud_s),
            crossing=crossing,
            answer={name: n * rates.down for name, n in self.answer_bytes.items()},
            round_trip=rates.trip - both,
            stay=rates.stay - both,
        )
        return prices, both

    def chosen(self, head: frozenset[int], rates: Rates) -> "Chosen | None":
        """*head* with the cheapest way for each boundary tensor, None where one cannot cross."""
        crossing = {}
        for name in self.boundary(head):
            way = self.best_way(name, rates)
            if way is None:
                return None
            crossing[name] = way
        return self.use(head, crossing)

    def use(self, head: frozenset[int], crossing: Mapping[str, Way]) -> "Chosen":
        """What *head* uses when its boundary tensors cross as *crossing* says."""
        everywhere = range(len(self.graph.ops))
        return Chosen(
            head=head,
            crossing=crossing,
            device_s=math.fsum(self.device_s[i] for i in everywhere if i in head),
            cloud_s=math.fsum(self.cloud_s[i] for i in everywhere if i not in head),
            download_bytes=sum(
                n
                for name, n in self.answer_bytes.items()
                if crossing
                and name in self.graph.producer
                and self.graph.producer[name] not in head
            ),
            device_bytes=self.bytes_on_device(head),
            chunks=()
            if self.message_s is None
            else chunks_of(self.graph, head, crossing, self.device_s, self.message_s),
        )

    def boundary(self, head: frozenset[int]) -> tuple[str, ...]:
        """The tensors that cross; none when everything runs on the device."""
        return self.graph.boundary(head) if len(head) < len(self.graph.ops) else ()

    def bytes_on_device(self, head: frozenset[int]) -> int:
        """The head's weights, and the most that is alive at once while it runs."""
        weights = sum(self.weight_bytes[i] for i in head) if self.weight_bytes else 0
        live = max((self.live_bytes[i] for i in head), default=0) if self.live_bytes else 0
        return weights + live


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A head with its codecs, and what it uses per request (a :class:`planner.rates.Use`)."""

    head: frozenset[int]
    crossing: Mapping[str, Way] = field(hash=False)
    device_s: float
    cloud_s: float
    download_bytes: int
    device_bytes: int
    chunks: tuple[Chunk, ...] = ()

    def hidden_s(self, up_bps: float) -> float:
        """What sending in chunks saves at *up_bps* bytes per second."""
        return hidden_s(self.chunks, self.busy_s, self.upload_bytes, up_bps)

    @property
    def remote(self) -> bool:
        return bool(self.crossing)

    @property
    def encode_s(self) -> float:
        return math.fsum(way.encode_s for way in self.crossing.values())

    @property
    def decode_s(self) -> float:
        return math.fsum(way.decode_s for way in self.crossing.values())

    @property
    def busy_s(self) -> float:
        return self.device_s + self.encode_s

    @property
    def served_s(self) -> float:
        return self.cloud_s + self.decode_s

    @property
    def upload_bytes(self) -> int:
        return sum(way.nbytes for way in self.crossing.values())


def _times(rate: float, seconds: float) -> float:
    """Their product, where 0 times a forbidden op stays forbidden."""
    return seconds if math.isinf(seconds) else rate * seconds
