"""Files in and out of the page cache."""

import ctypes
import mmap
import os
import time
from collections.abc import Iterable
from pathlib import Path

CHUNK_BYTES = 1 << 20
SMALL_BYTES = 4096


def files(*places: Path) -> tuple[Path, ...]:
    """The regular files among *places* and below them that fill a page at least."""
    found = (path for place in places for path in (place, *sorted(place.rglob("*"))))
    return tuple(
        path
        for path in found
        if path.is_file() and not path.is_symlink() and path.stat().st_size >= SMALL_BYTES
    )


def drop(paths: Iterable[Path]) -> None:
    """Have the kernel forget *paths*: ``posix_fadvise`` with DONTNEED, after they are on disk.

    Pages that a process maps stay.
    """
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # dirty pages are not dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def read_s(paths: Iterable[Path]) -> float:
    """Read *paths* from end to end, a MiB at a time; gives the seconds."""
    buffer = bytearray(CHUNK_BYTES)
    began = time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - began


def resident(path: Path) -> float:
    """The share of *path*'s pages that lie in the page cache, 0 to 1.

    Raises:
        OSError: the kernel does not say.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    )  # fmt: skip
    size = path.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    marks = (ctypes.c_ubyte * pages)()
    with path.open("rb") as file:
        # Not Python's mmap: the address of a read-only one cannot be had.
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), marks):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
    return sum(mark & 1 for mark in marks) / pages
