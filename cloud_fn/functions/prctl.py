"""What a process tells Linux about itself."""

import ctypes
import os
import signal

_SET_PDEATHSIG = 1
_SET_NAME = 15
_SET_CHILD_SUBREAPER = 36
_SET_NO_NEW_PRIVS = 38


def name_process(name: str) -> None:
    """Be called *name*, of at most 15 characters, in ``ps`` and ``top``."""
    _prctl(_SET_NAME, ctypes.c_char_p(name.encode()))


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends, whatever ends it.

    A parent that ended before this call is not noticed.
    """
    _prctl(_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def gain_no_privileges() -> None:
    """Have no program that is run from here on, set-user-ID or other, get more than this one."""
    _prctl(_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))


def _prctl(option: int, value: "ctypes.c_ulong | ctypes.c_char_p") -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, value, zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


_libc = ctypes.CDLL(None, use_errno=True)
