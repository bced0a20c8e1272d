"""What a host must know to be one."""

import msgspec

from cloud_fn.functions.spare import ENGINE
from cloud_fn.processes import Mark

SILENCE_S = 10.0
"""Longer than any gateway that lives says nothing: it asks twice a second."""


class HostSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Given to a host when it is placed.

    Attributes:
        folder: its own, for its socket and its instances'.
        gateway: the process that it works for, and ends with.
        spares: how many forked processes wait for a function.
        readable: what instances may read, beside the system's, Python's and their models' files.
        engine: see :data:`cloud_fn.functions.spare.ENGINE`.
        silence_s: a lease ends when nothing is said under it for so long.
    """

    folder: str
    gateway: Mark
    spares: int = 2
    readable: tuple[str, ...] = ()
    engine: str = ENGINE
    silence_s: float = SILENCE_S
