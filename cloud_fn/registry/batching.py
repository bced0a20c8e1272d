"""Whether a version may answer several requests at once, and whether that pays: found at push.

Off is the answer wherever a doubt is left: where made-up requests are answered otherwise together
than each alone by the graph for one row, or where a batch is no faster by the row.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort

from cloud_fn.functions.curve import WORTH, Curve, pays
from cloud_fn.functions.joining import Arrays, Form, Run, Unbatchable
from cloud_fn.functions.trial import measure, prove
from cloud_fn.registry.blobs import Blobs
from cloud_fn.registry.catalog import Catalog
from cloud_fn.registry.manifest import Manifest, TensorSpec
from cloud_fn.registry.variants import Batched, Variant
from planner import batched
from planner.dims import loosened_inputs
from planner.errors import ModelError
from planner.graph import UNKNOWN, TensorInfo
from planner.infos import SILENT, info_of, random_inputs
from planner.ready import Ready
from planner.sessions import open_session
from planner.source import Source, load

BUDGET_S = 3.0
"""For the curve of one version; one that takes a second by the row gets some seconds more."""

SIZES = (1, 2, 4, 8, 16)
"""32 rows gained no more than 16: MiniLM 1.73 and 1.72 times as fast by the row, an image's
orientation 1.06 and 1.00, a text line's 1.10 and 0.97 (1 thread, CPU time, 2026-11)."""

LEAST_S = 1e-3
"""Of one row: where the network takes less, the rest of a request's way takes the most, and a batch
saves nothing of that."""

_PAIRS = ((0, 1), (2, 3))
"""Seeds of the requests that are answered together and apart."""


def find_batched(
    catalog: Catalog,
    manifest: Manifest,
    variant: Variant,
    ready: Ready,
    *,
    say: Callable[[str], None],
) -> Batched | None:
    """How *variant*, which is open as *ready*, answers several requests of its version at once.

    Returns:
        None where there was no room to find out, say: the next push asks again.
    """
    try:
        return _found(catalog, manifest, variant, ready, say)
    except (ModelError, Unbatchable) as error:
        return Batched(reason=" ".join(str(error).split())[:300])
    except (OSError, MemoryError) as error:
        say(f"not measured whether requests are answered faster together: {error}")
        return None


def _found(
    catalog: Catalog,
    manifest: Manifest,
    variant: Variant,
    ready: Ready,
    say: Callable[[str], None],
) -> Batched:
    path = catalog.blobs.path(manifest.content.model)
    source = load(path, catalog.blobs.memo)
    dims = manifest.content.dims
    attempts = [
        _Loose(
            blobs=catalog.blobs,
            variant=variant,
            ready=ready,
            source=source,
            inputs=loosened_inputs(source.proto, dims, path, with_lengths=with_lengths),
        )
        for with_lengths in (True, False)
    ]
    if attempts[0].lengths:
        try:
            return attempts[0].found(say)
        except (ModelError, Unbatchable):  # it may be a length that it takes no other of
            pass
    return attempts[1].found(say)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loose:
    """An attempt at a version: its original, with *inputs* of any size in some axes."""

    blobs: Blobs
    variant: Variant
    ready: Ready
    source: Source
    inputs: Sequence[onnx.ValueInfoProto]

    @property
    def lengths(self) -> frozenset[str]:
        """The inputs whose axis 1 may be of any length."""
        infos = map(info_of, self.inputs)
        return frozenset(i.name for i in infos if len(i.shape) > 1 and i.shape[1] == UNKNOWN)

    def found(self, say: Callable[[str], None]) -> Batched:
        """What there is to say of it; its files are kept where it pays.

        Raises:
            ModelError | Unbatchable: it does not run so, or answers otherwise.
            OSError: the registry cannot be written.
        """
        with self.blobs.stage() as stage:
            made = self._compiled(stage)
            single, together = self._sessions(made, stage)
            self._prove(made.inputs, single, together)
            say("measuring whether requests are answered faster together")
            curve = self._curve(made.inputs, single, together)
            found = Batched(
                reason=_why_not(curve),
                inputs=tuple(
                    TensorSpec(name=each.name, datatype=each.datatype, shape=each.shape)
                    for each in made.inputs
                ),
                points=curve.points,
                length=curve.length,
                prepacked=self.variant.prepacking_pays,
            )
            return found if found.reason else self._kept(found, made)

    def _compiled(self, stage: Path) -> batched.Batched:
        weights = None
        if self.variant.weights is not None:
            weights = stage / self.variant.weights.digest
            os.link(self.blobs.path(self.variant.weights), weights)
        return batched.compile_batched(
            self.source, self.inputs, stage, single=self.ready.optimised, weights=weights
        )

    def _sessions(self, made: batched.Batched, stage: Path) -> tuple[Run, Run]:
        """What answers one row alone, and what answers several."""
        prepack = self.variant.prepacking_pays
        whole = self.ready.whole()
        if whole is None:
            raise Unbatchable("not each of its outputs comes of all of its inputs")
        single = self.ready.open(whole, prepack=prepack)
        return _run(single), _run(_opened(made.graph, stage, prepack=prepack))

    def _prove(self, inputs: Sequence[TensorInfo], single: Run, together: Run) -> None:
        form = Form.of(inputs, {})
        for pair in _PAIRS:
            first, second = (self._row(seed) for seed in pair)
            prove(together, form, (first, second), single=single)

    def _curve(self, inputs: Sequence[TensorInfo], single: Run, together: Run) -> Curve:
        """What batches take, where a lone row is answered by the graph for one."""
        row = self._row(0)

        def run(given: Arrays) -> Mapping[str, np.ndarray]:
            usual = all(given[name].shape == array.shape for name, array in row.items())
            return (single if usual else together)(given)

        form = Form.of(inputs, dict.fromkeys(self.lengths, 0.0))
        # A session of one thread runs in ours: other work on the machine hardly moves its time.
        return measure(run, form, SIZES, row=row, budget_s=BUDGET_S, clock=time.thread_time)

    def _row(self, seed: int) -> Arrays:
        return random_inputs({each.name: each.info for each in self.ready.document.inputs}, seed)

    def _kept(self, found: Batched, made: batched.Batched) -> Batched:
        weights = None
        if made.weights is not None:
            weights = self.blobs.put(made.weights, "batched.bin")
        graph = self.blobs.put(made.graph, "batched.onnx")
        return msgspec.structs.replace(found, graph=graph, weights=weights)


def _opened(graph: Path, folder: Path, *, prepack: bool) -> ort.InferenceSession:
    return open_session(
        graph.read_bytes(),
        level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
        folder=folder,
        prepack=prepack,
    )


def _run(session: ort.InferenceSession) -> Run:
    names = [value.name for value in session.get_outputs()]

    def run(given: Arrays) -> Mapping[str, np.ndarray]:
        try:
            made = session.run(names, dict(given), SILENT)
        except Exception as error:  # ONNX Runtime's own classes share no base but Exception
            raise ModelError(f"the model cannot run on made-up input: {error}") from error
        return dict(zip(names, made, strict=True))

    return run


def _why_not(curve: Curve) -> str:
    alone_s = curve.seconds(1, curve.length)
    if alone_s < LEAST_S:
        return f"one row takes {alone_s * 1e3:.2g} ms, less than the rest of a request's way"
    if not pays(curve):
        return (
            f"the best batch is {curve.gain:.2f} times as fast by the row: it is worth it from "
            f"{WORTH:g} on"
        )
    return ""
