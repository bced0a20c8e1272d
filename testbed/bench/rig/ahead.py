"""A request that is sent while its head still works, as the agent does it: stage after stage."""

from collections.abc import Iterator, Mapping

import msgspec

from edge_agent.shelf import Outgoing, Pieces, Shelf
from planner.chunks import Chunk
from planner.model import Model
from planner.plans import Crossing, Plan
from protos.slices import Slice, cut
from testbed.bench.rig.orders import TensorHead, Way
from testbed.bench.rig.wire import Values, pack


class Stages:
    """The stages of the heads of those *ways* that have chunks; the agent's own shelf makes them.

    Raises:
        PlannerError: a way's tensors do not part the model.
    """

    def __init__(self, model: Model, ways: Mapping[str, Way]) -> None:
        shelf = Shelf({model.name: model}, threads=1)
        self._pieces: dict[str, Pieces] = {}
        for way in ways.values():
            if way.chunks:
                shelf.load(model.name, way.id, _as_plan(way))
                pieces = shelf[model.name, way.id]
                if pieces.stages:
                    self._pieces[way.id] = pieces

    def begin(self, way: str, sample: Values) -> "Ahead | None":
        """A request for the answer to *sample*; None where *way* is sent in one message."""
        return Ahead(self._pieces[way], sample) if way in self._pieces else None


class Ahead:
    """One request, a message at a time: iterating runs the head as far as the next one needs."""

    def __init__(self, pieces: Pieces, sample: Values) -> None:
        self._pieces = pieces
        self._values: Values = dict(sample)
        self.count = sum(each.slices for stage in pieces.stages for each in stage.sends)

    def __iter__(self) -> Iterator[tuple[tuple[TensorHead, ...], bytes]]:
        for stage in self._pieces.stages:
            self._values = stage.chain.run(self._values).arrays
            for outgoing in stage.sends:
                yield from self._written(outgoing)

    @property
    def early(self) -> Values:
        """The answers that the head makes already, once it has run."""
        return {name: self._values[name] for name in self._pieces.early}

    def _written(self, outgoing: Outgoing) -> Iterator[tuple[tuple[TensorHead, ...], bytes]]:
        name, codec = outgoing.crossing.tensor, outgoing.crossing.codec
        count, axis = outgoing.slices, outgoing.axis
        if count == 1:
            yield pack({name: self._values[name]}, {name: codec})
            return
        for number, value in enumerate(cut(self._values[name], count, axis), start=1):
            (head,), body = pack({name: value}, {name: codec})
            part = str(Slice(number=number, of=count, axis=axis))
            yield (msgspec.structs.replace(head, part=part),), body


def _as_plan(way: Way) -> Plan:
    """*way* as a plan that the shelf takes: what it would cost does not matter there."""
    return Plan(
        id=way.id,
        crossing=tuple(Crossing(tensor=name, codec=codec, bytes=0) for name, codec in way.crossing),
        ops_on_device=0,
        ops=0,
        device_s=0.0,
        encode_s=0.0,
        decode_s=0.0,
        cloud_s=0.0,
        download_bytes=0,
        chunks=tuple(
            Chunk(
                tensor=each.tensor,
                number=each.number,
                of=each.of,
                device_s=float(each.stage),
                encode_s=0.0,
                bytes=0,
            )
            for each in way.chunks
        ),
    )
