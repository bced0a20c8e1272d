"""``isthmus testbed run storm``."""

import argparse
import logging
import sys
from pathlib import Path

from protos.documents import encode_json


def mount(scenarios: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    storm = scenarios.add_parser(
        "storm", help="bursts of calls of many functions while instances are killed"
    )
    storm.add_argument(
        "--duration", type=float, default=300.0, metavar="S", help="how long (default 300)"
    )
    storm.add_argument(
        "--functions", type=int, default=10, metavar="N", help="how many (default 10)"
    )
    storm.add_argument(
        "--kill-every", type=float, default=5.0, metavar="S",
        help="seconds between two kills (default 5)",
    )  # fmt: skip
    storm.add_argument(
        "--nodes",
        type=int,
        default=1,
        metavar="N",
        help="nodes of Ray, all on this machine (default 1)",
    )
    storm.add_argument("--seed", type=int, default=0, metavar="N", help="of calls and kills")
    storm.add_argument(
        "--trace", type=Path, metavar="CSV",
        help="calls by function and minute (default: azure2019 where it is at hand, else made up)",
    )  # fmt: skip
    storm.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and registry here")
    storm.add_argument("--json", action="store_true", help="print one JSON document")
    storm.set_defaults(run=_storm)


def _storm(args: argparse.Namespace) -> int:
    from testbed.scenarios.storm.play import Weather, run_storm
    from testbed.scenarios.storm.show import show

    logging.getLogger("testbed").setLevel(logging.WARNING)
    result = run_storm(
        Weather(
            seconds=args.duration,
            functions=args.functions,
            kill_every_s=args.kill_every,
            seed=args.seed,
            nodes=args.nodes,
            trace=args.trace,
        ),
        keep=args.keep,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if args.json:
        sys.stdout.write(encode_json(result).decode())
    else:
        show(result)
    return 0 if result.all_right else 1
