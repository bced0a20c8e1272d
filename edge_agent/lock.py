"""One agent at a time per state folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from edge_agent.errors import SettingsError
from edge_agent.folder import LOCK_FILE


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the folder, made if need be; the kernel lets go of it however the process ends.

    Raises:
        SettingsError: another agent holds it, or it can't be made or written.
    """
    path = state_dir / LOCK_FILE
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = path.open("a+")
    except OSError as error:
        raise SettingsError(
            f"state_dir {state_dir} cannot be used ({error.strerror}): give one that we may write"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            pid = file.read().strip() or "?"
            raise SettingsError(
                f"another agent (pid {pid}) uses {state_dir}: stop it, or give this one its own"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def is_locked(state_dir: Path) -> bool:
    """Whether an agent runs on the folder."""
    try:
        with (state_dir / LOCK_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
