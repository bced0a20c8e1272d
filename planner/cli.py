"""``isthmus inspect | profile | plan | split``."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from planner.asking import add_flags
from planner.errors import InputError, PlannerError, VerificationFailed

if TYPE_CHECKING:
    import numpy as np

    from planner.model import Model
    from planner.profiles import Profile


def mount(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the planner's commands."""
    inspect = _command(commands, "inspect", "ops, tensors, sizes, cuts worth having")
    inspect.set_defaults(run=run_inspect)

    profile = _command(commands, "profile", "measure this machine")
    profile.add_argument("-o", "--output", type=Path, required=True, metavar="P.json")
    profile.add_argument("--sample", type=Path, metavar="FILE", help=_SAMPLE)
    profile.add_argument("--threads", type=int, default=1, help="ONNX Runtime threads (default 1)")
    profile.add_argument("--runs", type=int, default=30, help="runs per figure (default 30)")
    profile.add_argument(
        "--no-sizes", action="store_true", help="leave the tensors' sizes to the other profile"
    )
    profile.add_argument(
        "--no-anchors", action="store_true", help="run no heads and tails: quicker, less exact"
    )
    profile.add_argument(
        "--merge",
        action="append",
        type=Path,
        default=[],
        metavar="P.json",
        help="an earlier profile of this model on this kind of machine, to be taken in; repeatable",
    )
    profile.add_argument(
        "--only-merge", action="store_true", help="measure nothing: write what --merge names as one"
    )
    profile.set_defaults(run=run_profile)

    plan = _command(commands, "plan", "the best cut for a link, and why")
    add_flags(plan)
    plan.add_argument("-o", "--output", type=Path, metavar="PLAN.json")
    plan.add_argument("--html", type=Path, metavar="REPORT.html", help="also write it as a page")
    plan.set_defaults(run=run_plan)

    split = _command(commands, "split", "head.onnx, tail.onnx, and the proof that they equal MODEL")
    where = split.add_mutually_exclusive_group(required=True)
    where.add_argument("--plan", type=Path, metavar="PLAN.json")
    where.add_argument(
        "--cut",
        action="append",
        metavar="TENSOR",
        help="cut at this tensor; once for each that crosses",
    )
    split.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    split.add_argument("--sample", type=Path, metavar="FILE", help=_SAMPLE)
    split.set_defaults(run=run_split)


_SAMPLE = "a real input: an image or other sensor message, or an .npz with one array per input"


def run_inspect(args: argparse.Namespace) -> int:
    from planner.chart import explain_graph
    from planner.narrow import narrow_places
    from planner.terminal import show

    model = _model(args)
    if not args.json:
        show(explain_graph(model))
        return 0
    from planner.graph import TensorInfo

    def tensor(info: TensorInfo) -> dict[str, object]:
        return {"name": info.name, "datatype": info.datatype, "shape": list(info.shape)}

    _print_json(
        {
            "model": model.name,
            "digest": model.digest,
            "inputs": [tensor(info) for info in model.inputs],
            "outputs": [tensor(info) for info in model.outputs],
            "source": list(model.source),
            "answers": list(model.answers),
            "assumed": dict(model.assumed),
            "ops": [{"name": op.name, "kind": op.kind} for op in model.graph.ops],
            "tensors": [
                {**tensor(info), "bytes": info.nbytes} for info in model.graph.tensors.values()
            ],
            "cuts": [
                {"after": count, "bytes": nbytes, "tensors": list(names)}
                for count, nbytes, names in narrow_places(model.graph)
            ],
        }
    )
    return 0


def run_profile(args: argparse.Namespace) -> int:
    from planner.merging import describe, merged
    from planner.profiles import read_profile, write_profile
    from planner.profiling import LEAST_RUNS
    from planner.ways import check_profile

    if args.runs < LEAST_RUNS or args.threads < 1:
        raise PlannerError(f"--runs must be at least {LEAST_RUNS} and --threads at least 1")
    if args.only_merge and not args.merge:
        raise PlannerError("--only-merge needs at least one --merge P.json")
    model = _model(args)
    earlier = [read_profile(path) for path in args.merge]
    for path, each in zip(args.merge, earlier, strict=True):
        check_profile(model, each, f"profile {path}")
    result = merged(earlier if args.only_merge else [*earlier, _profiled(model, args)])
    _write(args.output, lambda path: write_profile(result, path))
    if args.json:
        _print_json(result)
    else:
        low, high = result.spread_s
        print(
            f"{result.model}: {result.whole_s * 1e3:.2f} ms ({low * 1e3:.2f} to {high * 1e3:.2f}) "
            f"on {describe(result.machine)}; wrote {args.output}"
        )
        for anchor in result.anchors:
            print(
                f"  cut at {', '.join(anchor.crossing)}: head {anchor.head_s * 1e3:.2f} ms, tail "
                f"{anchor.tail_s * 1e3:.2f} ms (the profiler alone: "
                f"{anchor.head_expected_s * 1e3:.2f} and {anchor.tail_expected_s * 1e3:.2f})"
            )
    return 0


