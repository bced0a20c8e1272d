"""A line that HiGHS prints though it is told to be silent is kept off stdout.

HiGHS 1.12, as scipy 1.17 holds it, writes "HighsMipSolverData::transformNewIntegerFeasibleSolution"
to the process's stdout when it solves a relaxation once more (HiGHS.jl issue 312). Results go to
stdout here, so while it solves, stdout is stderr, where nothing is lost.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

_OUT, _ERR = 1, 2


@contextlib.contextmanager
def stdout_is_stderr() -> Iterator[None]:
    """What is written to the process's stdout within the block goes to its stderr."""
    try:
        kept = os.dup(_OUT)
    except OSError:  # the process has no stdout
        yield
        return
    try:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        try:
            os.dup2(_ERR, _OUT)
        except OSError:  # nor a stderr: then what is printed is lost nowhere
            yield
            return
        try:
            yield
        finally:
            _flush()
            os.dup2(kept, _OUT)
    finally:
        os.close(kept)


def _flush() -> None:
    """Have the C library write what it holds back, while stdout is still elsewhere."""
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)
