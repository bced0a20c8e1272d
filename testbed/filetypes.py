"""Magika's input: the beginning and the end of a file as numbers.

Source: magika 1.0.3, ``magika.py`` and ``models/standard_v3_3/config.min.json``.
"""

import numpy as np
import numpy.typing as npt

BLOCK_BYTES = 4096
TOKENS = 1024
PADDING = 256


def magika_input(content: bytes) -> npt.NDArray[np.int32]:
    """Shape ``(1, 2048)``: 1024 bytes after leading space, 1024 before trailing, 256 for none."""
    begin = content[:BLOCK_BYTES].lstrip()[:TOKENS]
    end = content[-BLOCK_BYTES:].rstrip()[-TOKENS:]
    out = np.full((1, 2 * TOKENS), PADDING, dtype=np.int32)
    out[0, : len(begin)] = np.frombuffer(begin, dtype=np.uint8)
    out[0, 2 * TOKENS - len(end) :] = np.frombuffer(end, dtype=np.uint8)
    return out
