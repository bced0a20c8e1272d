"""Landlock: what a process may open from now on, for itself and all that it will start.

Source: the kernel's Documentation/userspace-api/landlock.rst; the numbers are its ABI's.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_RIGHTS_OF_ABI = ((1, 13), (2, 14), (3, 15), (5, 16))
"""From which ABI on how many rights are known."""
_SCOPES_ABI = 6
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_DEVICE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """The version that the kernel speaks; 0 where it has none or it is switched off."""
    found = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(0, int(found))


class Ruleset:
    """What a process may open once :meth:`restrict` is called: what was allowed, nothing else.

    What is open already stays open. Where the kernel can, signals and abstract sockets reach only
    processes that are confined with this one. Without Landlock all of it does nothing.
    """

    def __init__(self) -> None:
        """Allow nothing yet.

        Raises:
            OSError: the kernel has Landlock and refused.
        """
        version = abi()
        bits = max((bits for since, bits in _RIGHTS_OF_ABI if since <= version), default=0)
        self._known = (1 << bits) - 1
        self._fd: int | None = None
        if version < 1:
            return
        scopes = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if version >= _SCOPES_ABI else 0
        self._fd = _call(
            _CREATE_RULESET,
            ctypes.byref(
                _Ruleset(handled_access_fs=self._known, handled_access_net=0, scoped=scopes)
            ),
            ctypes.c_size_t(ctypes.sizeof(_Ruleset) if scopes else 8),
            ctypes.c_uint32(0),
        )

    def allow_reading(self, paths: Iterable[str]) -> None:
        """Folders and files may be read and executed; those that are not there are left out."""
        self._allow(paths, _READ)

    def allow_writing(self, paths: Iterable[str]) -> None:
        """Anything may be done in folders but make devices."""
        self._allow(paths, self._known & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV))

    def allow_devices(self, paths: Iterable[str]) -> None:
        """Device files may be read, written and controlled."""
        self._allow(paths, _DEVICE)

    def restrict(self) -> bool:
        """Hold this thread to it, and all that it will start; says whether the kernel can.

        The process must have given up gaining privileges.

        Raises:
            OSError: the kernel refused.
        """
        if self._fd is None:
            return False
        _call(_RESTRICT_SELF, ctypes.c_int(self._fd), ctypes.c_uint32(0))
        os.close(self._fd)
        self._fd = None
        return True

    def _allow(self, paths: Iterable[str], rights: int) -> None:
        if self._fd is None:
            return
        for path in paths:
            try:
                found = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise
            try:
                is_folder = stat.S_ISDIR(os.fstat(found).st_mode)
                allowed = rights & self._known & (-1 if is_folder else _OF_FILES)
                rule = _PathBeneath(allowed_access=allowed, parent_fd=found)
                _call(
                    _ADD_RULE,
                    ctypes.c_int(self._fd),
                    ctypes.c_int(_PATH_BENEATH),
                    ctypes.byref(rule),
                    ctypes.c_uint32(0),
                )
            finally:
                os.close(found)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock, system call {number}: {os.strerror(code)}")
    return result


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
