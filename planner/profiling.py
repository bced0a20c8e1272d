"""Measuring one model on this machine.

ONNX Runtime's own profile says how the time of the fused graph is shared out; runs without the
profiler say how much there is, and those of a few heads and tails correct the shares
(:mod:`planner.anchors`).
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from planner.anchors import corrected, expected_s, to_run
from planner.coding import codec_times, coded_sizes
from planner.footprint import weight_bytes
from planner.kernels import share_out
from planner.machine import this_machine
from planner.model import Model
from planner.narrow import Place
from planner.profiles import SCHEMA, Anchor, OpTime, Profile
from planner.sessions import open_session
from planner.timing import around, timed, typical

MOST_STEPS_S = 5.0
MOST_PROFILED_S = 10.0
MOST_RUN_S = 20.0
"""Where the model is slow its figures come from fewer runs, so as to end within this. All together
stay below a minute for a model that takes 100 ms."""

LEAST_RUNS = 5

Report = Callable[[str, float], None]
"""Told what is being done, and how much of all is done: 0 to 1."""


def profile(
    model: Model,
    sample: Mapping[str, np.ndarray],
    *,
    threads: int = 1,
    runs: int = 30,
    sizes: bool = True,
    anchors: bool = True,
    report: Report = lambda _what, _share: None,
) -> Profile:
    """Measure *model* on this machine.

    >>> import onnx, planner, shutil
    >>> from onnx import helper
    >>> from planner.model import sample_inputs
    >>> here = Path(tempfile.mkdtemp())
    >>> x, y = (helper.make_tensor_value_info(name, 1, [1, 4]) for name in "xy")
    >>> nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Exp", ["a"], ["y"])]
    >>> graph = helper.make_graph(nodes, "two", [x], [y])
    >>> onnx.save(helper.make_model(graph, ir_version=8), str(here / "two.onnx"))
    >>> model = planner.read(here / "two.onnx")
    >>> profile = planner.profile(model, sample_inputs(model), runs=5)
    >>> [op.kind for op in profile.ops], profile.whole_s > 0
    (['Relu', 'Exp'], True)
    >>> profile.scaled(0.5).whole_s == 2 * profile.whole_s
    True
    >>> shutil.rmtree(here)

    Args:
        model: what :func:`planner.read` returned.
        sample: one real input: an array for each of ``model.source``.
        threads: ONNX Runtime's intra-op threads.
        runs: how often the model runs for each figure, at least 5; a slow one runs seldomer.
        sizes: whether to write every tensor with every codec and note the bytes; they are the
            same on every machine, so one profile of a model is enough.
        anchors: whether to run some heads and tails, to correct the ops' times by them.
        report: told what is being done, and the share of all that is done.

    Raises:
        InputError: *sample* does not fit the model.
        ValueError: fewer than 5 runs.
    """
    if runs < LEAST_RUNS:
        raise ValueError(f"a profile needs at least {LEAST_RUNS} runs, got {runs}")
    report("running the steps", 0.0)
    values, step_times = _steps(model, sample, runs)
    steps_s = sum(step_times.values())
    feeds = {info.name: values[info.name] for info in model.inputs}
    report("profiling the network", 0.1)
    shares = _shares(model, feeds, threads, runs)
    places = to_run(model.graph, shares) if anchors else ()
    running = "running it whole, and cut" if places else "running it whole"
    report(running, 0.3)
    turns = _turns(
        _calls(model, feeds, places, threads),
        runs,
        lambda share: report(running, 0.3 + 0.4 * share),
    )
    whole_s = [turn[_WHOLE] for turn in turns]
    network_s = typical(whole_s)
    scale = network_s / (sum(shares.values()) or 1.0)
    times = {name: spent * scale for name, spent in shares.items()}
    cuts = _anchors(model, times, places, turns)
    heads = step_times | corrected(model.graph, times, cuts, "head")
    tails = step_times | corrected(model.graph, times, cuts, "tail")
    coding = "writing every tensor with every codec" if sizes else "running the codecs"
    report(coding, 0.7)
    tensors = _all_tensors(model, feeds) | values
    rates = codec_times(tensors)
    coded = (
        coded_sizes(
            model.graph,
            tensors,
            lambda share: report(coding, 0.8 + 0.2 * share),
        )
        if sizes
        else ()
    )
    report("done", 1.0)
    weights = weight_bytes(model.proto)
    low, high = np.percentile(whole_s, (10, 90))
    return Profile(
        schema=SCHEMA,
        model=model.name,
        digest=model.digest,
        machine=this_machine(threads),
        runs=len(turns),
        whole_s=network_s + steps_s,
        spread_s=(float(low) + steps_s, float(high) + steps_s),
        ops=tuple(
            OpTime(
                name=op.name,
                kind=op.kind,
                seconds=heads[op.name],
                tail_s=tails[op.name] if cuts else None,
                weight_bytes=weights.get(op.name, 0),
            )
            for op in model.graph.ops
        ),
        codecs=rates,
        tensors=coded,
        anchors=cuts,
        taken=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _steps(
    model: Model, sample: Mapping[str, np.ndarray], runs: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The values that the steps make, and the median seconds of each step."""
    late = [name for op in model.graph.ops if op.is_after for name in op.inputs]
    wanted = tuple(dict.fromkeys((*model.answers, *late)))
    values = model.piece(model.source, wanted).run(sample) | dict(sample)
    times = {}
    for op in model.graph.ops:
        if op.is_step:
            run = partial(model.steps[op.name], values)
            values |= run()
            times[op.name] = typical(_repeated(run, runs, MOST_STEPS_S / len(model.steps)))
    return values, times


