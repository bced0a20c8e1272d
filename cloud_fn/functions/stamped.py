"""Whether a file of the registry's still holds what it held: read only where it has changed."""

from pathlib import Path

import msgspec

from cloud_fn.registry.manifest import StoredFile
from planner.memo import Stamp, sha256_of, stamp_of


def is_whole(file: StoredFile, stamp: Stamp) -> bool:
    """Whether a file holds what it held when it was as *stamp* says: if it changed, it is read."""
    path = Path(stamp.path)
    try:
        now = msgspec.structs.replace(
            stamp_of(path), device=stamp.device
        )  # a mount's, not a file's
        return now == stamp or sha256_of(path).hex() == file.digest
    except (OSError, EOFError):
        return False
