"""``isthmus functions backtest``: what each scaling policy would have done on a log."""

import argparse
import math
import os
import sys
from pathlib import Path

from cloud_fn import config
from cloud_fn.errors import ServeError
from protos.documents import encode_json


def mount(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = actions.add_parser("backtest", help="what each scaling policy would do on a log")
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="PATH",
        help="invocations.csv as in the Azure Functions trace of 2019, or a folder with it and "
        "memory.csv (default: the gateway's own log)",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="the registry whose gateway's log it is (ISTHMUS_SERVE_REGISTRY, "
        "~/.local/share/isthmus/registry)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        action="append",
        metavar="X",
        help="idle memory for the back-tested policy, as a multiple of what a fixed keep-alive of "
        "10 minutes takes; may be repeated (default: 0.4 to 1.4)",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the frontier as a page")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare the policies on the trace, and print it."""
    from cloud_fn.functions.backtest.compare import BUDGETS, compare
    from cloud_fn.functions.backtest.page import write_page
    from cloud_fn.functions.backtest.show import explain
    from cloud_fn.functions.backtest.trace import TraceError, own_log, read_trace
    from planner.terminal import show

    budgets = tuple(sorted(set(args.budget or BUDGETS)))
    if not all(math.isfinite(budget) and budget > 0 for budget in budgets):
        raise TraceError("--budget must be more than 0, such as 0.8")
    if args.trace is None:
        trace = own_log(config.load(None, os.environ, {"registry": args.root}).registry_path)
    else:
        trace = read_trace(args.trace)
    comparison = compare(
        trace,
        budgets=budgets,
        say=_narrate,
    )
    if args.html is not None:
        try:
            write_page(args.html, comparison)
        except OSError as error:
            raise ServeError(f"{args.html} cannot be written: {error.strerror}") from error
    if args.json:
        sys.stdout.write(
            encode_json({"schema": "isthmus.backtest/1", "result": comparison}).decode()
        )
    else:
        show(explain(comparison))
    return 0


def _narrate(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
