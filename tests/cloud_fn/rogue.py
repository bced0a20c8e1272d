"""What an instance is made of in tests: functions that do what they are asked, good or bad."""

import json
import mmap
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cloud_fn.functions import Function
from cloud_fn.functions.instance import Executed
from protos.tensors import Buffer

MiB = 1 << 20


class Rogue:
    """Runs the action that a request names, with its arguments; answers with JSON."""

    def __init__(self, function: Function) -> None:
        if function.model == "broken":
            raise ValueError("a function that\ncannot be made")
        self._kept: list[object] = []

    def execute(self, data: Buffer) -> Executed:
        name, *arguments = json.loads(bytes(data))
        action: Callable[..., Any] = getattr(self, f"do_{name}")
        body = json.dumps(action(*arguments)).encode()
        return Executed(body=body, load_s=0.0, infer_s=0.0)

    def do_echo(self, value: object) -> object:
        return value

    def do_about(self) -> dict[str, object]:
        """What the process is and has."""
        return {
            "pid": os.getpid(),
            "session": os.getsid(0),
            "folder": str(Path.cwd()),
            "home": os.environ["HOME"],
            "temporary": os.environ["TMPDIR"],
            "cluster": [name for name in os.environ if name.startswith("RAY_")],
            "given": os.environ.get("GIVEN"),
            "main": sys.modules["__main__"].__name__,
            "cpus": sorted(os.sched_getaffinity(0)),
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        }

    def do_reserve(self, mib: int) -> int:
        return int(np.ones(mib * MiB, np.uint8).nbytes)

    def do_share(self, mib: int) -> None:
        """Take memory that could be shared, which no wall of the process's own stands against."""
        memory = mmap.mmap(-1, mib * MiB)
        self._kept.append(memory)
        for at in range(0, len(memory), mmap.PAGESIZE):
            memory[at] = 1
        signal.pause()

    def do_map(self, mib: int) -> int:
        """Read a file of the function's own through a mapping."""
        path = Path("weights")
        with path.open("wb") as file:
            file.truncate(mib * MiB)
        return int(np.memmap(path, np.uint8, "r").sum())

    def do_write(self, path: str) -> str:
        try:
            Path(path).write_text("x")
        except OSError as error:
            return type(error).__name__
        return "written"

    def do_read(self, path: str) -> str:
        try:
            return Path(path).read_text()
        except OSError as error:
            return type(error).__name__

    def do_open(self, count: int) -> int:
        for number in range(count):
            try:
                self._kept.append(Path(f"f{number}").open("w"))  # noqa: SIM115
            except OSError:
                return number
        return count

    def do_close(self) -> None:
        self._kept.clear()

    def do_signal(self, pid: int) -> str:
        try:
            os.kill(pid, 0)
        except OSError as error:
            return type(error).__name__
        return "sent"

    def do_print(self, mib: int) -> None:
        line = "x" * 99 + "\n"
        for _ in range(mib * MiB // 100):
            sys.stdout.write(line)
        print("the end \x1b[2J")  # noqa: T201
        sys.stdout.flush()

    def do_child(self) -> int:
        """Start a process."""
        return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]).pid

    def do_hide(self) -> int:
        """Start a process that leaves the session and has no parent, and give its number."""
        code = (
            "import os, signal\n"
            "if os.fork(): os._exit(0)\n"
            "os.setsid()\n"
            "if os.fork(): os._exit(0)\n"
            "print(os.getpid(), flush=True)\n"
            "signal.pause()\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        process.wait()
        assert process.stdout is not None
        return int(process.stdout.readline())

    def do_leave(self) -> int:
        """Start a process in a session of its own, whose parent stays."""
        code = "import signal; signal.pause()"
        return subprocess.Popen([sys.executable, "-c", code], start_new_session=True).pid

    def do_exit(self, code: int) -> None:
        os._exit(code)
