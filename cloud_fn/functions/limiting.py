"""What a function's settings mean to the pool: limits, a scaling policy, a host of some kind."""

import os
import zlib
from collections.abc import Callable, Mapping

from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.launch import CPU, CUDA
from cloud_fn.functions.logbook import USUAL_BYTES
from cloud_fn.functions.scaling import Learned, policy_of
from cloud_fn.functions.settings import Resolved
from cloud_fn.functions.slot import Limits
from cloud_fn.functions.spec import Function


class Limiting:
    """The limits of each function as its settings are now; safe to use from many threads.

    While they stay the same, so does the object, which tells the pool that nothing changed.
    """

    def __init__(self, resolved: Callable[[str], Resolved], *, open_files: int) -> None:
        """Prepare.

        Args:
            resolved: what holds for the function of a name.
            open_files: of one instance at one time.
        """
        self._resolved = resolved
        self._open_files = open_files
        self._learned = Learned()
        self._sizes: Mapping[str, int] = {}
        self._known: dict[str, tuple[Resolved, Learned, Limits]] = {}

    def learn(self, learned: Learned, sizes: Mapping[str, int]) -> None:
        """What the logs say from now on, and what an instance of each function takes, in bytes."""
        self._sizes = sizes
        self._learned = learned

    def __call__(self, function: Function) -> Limits:
        """What *function* may use.

        Raises:
            RegistryError: its settings cannot be read.
        """
        found, learned = self._resolved(function.name or function.model), self._learned
        known = self._known.get(function.key)
        if known is not None and known[1] is learned and (known[0] is found or known[0] == found):
            return known[2]
        limits = Limits(
            concurrency=found.places(batched=any(each.batched for each in function.ready)),
            min_instances=found.min_instances,
            max_instances=found.max_instances,
            max_execution_s=found.max_execution_s,
            start_timeout_s=found.start_timeout_s,
            policy=policy_of(
                found.scaling,
                learned=learned,
                size_bytes=self._sizes.get(function.name, USUAL_BYTES),
            ),
            confinement=Confinement(
                max_memory_bytes=found.max_memory_bytes,
                open_files=self._open_files,
                cpus=None if found.cpus is None else processors(function.key, found.cpus),
                environment=dict(found.environment),
            ),
            kind=CUDA if "cuda" in found.providers else CPU,
        )
        self._known[function.key] = found, learned, limits
        return limits


def processors(key: str, count: int, among: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Which *count* processors a function's instances may run on; its name says where to begin.

    Args:
        key: what the function is called.
        count: how many; all where there are no more.
        among: by default those that this process may run on.
    """
    there = sorted(os.sched_getaffinity(0) if among is None else among)
    first = zlib.crc32(key.encode()) % len(there)
    return tuple(sorted((there * 2)[first : first + min(count, len(there))]))
