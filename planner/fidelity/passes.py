"""The tensors of every sample at any cut: kept while they fit in memory, else made again."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from planner.dataset.samples import Dataset
from planner.errors import CutError, InputError
from planner.model import Model
from planner.pieces import Piece
from protos.tensors import Array

_PIECES = 6
"""Sessions that stay open: a tail or two in use, and the heads of cuts that do not fit."""


class Passes:
    """Runs of one model over one set of samples.

    Args:
        model: what :func:`planner.read` returned.
        dataset: the samples.
        threads: ONNX Runtime's intra-op threads.
        memory_bytes: how much of the tensors may be kept between runs. What is in the making can
            take as much again.
    """

    def __init__(self, model: Model, dataset: Dataset, *, threads: int, memory_bytes: int) -> None:
        self._model, self._dataset, self._threads = model, dataset, threads
        self._memory_bytes = memory_bytes
        self._kept: OrderedDict[tuple[str, ...], list[Mapping[str, Array]]] = OrderedDict()
        self._kept_bytes: dict[tuple[str, ...], int] = {}
        self._pieces: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], Piece] = OrderedDict()

    def at(self, names: Sequence[str]) -> Iterator[Mapping[str, Array]]:
        """The tensors *names* of each sample, in order, with nothing lossy on the way.

        Raises:
            CutError: what the samples hold does not lead to *names*.
            InputError: a sample cannot be read or run; the message names it.
        """
        key = tuple(names)
        if key in self._kept:
            self._kept.move_to_end(key)
            yield from self._kept[key]
            return
        piece, before = self._start(key)
        fresh: list[Mapping[str, Array]] | None = []
        size = 0
        for name, values in zip(self._dataset.names, before, strict=True):
            try:
                made = piece.run({each: values[each] for each in piece.inputs})
            except InputError as error:
                raise InputError(f"sample {name} of {self._dataset.name}: {error}") from error
            size += sum(_nbytes(value) for value in made.values())
            if size > self._memory_bytes:
                fresh = None
            if fresh is not None:
                fresh.append(made)
            yield made
        if fresh is not None:
            self._keep(key, fresh, size)

    def piece(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Piece:
        """As :meth:`planner.model.Model.piece`, and still open when it was used lately."""
        key = (inputs, outputs)
        if key not in self._pieces:
            self._pieces[key] = self._model.piece(inputs, outputs, threads=self._threads)
        self._pieces.move_to_end(key)
        while len(self._pieces) > _PIECES:
            self._pieces.popitem(last=False)
        return self._pieces[key]

    def leads_to(self, names: Sequence[str]) -> bool:
        """Whether *names* can be made from what the samples hold."""
        return not self._model.graph.needed(names, self._dataset.given)[1]

    def _start(self, names: tuple[str, ...]) -> tuple[Piece, Iterator[Mapping[str, Array]]]:
        """The least that must run for *names*, and where its inputs come from."""
        graph = self._model.graph
        best: tuple[int, tuple[str, ...]] | None = None
        for start in (self._dataset.given, *self._kept):
            ops, missing = graph.needed(names, start)
            if not missing and (best is None or len(ops) < best[0]):
                best = len(ops), start
        if best is None:
            raise CutError(
                f"the samples hold {', '.join(self._dataset.given)}, which does not lead to "
                f"{', '.join(names)}: the cut lies before them"
            )
        start = best[1]
        read = {name for at in graph.needed(names, start)[0] for name in graph.ops[at].inputs}
        used = tuple(name for name in start if name in read or name in names)
        if start in self._kept:
            self._kept.move_to_end(start)
            return self.piece(used, names), iter(self._kept[start])
        return self.piece(used, names), (sample for _, sample in self._dataset)

    def _keep(self, key: tuple[str, ...], values: list[Mapping[str, Array]], size: int) -> None:
        while self._kept and sum(self._kept_bytes.values()) + size > self._memory_bytes:
            oldest, _ = self._kept.popitem(last=False)
            del self._kept_bytes[oldest]
        self._kept[key], self._kept_bytes[key] = values, size


def _nbytes(value: Array) -> int:
    if value.dtype == object:
        return sum(len(item) for item in value.flat if isinstance(item, bytes | str))
    return value.nbytes
