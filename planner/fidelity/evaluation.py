"""Measuring what a crossing does to the answers: encode, decode, run the tail, compare."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from planner.dataset.samples import Dataset
from planner.errors import CutError, InputError, PlannerError
from planner.fidelity.document import SCHEMA, Effect, Fidelity, Metric
from planner.fidelity.passes import Passes
from planner.fidelity.tally import Tally
from planner.fidelity.views import Values, View, view_of
from planner.graph import UNKNOWN
from planner.model import Model
from protos import codecs
from protos.errors import WireError

Crossing = tuple[tuple[str, str], ...]
"""The tensors that cross, each with the name of its codec."""

Report = Callable[[str], None]

MEMORY_BYTES = 256 << 20


class Evaluation:
    """Effects of crossings on one model's answers to one set of samples, each measured once.

    ::

        dataset = read_dataset(Path("photos"), model, limit=100)
        evaluation = Evaluation(model, dataset, report=print)
        effect = evaluation.effect((("add_5", "int8+zstd"),))
        write_fidelity(evaluation.document(), Path("fidelity.json"))

    Nothing runs before the first question. :meth:`judge` is a :data:`planner.judging.Judge`.

    Args:
        model: what :func:`planner.read` returned.
        dataset: what :func:`planner.dataset.read_dataset` returned for it.
        threads: ONNX Runtime's intra-op threads.
        metric: how answers are judged; None lets their form decide. Give ``"cosine"`` for a model
            whose answer of shape ``(1, n)`` is an embedding and no choice among n classes.
        known: what was measured before, of this model on these samples; it is not measured again.
        memory_bytes: how much of the samples' tensors may be kept; what does not fit is made
            again when it is needed.
        report: told what is being measured.

    Raises:
        PlannerError: the labels cannot be compared with the model's answers, or *known* is of
            another model or of other samples.
    """

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        *,
        threads: int = 1,
        metric: Metric | None = None,
        known: Fidelity | None = None,
        memory_bytes: int = MEMORY_BYTES,
        report: Report = lambda _: None,
    ) -> None:
        self.model, self.dataset = model, dataset
        self.view: View = view_of(model, labelled=dataset.labels is not None, metric=metric)
        self._passes = Passes(model, dataset, threads=threads, memory_bytes=memory_bytes)
        self._memory_bytes, self._report = memory_bytes, report
        self._decided: tuple[tuple[str, ...], ...] = ()
        self._effects: dict[Crossing, Effect] = {}
        if known is not None:
            self._start_from(known)

    def judge(self, crossing: Crossing) -> float | None:
        """The drop of :meth:`effect`; None where the samples cannot tell.

        A :data:`planner.judging.Judge`: pass it to the planner as it is.
        """
        try:
            return self.effect(crossing).drop
        except CutError:
            return None

    def effect(self, crossing: Crossing) -> Effect:
        """What *crossing* does to the answers.

        Args:
            crossing: tensors and their codecs, in any order; ``+zstd`` makes no difference. Give
                all tensors of the cut. Where only some are given, whatever else is needed after
                them crosses as it is, and what depends on them runs after the crossing.

        Returns:
            The effect, measured at the first call. A codec that cannot write a sample's tensor
            (NaN, beyond fp16's range, another type) has an effect that is not usable: a drop of 1.

        Raises:
            CutError: a tensor is unknown, leads to no answer, or lies before what the samples hold.
            InputError: a sample cannot be read or run; the message names it.
            PlannerError: there is no such codec, or no label equals any of the model's answers.
        """
        full = self._completed(crossing)
        if full not in self._effects:
            lossy = [f"{codec} at {name}" for name, codec in full if codecs.parse(codec).lossy]
            if not lossy:
                return self._lossless(full)
            self._decide()
            self._report(f"measuring {', '.join(lossy)} on {len(self.dataset)} samples")
            self._effects[full] = self._measured(full)
        return self._effects[full]

    def decided(self, crossing: Crossing = ()) -> tuple[tuple[str, ...], ...]:
        """What the model decides on each sample, after *crossing* or, without one, losslessly.

        One text for each of the view's decisions: a label, a class's index, a text.

        Raises:
            WireError: a codec cannot write a sample's tensor.
            PlannerError: as :meth:`effect`.
        """
        full = self._completed(crossing) if crossing else ()
        self._decide()
        if not any(codecs.parse(codec).lossy for _, codec in full):
            return self._decided
        return tuple(self.view.decided(got) for _, got in self._crossed(full))

    def document(self) -> Fidelity:
        """All that has been measured so far."""
        return Fidelity(
            schema=SCHEMA,
            model=self.model.name,
            digest=self.model.digest,
            data=self.dataset.name,
            data_digest=self.dataset.digest(),
            samples=len(self.dataset),
            labelled=self.dataset.labels is not None,
            metric=self.view.metric,
            effects=tuple(self._effects.values()),
        )

    def _start_from(self, known: Fidelity) -> None:
        if known.digest != self.model.digest:
            raise PlannerError(
                f"the effects were measured for {known.model} with other bytes than this "
                f"{self.model.name}: measure them again"
            )
        same = (known.data_digest, known.samples, known.metric)
        if same != (self.dataset.digest(), len(self.dataset), self.view.metric):
            raise PlannerError(
                f"the effects were measured on other samples ({known.data}, {known.samples} by "
                f"{known.metric}) than {self.dataset.name}: measure them again"
            )
        self._effects = {self._completed(each.crossing): each for each in known.effects}

    def _completed(self, crossing: Crossing) -> Crossing:
        """Every tensor of the cut in graph order, each with its codec's name without ``+zstd``."""
        graph = self.model.graph
        names = [name for name, _ in crossing]
        if not names or len(set(names)) != len(names):
            raise CutError("a crossing names each of its tensors once, and at least one")
        for name in names:
            if name not in graph.tensors:
                raise CutError(
                    f"{self.model.name} has no tensor {name!r}: `isthmus inspect` lists them"
                )
        kinds = {name: _plain(codec) for name, codec in crossing}
        head, _ = graph.needed(names, ())
        boundary = graph.boundary(set(head))
        after, _ = graph.needed(self.view.observed, boundary)
        read = {name for at in after for name in graph.ops[at].inputs} | set(self.view.observed)
        full = tuple((name, kinds.get(name, "raw")) for name in boundary if name in read)
        if idle := [name for name in names if name not in dict(full)]:
            raise CutError(
                f"nothing reads {idle[0]!r} after the cut on the way to an answer of "
                f"{self.model.name}: leave it out of the crossing"
            )
        return full

    def _decide(self) -> None:
        """Run everything once without loss, and note what was decided."""
        if self._decided:
            return
        self._report(f"running {len(self.dataset)} samples of {self.dataset.name}")
        self._keep_inputs()
        decided = tuple(self.view.decided(values) for values in self._passes.at(self.view.observed))
        labels, final = self.dataset.labels, self.view.final
        if labels and not any(
            each[final] == label for each, label in zip(decided, labels, strict=True)
        ):
            raise PlannerError(
                f"none of the {len(labels)} labels is what {self.model.name} answers (the first is "
                f"{labels[0]!r}, its answer {decided[0][final]!r}): spell them as the model does"
            )
        self._decided = decided

    def _keep_inputs(self) -> None:
        """Keep the network's inputs where that takes no more than half of the memory.

        The steps before it (decoding an image, say) then run once per sample and not once per cut.
        """
        names = tuple(info.name for info in self.model.inputs)
        sizes = [info.nbytes for info in self.model.inputs if UNKNOWN not in info.shape]
        total = sum(size or 0 for size in sizes) * len(self.dataset)
        known = len(sizes) == len(names) and names != self.dataset.given
        if known and 2 * total <= self._memory_bytes and self._passes.leads_to(names):
            for _ in self._passes.at(names):
                pass

    def _lossless(self, crossing: Crossing) -> Effect:
        accuracy = None
        if self.dataset.labels is not None:
            self._decide()
            pairs = zip(self._decided, self.dataset.labels, strict=True)
            final = self.view.final
            accuracy = sum(each[final] == label for each, label in pairs) / len(self.dataset)
        near = 1.0 if self.view.compared else None
        return Effect(
            crossing=crossing,
            samples=len(self.dataset),
            metric=self.view.metric,
            agreement=1.0,
            cosine=near,
            cosine_worst=near,
            accuracy=accuracy,
            reference_accuracy=accuracy,
            drop=0.0,
            drop_high=0.0,
        )

    def _measured(self, crossing: Crossing) -> Effect:
        labels = self.dataset.labels
        tally = Tally(view=self.view, labelled=labels is not None)
        try:
            for at, (wanted, got) in enumerate(self._crossed(crossing)):
                tally.add(wanted, got, None if labels is None else labels[at])
        except WireError as error:
            return Effect(
                crossing=crossing,
                samples=len(self.dataset),
                metric=self.view.metric,
                agreement=0.0,
                drop=1.0,
                drop_high=1.0,
                reason=f"sample {self.dataset.names[tally.samples]}: {error}",
            )
        return tally.effect(crossing)

    def _crossed(self, crossing: Crossing) -> Iterator[tuple[Values, Values]]:
        """For each sample the lossless answers, and those after *crossing*."""
        graph = self.model.graph
        kinds = {name: codecs.parse(codec) for name, codec in crossing}
        names = tuple(kinds)
        after = tuple(name for name in self.view.observed if self._depends(name, names))
        tail = self._passes.piece(names, after)
        whole = self._passes.at(self.view.observed)
        for sample, wanted, values in zip(
            self.dataset.names, whole, self._passes.at(names), strict=True
        ):
            crossed = {}
            for name, codec in kinds.items():
                value, datatype = values[name], graph.info(name).datatype
                if codec.lossy:
                    data = codecs.encode(codec, value, datatype)
                    value = codecs.decode(codec, data, datatype, value.shape)
                crossed[name] = value
            try:
                made = tail.run(crossed)
            except InputError as error:
                raise InputError(f"sample {sample} of {self.dataset.name}: {error}") from error
            yield wanted, {**wanted, **made}

    def _depends(self, name: str, on: tuple[str, ...]) -> bool:
        graph = self.model.graph
        ops, _ = graph.needed([name], on)
        return name in on or any(each in on for at in ops for each in graph.ops[at].inputs)


def _plain(codec: str) -> str:
    try:
        return str(replace(codecs.parse(codec), zstd=False))
    except WireError as error:
        raise PlannerError(str(error)) from error
