"""What a library prints past Python's own stdout must not end up among the results."""

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, os
from planner.solve.stray import stdout_is_stderr
print("before")
with stdout_is_stderr():
    ctypes.CDLL(None).puts(b"stray")
print("after")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the C library is found otherwise there")
def test_a_line_that_c_prints_goes_to_stderr() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "before\nafter\n"
    assert done.stderr == "stray\n"