def _profiled(model: "Model", args: argparse.Namespace) -> "Profile":
    """Measure, with a bar on stderr where that is a terminal, and else a line for each part."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from planner.profiling import profile

    sample = _sample(model, args.sample)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading", total=1.0)
        said: list[str] = []

        def report(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)
            if not console.is_terminal and what not in said[-1:]:
                _narrate(what)
            said.append(what)

        return profile(
            model,
            sample,
            threads=args.threads,
            runs=args.runs,
            sizes=not args.no_sizes,
            anchors=not args.no_anchors,
            report=report,
        )


def run_plan(args: argparse.Namespace) -> int:
    from planner import asking
    from planner.explain import explain_plan
    from planner.listing import explain_cascade, explain_front, explain_tiers
    from planner.plans import write_plan
    from planner.terminal import show

    model = _model(args)
    question = asking.question(args, model, _narrate)
    if args.tier:
        tiers = asking.tiers(question, args.tier)
        if args.json:
            _print_json(tiers)
        else:
            show(explain_tiers(tiers))
        return 0
    if args.pareto:
        points = asking.pareto(question, args.pareto)
        if args.json:
            _print_json({"objectives": args.pareto.split(","), "points": points})
        else:
            show(explain_front(args.pareto, points))
        return 0
    document = asking.answer(question, args)
    if args.output:
        _write(args.output, lambda path: write_plan(document, path))
    if args.html:
        from planner.report import write_report

        _write(
            args.html,
            lambda path: write_report(path, document, model, question.device, question.cloud),
        )
    if args.json:
        _print_json(document)
    else:
        show(explain_plan(document))
        if document.cascade is not None:
            show(explain_cascade(document.cascade))
    return 0


def run_split(args: argparse.Namespace) -> int:
    from planner.plans import read_plan
    from planner.splitting import split
    from planner.verify import Whole

    model = _model(args)
    crossing = tuple(args.cut or ())
    if args.plan:
        document = read_plan(args.plan)
        if document.digest != model.digest:
            raise PlannerError(f"{args.plan} is a plan for other bytes than this {model.name}")
        crossing = tuple(c.tensor for c in document.plan(document.choice).crossing)
        if not crossing or not set(crossing) <= {
            name for op in model.graph.ops if not op.is_step for name in op.outputs
        }:
            raise PlannerError(
                f"{args.plan} says not to split the network ({document.choice}): "
                "name a cut with --cut to split it all the same"
            )
    written = split(model, crossing, args.output)
    head, tail = written.head_proto, written.tail_proto
    values = _sample(model, args.sample)
    if model.steps:
        names = [info.name for info in model.inputs]
        values = model.piece(model.source, names).run(values)
    _narrate("running head and tail against the whole")
    found = Whole(args.model, model, values).against(head, tail)
    if args.json:
        _print_json(
            {
                "model": model.name,
                "cut": list(crossing),
                "head": str(written.head),
                "tail": str(written.tail),
                "weights": None if written.weights is None else str(written.weights),
                "split_s": written.seconds,
                "difference": {
                    "exact": found.exact,
                    "absolute": found.absolute,
                    "relative": found.relative,
                },
                "equal": found.holds,
            }
        )
    else:
        print(f"{written.head}: {len(head.graph.node)} nodes")
        print(f"{written.tail}: {len(tail.graph.node)} nodes")
        if written.weights is not None:
            print(f"{written.weights}: the weights of both")
        print(
            f"head + tail against the whole: {found.exact:g} apart unoptimised, "
            f"{found.absolute:.2g} (relative {found.relative:.2g}) optimised"
        )
    if not found.holds:
        raise VerificationFailed(
            f"head + tail differ from the model by {found.relative:.2g}: do not deploy this cut"
        )
    return 0


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("model", type=Path, metavar="MODEL", help="the ONNX file")
    parser.add_argument(
        "--steps",
        type=Path,
        metavar="STEPS.json",
        help="its steps (default: steps.json beside it, if there)",
    )
    parser.add_argument(
        "--dim",
        action="append",
        default=[],
        metavar="NAME=SIZE",
        help="size of a dynamic dimension; NAME is its own or INPUT.AXIS",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _model(args: argparse.Namespace) -> "Model":
    from planner.model import read

    dims = {}
    for text in args.dim:
        name, _, size = text.rpartition("=")
        if not name or not size.isdigit():
            raise PlannerError(f"--dim {text!r} is not of the form NAME=SIZE, such as batch=1")
        dims[name] = int(size)
    beside = args.model.parent / "steps.json"
    steps = args.steps or (beside if beside.is_file() else None)
    model = read(args.model, steps=steps, dims=dims)
    if model.assumed:
        assumed = ", ".join(f"{name}={size}" for name, size in model.assumed.items())
        _narrate(f"assumed {assumed}; give --dim NAME=SIZE for others")
    return model


def _sample(model: "Model", path: Path | None) -> "dict[str, np.ndarray]":
    import numpy as np

    from planner.model import sample_inputs
    from planner.steps import SOURCE, made_up_message

    if path is None:
        _narrate("no --sample: a made-up input takes its place")
        if model.steps:
            rest = {n: v for n, v in sample_inputs(model).items() if n in model.source}
            return {SOURCE: np.array([made_up_message(model.steps)], dtype=np.object_), **rest}
        return sample_inputs(model)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        message = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"sample {path} cannot be read: {error}") from error
    if SOURCE not in model.source or not model.steps:
        names = ", ".join(model.source)
        raise InputError(f"{model.name} takes {names}: give an .npz with these arrays as --sample")
    rest = {n: v for n, v in sample_inputs(model).items() if n in model.source}
    if rest:
        _narrate(f"made-up inputs beside the message: {', '.join(rest)}")
    return {SOURCE: np.array([message], dtype=np.object_), **rest}


def _write(path: Path, write: Callable[[Path], None]) -> None:
    try:
        write(path)
    except OSError as error:
        raise PlannerError(f"{path} cannot be written: {error.strerror}") from error


def _narrate(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_json(value: object) -> None:
    from protos.documents import encode_json

    sys.stdout.write(encode_json(value).decode())
