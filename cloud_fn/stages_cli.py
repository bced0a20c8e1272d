"""``isthmus functions stage``: part a model that is beyond one instance into several."""

import argparse
import math
import os
import sys
from pathlib import Path

from cloud_fn import config
from planner.words import show_bytes, show_s
from protos.documents import encode_json

EMPTY_BYTES = 32 << 20
"""What an instance may take before it holds a model: 4 MiB, and room for messages and codecs."""


def mount(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the action."""
    stage = actions.add_parser(
        "stage", help="run a model that is beyond one instance's limits in stages over several"
    )
    stage.add_argument("model", metavar="NAME[:VERSION]")
    stage.add_argument(
        "--max-memory-bytes",
        type=float,
        metavar="N",
        help="of one stage's weights and tensors (the function's limit, less what is empty)",
    )
    stage.add_argument(
        "--max-execution-s", type=float, metavar="S", help="of one stage's ops (no bound)"
    )
    stage.add_argument(
        "--profile", type=Path, metavar="P.json", help="of `isthmus profile` on such an instance"
    )
    stage.add_argument(
        "--stream",
        action="store_true",
        help="make the slowest stage least, and not the time of one invocation",
    )
    stage.add_argument("--least", type=int, default=1, metavar="N", help="stages at least (1)")
    stage.add_argument("--whole", action="store_true", help="run it whole again")
    stage.add_argument(
        "--root",
        metavar="DIR",
        help="the registry (ISTHMUS_SERVE_REGISTRY, ~/.local/share/isthmus/registry)",
    )
    stage.add_argument(
        "--config", type=Path, metavar="CLOUD.toml", help="the server's configuration file"
    )
    stage.add_argument("--json", action="store_true", help="print one JSON document")
    stage.set_defaults(run=_stage)


def _stage(args: argparse.Namespace) -> int:
    from cloud_fn.functions.spec import Function
    from cloud_fn.functions.specifications import Specifications
    from cloud_fn.registry import Catalog
    from cloud_fn.registry.function_store import FunctionStore
    from cloud_fn.registry.stage_store import StageStore
    from planner.model import read
    from planner.profiles import read_profile
    from planner.staging import LOCAL, stages

    loaded = config.load(args.config, os.environ, {"registry": args.root})
    catalog = Catalog(loaded.registry_path)
    store = StageStore(catalog.root)
    name, _, version = args.model.partition(":")
    manifest = catalog.manifest(name, version)
    called = f"{manifest.name}:{manifest.version}"
    if args.whole:
        was = store.remove(manifest.name, manifest.version)
        _tell(f"{called} runs whole" + ("" if was else ", as it did"))
        return 0
    function = Function.of(manifest, catalog)
    settings = Specifications(catalog, FunctionStore(catalog.root), loaded.instance).resolved(name)
    limit_bytes = args.max_memory_bytes or settings.max_memory_bytes - EMPTY_BYTES
    steps = None if function.steps_path is None else Path(function.steps_path)
    model = read(Path(function.model_path), steps=steps, dims=function.dims)
    _tell(f"looking for the fewest stages of {called}, up to half a minute ...")
    staging = stages(
        model,
        None if args.profile is None else read_profile(args.profile),
        max_memory_bytes=limit_bytes,
        max_execution_s=args.max_execution_s or math.inf,
        transfer=LOCAL,
        objective="throughput" if args.stream else "latency",
        least=args.least,
    )
    store.put(manifest, staging)
    if args.json:
        sys.stdout.write(encode_json(staging).decode())
        return 0
    for number, each in enumerate(staging.stages, 1):
        sys.stdout.write(
            f"stage {number}  {len(each.ops):>4} ops  weights {show_bytes(each.weight_bytes):>9}  "
            f"tensors {show_bytes(each.peak_bytes):>9}  moved {show_bytes(each.moved_bytes):>9}  "
            f"{show_s(each.seconds)}\n"
        )
    proved = (
        "no fewer will do"
        if staging.fewest == len(staging.stages)
        else (f"at least {staging.fewest} are needed")
    )
    sys.stdout.write(f"{called} runs in {len(staging.stages)} stages; {proved}\n")
    return 0


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
