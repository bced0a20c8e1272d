"""``isthmus functions run``: a long job at a gateway that runs, which goes on after any end."""

import argparse
import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from cloud_fn import config
from cloud_fn.errors import InvalidRequest, ServeError
from protos.documents import encode_json

if TYPE_CHECKING:
    from cloud_fn.caller import Caller
    from cloud_fn.job_inputs import Requests
    from protos.invocation import Reply, StreamError

_SAY_EACH_S = 5.0
_MOST_PARALLEL = 64


def mount(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the action."""
    run = actions.add_parser(
        "run",
        help="ask a function for many inputs, or again and again; goes on where it was",
        description="Asks a function for each input, and writes what became of each. Killed at "
        "any time, it goes on where it was when it is run again with the same arguments.",
    )
    run.add_argument("model", metavar="NAME[:VERSION]")
    run.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="PATH",
        help="a folder, each file of which is what a sensor says, such as an image; or a file with "
        "a request on each line, as the Open Inference Protocol's JSON has it",
    )
    run.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT.jsonl",
        help="a line for each input: its reply, or why there is none; of a loop, the last reply",
    )
    run.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="where it notes what is done (OUT.jsonl.job)"
    )
    run.add_argument(
        "--parallel", type=int, default=4, metavar="N", help="requests at one time (4)"
    )
    run.add_argument("--retry", action="store_true", help="ask those again that were refused")
    run.add_argument(
        "--feed",
        action="append",
        default=[],
        metavar="OUTPUT=INPUT",
        help="a loop: ask the one request again, with this output as that input; may be repeated",
    )
    run.add_argument("--steps", type=int, metavar="N", help="how often the loop asks")
    run.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="of one request (600)"
    )
    run.add_argument(
        "--gateway",
        default="127.0.0.1:8001",
        metavar="HOST:PORT",
        help="the gateway (127.0.0.1:8001)",
    )
    run.add_argument("--key-file", type=Path, metavar="FILE", help="its first key opens the door")
    run.add_argument("--json", action="store_true", help="print one JSON document")
    run.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from cloud_fn.auth import first_key
    from cloud_fn.caller import Caller
    from cloud_fn.job_inputs import Requests

    if bool(args.feed) != (args.steps is not None):
        raise InvalidRequest("a loop takes both --feed OUTPUT=INPUT and --steps N, a list neither")
    if not 1 <= args.parallel <= _MOST_PARALLEL:
        raise InvalidRequest(f"--parallel {args.parallel}: use 1 to {_MOST_PARALLEL}")
    gateway = config.Address.parse(args.gateway)
    key = first_key(args.key_file)
    name, _, version = args.model.partition(":")
    requests = Requests(args.input, model=name, version=version)
    folder = args.checkpoint or args.output.with_name(f"{args.output.name}.job")
    with _stoppable() as stop, Caller(gateway, key, timeout_s=args.timeout, stop=stop) as caller:
        made = (_loop if args.feed else _list)(args, requests, folder, caller, stop)
    _conclude(made, args, folder)
    return 1 if made.refused else 0


def _list(
    args: argparse.Namespace,
    requests: "Requests",
    folder: Path,
    caller: "Caller",
    stop: threading.Event,
) -> "_Made":
    from cloud_fn.functions.checkpoint import Checkpoint
    from cloud_fn.functions.outcomes import outcomes, run_list
    from cloud_fn.functions.steps import Listed

    job, count = Listed(requests), len(requests)
    checkpoint = Checkpoint(folder, job.digest, keep=None)
    progress = _Progress(count)
    asking = run_list(
        caller.ask, job, checkpoint, in_flight=args.parallel, retry=args.retry, stop=stop
    )
    with closing(asking) as found:
        for step, _ in found:
            progress.one(step)
    progress.end(stop)
    refused = _write(args.output, outcomes(checkpoint, count))
    return _Made(steps=count, asked=progress.asked, refused=refused)


def _loop(
    args: argparse.Namespace,
    requests: "Requests",
    folder: Path,
    caller: "Caller",
    stop: threading.Event,
) -> "_Made":
    from cloud_fn.functions.checkpoint import KEPT, Checkpoint
    from cloud_fn.functions.steps import Loop, run_steps
    from protos.wire import decode_reply

    if len(requests) != 1:
        raise InvalidRequest(f"{args.input} holds {len(requests)} requests: a loop begins with one")
    fed = dict(map(_fed, args.feed))
    try:
        job = Loop(first=requests[0], fed=fed, count=args.steps)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    checkpoint = Checkpoint(folder, job.digest, keep=KEPT)
    progress = _Progress(args.steps)
    for step, _ in run_steps(caller.ask, job, checkpoint, stop=stop):
        progress.one(step)
    progress.end(stop)
    last = checkpoint.reply(args.steps - 1)
    if last is None:
        raise ServeError(f"the last step in {folder} is damaged: run the job again")
    _write(args.output, [decode_reply(last)])
    return _Made(steps=args.steps, asked=progress.asked, refused=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What a job that is done came to: its steps, those asked in this run, those refused."""

    steps: int
    asked: int
    refused: int


@dataclass(slots=True)
class _Progress:
    """Tells how far a job of *of* steps is, now and then."""

    of: int
    asked: int = 0
    done: int = 0
    said_s: float = -math.inf

    def one(self, step: int) -> None:
        """The outcome of *step* is on disk."""
        self.asked, self.done = self.asked + 1, max(self.done, step + 1)
        now_s = time.monotonic()
        if now_s - self.said_s >= _SAY_EACH_S:
            self.said_s = now_s
            _say(f"{self.done} of {self.of}")

    def end(self, stop: threading.Event) -> None:
        """Nothing more is asked.

        Raises:
            KeyboardInterrupt: because it was told to stop.
        """
        if stop.is_set() and self.done < self.of:
            _say(f"stopped after {self.done} of {self.of}: run it again to go on")
            raise KeyboardInterrupt


@contextlib.contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """The first signal lets what is asked end; at the second the process ends: nothing is lost."""
    stop = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def asked(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        for number in before:
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, asked)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(path: Path, found: "Iterable[Reply | StreamError]") -> int:
    """Put the outcomes in *path*, whole; gives how many are refusals."""
    from cloud_fn.rest import encode_outcome
    from protos.invocation import StreamError

    draft, refused = path.with_name(f".{path.name}.{os.getpid()}"), 0
    try:
        with draft.open("wb") as file:
            for outcome in found:
                file.write(encode_outcome(outcome))
                refused += isinstance(outcome, StreamError)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise ServeError(
            f"{path} cannot be written ({error.strerror}): mend that and run the job again"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return refused


def _conclude(made: _Made, args: argparse.Namespace, folder: Path) -> None:
    if args.json:
        document = {
            "schema": "isthmus.job/1",
            "model": args.model,
            "steps": made.steps,
            "asked": made.asked,
            "refused": made.refused,
            "output": str(args.output),
            "checkpoint": str(folder),
        }
        sys.stdout.write(encode_json(document).decode())
        return
    before = f", {made.steps - made.asked} done before" if made.asked < made.steps else ""
    sys.stdout.write(
        f"{made.steps - made.refused} of {made.steps} answered{before}: {args.output}\n"
    )
    if made.refused:
        _say(f"refused, each with its reason there: {made.refused}; ask again with --retry")


def _fed(text: str) -> tuple[str, str]:
    output, equals, name = text.partition("=")
    if not (output and equals and name):
        raise InvalidRequest(f"--feed {text[:80]!r} is not OUTPUT=INPUT: write it like --feed y=x")
    return output, name


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
