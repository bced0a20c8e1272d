"""Large weights that are not in memory yet, fetched beside the session that is opened over them.

A run touches one page after another, and waits for each. Small files come so fast that this hardly
matters, since their weights lie in the order in which a run reads them. Of large ones the second
half comes while a thread of its own asks for it, and not once the run gets there.
"""

import contextlib
import ctypes
import errno
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

LARGE_BYTES = 256 << 20
"""From here on fetching pays. First answer less a later one, with nothing in memory, without and
with it, medians of 7 in two rounds, ms (2 busy cores, 2026-11): convolutions of 475 MB 480 and 415,
then 712 and 504; a transformer of 487 MB 669 and 316, 936 and 1144; convolutions of 95 MB 39 and
58. With everything in memory it never helped."""

_LOOKS = 16
_POPULATE_READ = 22
"""MADV_POPULATE_READ, which Linux has since 5.14: fault all pages of a mapping in, to be read."""
_WAIT_S = 60.0


@contextlib.contextmanager
def coming(weights: Path | None) -> Iterator[threading.Thread | None]:
    """While something is opened that maps *weights*: have what is not in memory brought there.

    Where it is there already, nothing is done: a thread that populated the mapping would only take
    from the run what it saves.
    """
    if weights is None or not is_large(weights) or not is_cold(weights):
        yield None
        return
    mapped = threading.Event()
    thread = threading.Thread(
        target=_bring, args=(weights, mapped), name="instance.pages", daemon=True
    )
    thread.start()
    try:
        yield thread
    finally:
        mapped.set()


def is_large(path: Path) -> bool:
    """Whether fetching *path* ahead pays where it is not in memory."""
    try:
        return path.stat().st_size >= LARGE_BYTES
    except OSError:
        return False


def is_cold(path: Path) -> bool:
    """Whether some of *path* has to be read from the disk, going by a few looks along it."""
    try:
        with path.open("rb", buffering=0) as file:
            size = path.stat().st_size
            return any(
                _is_out(file.fileno(), size * look // _LOOKS) for look in range(_LOOKS) if size
            )
    except OSError:
        return False


def populate(path: Path) -> int:
    """Have this process's mappings of *path* filled; gives how many bytes they are.

    Raises:
        OSError: the kernel cannot do that.
    """
    total = 0
    for begin, end in _mappings(path):
        if _libc.madvise(begin, end - begin, _POPULATE_READ):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        total += end - begin
    return total


def _bring(weights: Path, mapped: threading.Event) -> None:
    try:
        with weights.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        if mapped.wait(_WAIT_S):
            populate(weights)
    except OSError as error:  # an old kernel, or a mapping that went: the run fetches them itself
        log.info("weights not fetched ahead: error=%s", error)


def _is_out(descriptor: int, offset: int) -> bool:
    try:
        os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


def _mappings(path: Path) -> Iterator[tuple[int, int]]:
    name = str(path.resolve())
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == name:
            begin, _, end = fields[0].partition("-")
            yield int(begin, 16), int(end, 16)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