_WHOLE = ("whole", 0)
_Key = tuple[str, int]


def _calls(
    model: Model, feeds: Mapping[str, np.ndarray], places: tuple[Place, ...], threads: int
) -> dict[_Key, Callable[[], object]]:
    """Running the network whole, and the head and tail of each of *places*."""
    whole = _opened(model, model.proto, threads)
    calls: dict[_Key, Callable[[], object]] = {_WHOLE: partial(whole.run, None, dict(feeds))}
    for at, place in enumerate(places):
        head, tail = head_and_tail(model, feeds, place.tensors, threads=threads)
        calls["head", at], calls["tail", at] = head, tail
    return calls


def head_and_tail(
    model: Model, feeds: Mapping[str, np.ndarray], crossing: Sequence[str], *, threads: int = 1
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The network's head and tail at *crossing*, each ready to be run on what *feeds* lead to.

    Raises:
        CutError: *crossing* does not part the network.
    """
    head, tail = (_opened(model, part, threads) for part in model.split(crossing))
    given = {each.name: feeds[each.name] for each in head.get_inputs()}
    made = [each.name for each in head.get_outputs()]
    values = dict(feeds) | dict(zip(made, head.run(None, given), strict=True))
    handed = {each.name: values[each.name] for each in tail.get_inputs()}
    return partial(head.run, None, given), partial(tail.run, None, handed)


def _opened(model: Model, part: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    return open_session(part.SerializeToString(), threads=threads, folder=model.folder)


def _turns(
    calls: Mapping[_Key, Callable[[], object]], runs: int, said: Callable[[float], None]
) -> list[Mapping[_Key, float]]:
    turns = []
    for turn in around(calls, turns=runs, most_s=MOST_RUN_S):
        turns.append(turn)
        said(len(turns) / runs)
    return turns


def _anchors(
    model: Model,
    times: Mapping[str, float],
    places: tuple[Place, ...],
    turns: list[Mapping[_Key, float]],
) -> tuple[Anchor, ...]:
    """What each of *places* took, beside what *times* of the ops lead to expect."""
    cuts = []
    for at, place in enumerate(places):
        before_s, after_s = expected_s(model.graph, times, place)
        cuts.append(
            Anchor(
                crossing=place.tensors,
                raw_bytes=place.nbytes,
                head_s=typical([turn["head", at] for turn in turns]),
                tail_s=typical([turn["tail", at] for turn in turns]),
                head_expected_s=before_s,
                tail_expected_s=after_s,
            )
        )
    return tuple(cuts)


def _repeated(call: Callable[[], object], runs: int, most_s: float) -> list[float]:
    """Seconds of each of *runs* calls; of fewer, but LEAST_RUNS, when *most_s* is over."""
    times: list[float] = []
    until = time.perf_counter() + most_s
    while len(times) < runs and (len(times) < LEAST_RUNS or time.perf_counter() < until):
        times.append(timed(call))
    return times


def _shares(
    model: Model, feeds: Mapping[str, np.ndarray], threads: int, runs: int
) -> dict[str, float]:
    """Seconds of each op under ONNX Runtime's profiler: the minimum over the runs."""
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        optimised = Path(folder) / "optimised.onnx"
        session = open_session(
            model.proto.SerializeToString(),
            threads=threads,
            folder=model.folder,
            save_to=optimised,
            profile_to=Path(folder) / "profile",
        )
        _repeated(lambda: session.run(None, dict(feeds)), runs, MOST_PROFILED_S)
        events = json.loads(Path(session.end_profiling()).read_text())
        kernels: dict[str, list[float]] = {}
        for event in events:
            name = event.get("name", "")
            if event.get("cat") == "Node" and name.endswith("_kernel_time"):
                kernels.setdefault(name.removesuffix("_kernel_time"), []).append(event["dur"] / 1e6)
        fused = onnx.load(str(optimised), load_external_data=False)
    return share_out(
        model.graph, fused.graph, {name: min(times) for name, times in kernels.items()}
    )


def _all_tensors(model: Model, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor of the network for one input."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model.proto)
    have = {value.name for value in extended.graph.output}
    names = [
        name
        for name in model.graph.consumers
        if name in model.graph.producer
        and not model.graph.ops[model.graph.producer[name]].is_step
        and model.graph.info(name).crosses
    ]
    if not names:  # ONNX Runtime takes no names for all outputs
        return {}
    extended.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in have
    )
    session = open_session(
        extended.SerializeToString(),
        level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
        folder=model.folder,
    )
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))
