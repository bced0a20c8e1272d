"""What a process tells Linux about itself."""

import ctypes
import os
import signal
from pathlib import Path

_SET_PDEATHSIG = 1
_SET_NAME = 15
_SET_CHILD_SUBREAPER = 36
_SET_NO_NEW_PRIVS = 38
_CAP_VERSION = 0x2008_0522
_FILE_CAPABILITIES = 0b11111  # CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID


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


def keep_file_capabilities() -> None:
    """Of what root may do and others may not, keep what is about files' owners and modes.

    Else root raises its own limits, and reads of others what Landlock keeps from everybody else
    (``/proc/PID/environ``: Linux 6.18 lets CAP_PERFMON).
    """
    words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kept = int(words["CapPrm"], 16) & _FILE_CAPABILITIES
    header = _CapHeader(version=_CAP_VERSION, pid=0)
    # The kernel takes 64 bits as two sets of 32; ours are all in the first.
    data = (_CapData * 2)(_CapData(effective=kept, permitted=kept, inheritable=0))
    if _libc.capset(ctypes.byref(header), data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _prctl(option: int, value: "ctypes.c_ulong | ctypes.c_char_p") -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, value, zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


_libc = ctypes.CDLL(None, use_errno=True)
