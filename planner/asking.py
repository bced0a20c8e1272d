"""The flags of ``isthmus plan``, and the question that they make."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from planner.errors import PlannerError
from planner.objectives import NAMES, Name
from planner.quantities import BYTES, JOULES, SECONDS, WATTS, quantity

if TYPE_CHECKING:
    from planner.fidelity import Evaluation
    from planner.links import Link
    from planner.model import Model
    from planner.plans import Plan, PlanDocument
    from planner.profiles import Profile
    from planner.tiering import TierPlan

Say = Callable[[str], None]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What there is to ask."""
    add = parser.add_argument
    add("--device", type=Path, required=True, metavar="P.json", help="its profile on the device")
    add("--cloud", type=Path, required=True, metavar="P.json", help="its profile in the cloud")
    add("--link", required=True, metavar='NAME|"5.85Mbps,50ms"|TRACE')
    add("--device-speed", type=float, default=1.0, metavar="X",
        help="take the device as X times as fast as its profile (0.1: a tenth)")  # fmt: skip
    add("--tier", action="append", default=[], metavar="P.json,LINK",
        help="a tier between device and cloud, and the link that leads to it")  # fmt: skip
    add("--objective", choices=NAMES, default="latency", help="what is to be least or most")
    add("--pareto", metavar="A,B", help=f"the front of two objectives of {', '.join(NAMES)}")
    add("--slo", metavar="100ms[@0.95]",
        help="refuse a plan that is slower (for more than 5 %% of requests)")  # fmt: skip
    add("--max-energy", metavar="1.5J", help="the most that the device may draw for a request")
    add("--max-cost", type=float, metavar="USD", help="the most that a million requests may cost")
    add("--max-memory", metavar="50MB", help="the device's room for weights and activations")
    add("--max-tensors", type=int, metavar="N", help="the most tensors that may cross")
    add("--no-raw-input", action="store_true",
        help="the sensor's own message must not leave the device")  # fmt: skip
    add("--on-device", action="append", default=[], metavar="OP", help="pin this op to the device")
    add("--in-cloud", action="append", default=[], metavar="OP", help="pin this op to the cloud")
    add("--codec", action="append", default=[], metavar="CODEC",
        help="also allow this codec, though its effect was not measured (int8+zstd)")  # fmt: skip
    add("--evaluate", type=Path, metavar="DATA",
        help="samples (a folder or .npz) to measure lossy codecs' effect on")  # fmt: skip
    add("--accuracy-drop", type=float, default=None, metavar="SHARE",
        help="the most accuracy that a lossy codec may cost (default 0.005)")  # fmt: skip
    add("--samples", type=int, default=None, metavar="N", help="N samples of DATA, evenly spread")
    add("--fidelity", type=Path, metavar="F.json",
        help="measurements of DATA from before; new ones are added to it")  # fmt: skip
    add("--cascade", type=Path, metavar="SMALL.onnx",
        help="a small model that may answer on the device where it is confident")  # fmt: skip
    add("--cascade-output", metavar="TENSOR",
        help="in its place, an answer of the model itself that is made before the cut")  # fmt: skip
    add("--cascade-steps", type=Path, metavar="STEPS.json", help="the small model's steps")
    add("--cloud-load", type=Path, metavar="LOAD.json",
        help="queue and cold starts: `isthmus functions load NAME -o LOAD.json`")  # fmt: skip
    add("--device-power", metavar="3.5W", help="the device's power above idle while it works")
    add("--radio", metavar="NAME", help="its radio where the link is not named: 3G, LTE, WiFi")
    add("--tariff", metavar="0.0000166667/s,0.20/M[,0.09/GB]",
        help="the cloud's prices in dollars (default: AWS Lambda's list price, 1 GB)")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What :func:`planner.plan` takes, read and checked."""

    model: "Model"
    device: "Profile"
    cloud: "Profile"
    link: "Link"
    parts: dict[str, Any]
    evaluation: "Evaluation | None"
    say: Say


def question(args: argparse.Namespace, model: "Model", say: Say) -> Question:
    """The flags as values.

    Raises:
        PlannerError: a file cannot be read, or a flag says nothing that makes sense.
    """
    from planner.links import parse_link
    from planner.loads import Load, read_load
    from planner.planning import LOSSLESS
    from planner.profiles import read_profile
    from planner.tariffs import LAMBDA_1_GB, parse_tariff
    from protos import codecs
    from protos.errors import WireError

    try:
        extra = [str(codecs.parse(text)) for text in args.codec]
    except WireError as error:
        raise PlannerError(str(error)) from error
    if args.accuracy_drop is not None and args.evaluate is None:
        raise PlannerError("--accuracy-drop needs data to measure on: give --evaluate DATA")
    evaluation = _evaluation(args, model, say)
    parts = {
        "objective": args.objective,
        "codecs": (*LOSSLESS, *extra),
        "limits": _limits(args),
        "raw_input_may_leave": not args.no_raw_input,
        "on_device": args.on_device,
        "in_cloud": args.in_cloud,
        "judge": evaluation.judge if evaluation else None,
        "accuracy_drop": 0.005 if args.accuracy_drop is None else args.accuracy_drop,
        "load": read_load(args.cloud_load) if args.cloud_load else Load(),
        "power": _power(args),
        "tariff": parse_tariff(args.tariff) if args.tariff else LAMBDA_1_GB,
    }
    return Question(
        model=model,
        device=read_profile(args.device).scaled(args.device_speed),
        cloud=read_profile(args.cloud),
        link=parse_link(args.link),
        parts=parts,
        evaluation=evaluation,
        say=say,
    )


def answer(asked: Question, args: argparse.Namespace) -> "PlanDocument":
    """The plan document; what was measured on the way is written to ``--fidelity``."""
    from planner.fidelity import write_fidelity
    from planner.planning import plan

    document = plan(asked.model, asked.device, asked.cloud, asked.link, **asked.parts)
    if args.cascade is not None or args.cascade_output is not None:
        document = _with_cascade(document, asked, args)
    if asked.evaluation is not None and args.fidelity is not None:
        write_fidelity(asked.evaluation.document(), args.fidelity)
    return document


def pareto(asked: Question, text: str) -> "tuple[Plan, ...]":
    """The plans of the front of two objectives, from the best in the first."""
    from planner.planning import plan_front

    names = [part.strip() for part in text.split(",")]
    pair: tuple[Name, ...] = tuple(name for name in NAMES if name in names)
    if len(names) != 2 or len(pair) != 2:
        raise PlannerError(f"--pareto {text[:60]!r} is no pair: give two of {', '.join(NAMES)}")
    if names[0] != pair[0]:
        pair = pair[::-1]
    parts = {k: v for k, v in asked.parts.items() if k not in ("objective", "judge")}
    del parts["accuracy_drop"]
    return plan_front(
        asked.model, asked.device, asked.cloud, asked.link, pair=(pair[0], pair[1]), **parts
    )


def tiers(asked: Question, between: Sequence[str]) -> "TierPlan":
    """The placement over device, the tiers between, and the cloud."""
    from planner.links import parse_link
    from planner.profiles import read_profile
    from planner.tiering import plan_tiers

    profiles, links = {"device": asked.device}, []
    for number, text in enumerate(between, start=1):
        path, comma, link = text.partition(",")
        if not comma:
            raise PlannerError(
                f"--tier {text[:60]!r} lacks its link: write it as gateway.json,WiFi"
            )
        profiles[f"{Path(path).stem} ({number})"] = read_profile(Path(path))
        links.append(parse_link(link))
    profiles["cloud"] = asked.cloud
    return plan_tiers(
        asked.model,
        profiles,
        (*links, asked.link),
        codecs=asked.parts["codecs"],
        raw_input_may_leave=asked.parts["raw_input_may_leave"],
    )


def _limits(args: argparse.Namespace) -> Any:  # noqa: ANN401  Limits, imported late
    from planner.limits import Limits

    limits = Limits()
    if args.slo:
        text, at, share = args.slo.partition("@")
        limits = replace(limits, latency_s=quantity(text, SECONDS, "time"))
        if at:
            try:
                limits = replace(limits, quantile=float(share))
            except ValueError as error:
                raise PlannerError(
                    f"--slo {args.slo!r} has no quantile after @: write it as 100ms@0.95"
                ) from error
    if args.max_energy:
        limits = replace(limits, energy_j=quantity(args.max_energy, JOULES, "energy"))
    if args.max_cost is not None:
        limits = replace(limits, usd=args.max_cost / 1e6)
    if args.max_memory:
        limits = replace(limits, device_bytes=quantity(args.max_memory, BYTES, "size"))
    if args.max_tensors is not None:
        limits = replace(limits, tensors=args.max_tensors)
    return limits


def _power(args: argparse.Namespace) -> Any:  # noqa: ANN401  Power, imported late
    from planner.energy import RADIOS
    from planner.planning import Power

    if args.radio is not None and args.radio not in RADIOS:
        raise PlannerError(f"there is no radio {args.radio!r}: it is one of {', '.join(RADIOS)}")
    if not args.device_power:
        return None
    radio = RADIOS[args.radio] if args.radio else None
    return Power(busy_w=quantity(args.device_power, WATTS, "power"), radio=radio)


def _evaluation(args: argparse.Namespace, model: "Model", say: Say) -> "Evaluation | None":
    if args.cascade is not None and args.cascade_output is not None:
        raise PlannerError("--cascade and --cascade-output are two ways to one thing: give one")
    if args.evaluate is None:
        if any((args.fidelity, args.cascade, args.cascade_output)):
            raise PlannerError("--fidelity and --cascade need data: give --evaluate DATA")
        return None
    from planner.dataset import read_dataset
    from planner.fidelity import Evaluation, read_fidelity

    if args.samples is not None and args.samples < 1:
        raise PlannerError(f"--samples must be at least 1, got {args.samples}")
    known = None
    if args.fidelity is not None and args.fidelity.exists():
        known = read_fidelity(args.fidelity)
    dataset = read_dataset(args.evaluate, model, args.samples)
    return Evaluation(model, dataset, known=known, report=say)


def _with_cascade(
    document: "PlanDocument", asked: Question, args: argparse.Namespace
) -> "PlanDocument":
    from planner.cascade import NoCascade, Rest, choose
    from planner.cascade.measuring import measure_cascade
    from planner.model import read

    assert asked.evaluation is not None
    plan, link = document.plan(document.choice), document.link
    run = measure_cascade(
        asked.evaluation,
        None if args.cascade is None else read(args.cascade, steps=args.cascade_steps),
        early=args.cascade_output,
        crossing=tuple((each.tensor, each.codec) for each in plan.crossing),
        report=asked.say,
    )
    # The small model was timed here: the device is as much slower as it is on the large one.
    slower = asked.device.whole_s / max(asked.cloud.whole_s, 1e-9)
    small = replace(run.small, seconds=run.small.seconds * slower)
    alone_s = plan.total_s(link.up_bps, link.rtt_s, link.down_bps)
    done_s = 0.0 if args.cascade_output is None else small.seconds
    rest = Rest(
        plan=plan.id,
        seconds=max(alone_s - done_s, 0.0),
        upload_bytes=plan.upload_bytes,
        alone_s=alone_s,
    )
    found = choose(
        run.measured,
        small,
        rest,
        accuracy_drop=asked.parts["accuracy_drop"],
    )
    if isinstance(found, NoCascade):
        asked.say(f"no cascade: {found.reason}")
        return document
    return msgspec.structs.replace(document, cascade=found)
