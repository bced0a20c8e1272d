"""How much memory of its GPU an instance may take: its share of what the GPU has.

A host knows its GPU, for Ray tells it which; its instances are told by their environment.
"""

import logging
import os
import subprocess

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
MEMORY = "ISTHMUS_GPU_MEMORY_BYTES"

_ASK = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", "-i")
_ASK_S = 10.0
_MIB = 1 << 20


def note_memory() -> None:
    """Have every process that this one starts know the memory of the GPU that Ray has given it.

    Where there is none, or the driver's tool does not say, nothing is noted.
    """
    os.environ.pop(MEMORY, None)
    given = os.environ.get(VISIBLE, "").split(",")[0].strip()
    if not given or given.startswith(("-", "No")):  # Ray's and CUDA's ways of saying none
        return
    try:
        said = subprocess.run(
            [*_ASK, given], capture_output=True, text=True, check=True, timeout=_ASK_S
        ).stdout
        os.environ[MEMORY] = str(int(said.split()[0]) * _MIB)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        log.warning("memory unknown, shares of it do not bind: gpu=%s error=%s", given, reason)


def share_bytes(share: float) -> int | None:
    """What *share* of the GPU is, in bytes; None is no bound: all of it, or nobody knows.

    Args:
        share: 0 to 1; 0 says nothing.
    """
    noted = os.environ.get(MEMORY, "")
    if not noted.isdigit() or not 0 < share < 1:
        return None
    return int(int(noted) * share)
