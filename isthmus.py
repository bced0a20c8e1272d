"""The command ``isthmus``: mounts each room's commands and turns errors into one sentence."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from protos.errors import IsthmusError

ROOMS = ("planner", "cloud_fn", "edge_agent", "testbed")


def parser() -> argparse.ArgumentParser:
    """Every command of every room that is installed."""
    root = argparse.ArgumentParser(
        prog="isthmus",
        description="Finds the narrow place in a neural network and runs one side on the device, "
        "the other as a serverless function.",
        epilog="exit status: 0 done, 1 the answer is no, 2 wrong usage or unreadable input",
    )
    root.add_argument("-v", "--verbose", action="store_true", help="narrate more, on stderr")
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    for room in ROOMS:
        importlib.import_module(f"{room}.cli").mount(commands)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    args = parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        return int(args.run(args))
    except IsthmusError as error:
        sys.stderr.write(f"isthmus: {error}\n")
        return error.exit_code
    except ModuleNotFoundError as error:
        sys.stderr.write(f"isthmus: {_missing(error)}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing more can be said on stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _missing(error: ModuleNotFoundError) -> str:
    extra = "cloud" if error.name and error.name.split(".")[0] == "ray" else "testbed"
    return f"this command needs {error.name}, which is not installed: pip install isthmus[{extra}]"


if __name__ == "__main__":
    sys.exit(main())
