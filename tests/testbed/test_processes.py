"""Children of ours: ready or dead in time, and nothing left running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from testbed.errors import NotInstalled, ProcessDied
from testbed.processes import Leftover, Processes, write_ready

pytestmark = pytest.mark.integration

READY = 'import pathlib, sys; pathlib.Path(sys.argv[-1]).write_text(\'{"address": "a:1"}\')\n'
FOR_EVER = "import signal\nwhile True: signal.pause()\n"


def python(*lines: str) -> list[str]:
    return [sys.executable, "-c", "".join(lines)]


def test_a_child_is_ready_when_it_has_written_its_file(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        child, facts = processes.start_ready("it", python(READY, FOR_EVER))
        assert (facts, child.running) == ({"address": "a:1"}, True)
        assert [left.pid for left in processes.left_running()] == [child.pid]
        assert child.stop() == -signal.SIGTERM
        assert processes.left_running() == ()


def test_a_child_that_dies_early_is_reported_with_its_last_line(tmp_path: Path) -> None:
    words = "import sys; print('first', file=sys.stderr); sys.exit('port 1883 is taken')"
    with Processes(tmp_path) as processes, pytest.raises(ProcessDied) as caught:
        processes.start_ready("it", python(words))
    assert str(caught.value) == "it ended with exit code 1 before it was ready: port 1883 is taken"


def test_a_child_killed_early_is_reported_by_its_signal(tmp_path: Path) -> None:
    words = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with Processes(tmp_path) as processes, pytest.raises(ProcessDied) as caught:
        processes.start_ready("it", python(words))
    assert str(caught.value) == (
        f"it ended with SIGKILL before it was ready; its log {tmp_path / 'it.log'} is empty"
    )


def test_a_child_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        with pytest.raises(ProcessDied, match=r"it was not ready within 0\.2 s"):
            processes.start_ready("it", python(FOR_EVER), limit_s=0.2)
        assert processes.left_running() == ()


def test_a_program_that_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes, pytest.raises(NotInstalled) as caught:
        processes.start("it", ["/none/such"])
    assert str(caught.value) == (
        "/none/such cannot be started (No such file or directory): install it, or put it in PATH"
    )


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    with Processes(tmp_path) as processes:
        child, _ = processes.start_ready("it", python(deaf, READY, FOR_EVER))
        assert child.stop(grace_s=0.1) == -signal.SIGKILL


def test_grandchildren_in_the_group_end_with_the_child(tmp_path: Path) -> None:
    """Even when the child itself obeys at once and leaves a deaf one behind."""
    deaf = f"{sys.executable!r}, '-c', 'import signal, time; {{}} time.sleep(600)'"
    fork = (
        "import subprocess\n"
        "p = subprocess.Popen(["
        + deaf.format("signal.signal(15, signal.SIG_IGN); print(1, flush=True);")
        + "], stdout=subprocess.PIPE); p.stdout.readline()\n"
    )
    with Processes(tmp_path) as processes:
        child, _ = processes.start_ready("it", python(fork, READY, FOR_EVER))
        assert len(processes.left_running()) == 2
        child.stop(grace_s=0.2)
        assert processes.left_running() == ()


def test_a_descendant_that_left_the_group_is_found_and_ended_with_the_block(
    tmp_path: Path,
) -> None:
    fork = (
        "import subprocess\n"
        "p = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))\n"
    )
    with Processes(tmp_path) as processes:
        child, _ = processes.start_ready("it", python(fork, READY, FOR_EVER))
        child.stop()
        pid = int((tmp_path / "pid").read_text())
        assert processes.left_running() == (Leftover(pid=pid, command="sleep 600"),)
    assert processes.left_running() == ()


def test_another_runs_processes_are_not_ours(tmp_path: Path) -> None:
    with Processes(tmp_path / "a") as ours, Processes(tmp_path / "b") as theirs:
        theirs.start_ready("it", python(READY, FOR_EVER))
        assert ours.left_running() == ()


def test_what_is_added_to_the_environment_reaches_the_child(tmp_path: Path) -> None:
    words = "import os; print(os.environ['COLOUR'])"
    with Processes(tmp_path) as processes:
        child = processes.start("it", python(words), environ={"COLOUR": "blue"})
        assert (child.wait(30), child.last_line()) == (0, "blue")


def test_a_ready_file_holds_the_pid_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    path.write_text("old")
    write_ready(path, {"address": "127.0.0.1:8001"})
    assert path.read_text() == f'{{"pid": {os.getpid()}, "address": "127.0.0.1:8001"}}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    """SIGTERM to the program that started them, as `timeout` or a service manager sends it."""
    program = f"""
import pathlib, sys, time
from testbed.processes import Processes
folder = pathlib.Path({str(tmp_path)!r})
with Processes(folder) as processes:
    child = processes.start("it", [sys.executable, "-c", "import time; time.sleep(600)"])
    (folder / "pid").write_text(str(child.pid))
    time.sleep(600)
"""
    run = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline, "the child was not started"
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    run.terminate()
    assert run.wait(30) == 143
    assert not psutil.pid_exists(pid)
