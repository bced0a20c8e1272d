"""Measuring one model on this machine.

ONNX Runtime's own profile says how the time of the fused graph is shared out; a run without the
profiler says how much there is. Shares scaled to the whole predict a head or tail to 2.5-3.6 %
(mean over real models), where measuring each cut is no better than noise.
"""

import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import psutil

from planner.footprint import weight_bytes
from planner.graph import Graph
from planner.kernels import share_out
from planner.model import Model
from planner.profiles import SCHEMA, CodecRate, Machine, OpTime, Profile, TensorSize
from planner.sessions import open_session
from protos import codecs
from protos.errors import WireError

LOSSLESS = ("raw", "raw+zstd")
LOSSY = ("fp16", "fp16+zstd", "int8", "int8+zstd")
IMAGE = ("jpeg:90", "jpeg:98")

Report = Callable[[str], None]


def profile(
    model: Model,
    sample: Mapping[str, np.ndarray],
    *,
    threads: int = 1,
    runs: int = 30,
    sizes: bool = True,
    report: Report = lambda _: None,
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
        runs: how often the model runs for each figure, at least 5.
        sizes: whether to write every tensor with every codec and note the bytes; they are the
            same on every machine, so one profile of a model is enough.
        report: told what is being done.

    Raises:
        InputError: *sample* does not fit the model.
        ValueError: fewer than 5 runs.
    """
    if runs < 5:
        raise ValueError(f"a profile needs at least 5 runs, got {runs}")
    report("running the steps")
    values, step_times = _steps(model, sample, runs)
    feeds = {info.name: values[info.name] for info in model.inputs}
    report("running the network")
    network = [op for op in model.graph.ops if not op.is_step]
    whole, low, high = _whole(model, feeds, threads, runs)
    shares = _shares(model, feeds, threads, runs)
    total = sum(shares.values()) or 1.0
    report("running every tensor's codecs" if sizes else "running the codecs")
    tensors = _all_tensors(model, feeds) | values
    weights = weight_bytes(model.proto)
    times = step_times | {op.name: shares[op.name] / total * whole for op in network}
    return Profile(
        schema=SCHEMA,
        model=model.name,
        digest=model.digest,
        machine=_machine(threads),
        runs=runs,
        whole_s=whole + sum(step_times.values()),
        spread_s=(low + sum(step_times.values()), high + sum(step_times.values())),
        ops=tuple(
            OpTime(
                name=op.name,
                kind=op.kind,
                seconds=times[op.name],
                weight_bytes=weights.get(op.name, 0),
            )
            for op in model.graph.ops
        ),
        codecs=_rates(tensors),
        tensors=_sizes(model.graph, tensors) if sizes else (),
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
            times[op.name] = float(np.median([_timed(run) for _ in range(runs)]))
    return values, times


def _whole(
    model: Model, feeds: Mapping[str, np.ndarray], threads: int, runs: int
) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile of the network's seconds."""
    session = open_session(model.proto.SerializeToString(), threads=threads, folder=model.folder)
    session.run(None, dict(feeds))
    times = [_timed(lambda: session.run(None, dict(feeds))) for _ in range(runs)]
    low, middle, high = np.percentile(times, (10, 50, 90))
    return float(middle), float(low), float(high)


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
        for _ in range(runs):
            session.run(None, dict(feeds))
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


def _sizes(graph: Graph, values: Mapping[str, np.ndarray]) -> tuple[TensorSize, ...]:
    out = []
    for name in dict.fromkeys((*graph.consumers, *graph.answers)):
        value = values.get(name)
        if value is None or not graph.info(name).crosses:
            continue
        coded = {}
        # A sensor's message is an image or sound file as a rule: compressed already.
        tried = ("raw",) if value.dtype == np.object_ else (*LOSSLESS, *LOSSY, *IMAGE)
        for text in tried:
            codec = codecs.parse(text)
            if codecs.suits(codec, graph.info(name).datatype, value.shape):
                try:
                    coded[text] = len(codecs.encode(codec, value))
                except WireError:
                    continue  # it holds values that this codec cannot write
        out.append(TensorSize(name=name, raw_bytes=coded["raw"], coded_bytes=coded))
    return tuple(out)


def _rates(values: Mapping[str, np.ndarray], repeats: int = 5) -> tuple[CodecRate, ...]:
    """A line through two sizes for each codec, on the model's own tensors."""
    floats = sorted(
        (v for v in values.values() if v.dtype == np.float32 and v.size), key=lambda v: v.nbytes
    )
    images = [v for v in values.values() if v.dtype == np.uint8 and v.ndim == 3]
    out = []
    for text in (*LOSSLESS, *LOSSY, *IMAGE):
        codec = codecs.parse(text)
        pool = images if text in IMAGE else floats
        if not pool:
            continue
        pool = [value for value in pool if _writes(codec, value)]
        if not pool:
            continue  # no tensor of this model suits it
        large = next((v for v in pool if v.nbytes >= 200_000), pool[-1])
        fits = [(value.nbytes, *_both_ways(codec, value, repeats)) for value in (pool[0], large)]
        (small_n, small_e, small_d), (large_n, large_e, large_d) = fits
        encode = _line(small_n, small_e, large_n, large_e)
        decode = _line(small_n, small_d, large_n, large_d)
        out.append(
            CodecRate(
                codec=text,
                encode_fixed_s=encode[0],
                encode_per_byte_s=encode[1],
                decode_fixed_s=decode[0],
                decode_per_byte_s=decode[1],
            )
        )
    return tuple(out)


def _writes(codec: codecs.Codec, value: np.ndarray) -> bool:
    """Whether *codec* can hold the values: fp16 not those beyond 65504, int8 no NaN."""
    try:
        codecs.encode(codec, value)
    except WireError:
        return False
    return True


def _both_ways(codec: codecs.Codec, value: np.ndarray, repeats: int) -> tuple[float, float]:
    datatype = "UINT8" if value.dtype == np.uint8 else "FP32"
    data = codecs.encode(codec, value)
    encode = [_timed(lambda: codecs.encode(codec, value)) for _ in range(repeats)]
    decode = [
        _timed(lambda: codecs.decode(codec, data, datatype, value.shape)) for _ in range(repeats)
    ]
    return float(np.median(encode)), float(np.median(decode))


def _line(x0: int, y0: float, x1: int, y1: float) -> tuple[float, float]:
    """Intercept and slope, neither below 0."""
    if x1 == x0:
        return 0.0, max(y0, y1) / max(x0, 1)
    slope = max((y1 - y0) / (x1 - x0), 0.0)
    return max(y0 - slope * x0, 0.0), slope


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _machine(threads: int) -> Machine:
    return Machine(
        cpu=_cpu_name(),
        cores=psutil.cpu_count() or 1,
        threads=threads,
        python=platform.python_version(),
        onnxruntime=ort.__version__,
    )


def _cpu_name() -> str:
    try:
        lines: Sequence[str] = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = ()
    for line in lines:
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
