"""Instances that open what the registry has of their version for this kind of machine now.

A version may be made ready by another machine, or another process, long after the gateway first
looked. That changes nothing of what a function is, so the instances that run stay; those that are
started from then on open what was made.
"""

import logging
from collections.abc import Callable

import msgspec

from cloud_fn.errors import CloudError
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.launch import CPU, Launcher, Running
from cloud_fn.functions.node_cache import NodeCache
from cloud_fn.functions.spec import Function, ReadyFiles
from cloud_fn.registry import Catalog
from planner.memo import Stamp

log = logging.getLogger(__name__)

_STAGE = "@"  # of a stage's function, after its model's name; see :func:`chain.stage_functions`


class Fresh:
    """A launcher before another: functions are as the registry has them when they are started.

    To see that nothing changed costs one ``stat``; to look again 0.4 ms (a version of 5 MB,
    2026-11).
    """

    def __init__(self, launcher: Launcher, catalog: Catalog, cache: NodeCache) -> None:
        """Set up.

        Args:
            launcher: what starts them.
            catalog: the registry.
            cache: what this node has made of versions.
        """
        self._launcher, self._catalog, self._cache = launcher, catalog, cache
        self._known: dict[tuple[str, int], tuple[Stamp | None, tuple[ReadyFiles, ...]]] = {}

    def start(
        self,
        function: Function,
        *,
        timeout_s: float,
        confinement: Confinement | None = None,
        kind: str = CPU,
        fits: Callable[[str], bool] = lambda _: True,
    ) -> Running:
        """See :class:`cloud_fn.functions.launch.Launcher`."""
        return self._launcher.start(
            msgspec.structs.replace(function, ready=self._ready(function)),
            timeout_s=timeout_s,
            confinement=confinement,
            kind=kind,
            fits=fits,
        )

    def end(self, running: Running) -> None:
        """See :class:`cloud_fn.functions.launch.Launcher`."""
        self._launcher.end(running)

    def why_ended(self, running: Running) -> str | None:
        """See :class:`cloud_fn.functions.launch.Launcher`."""
        return self._launcher.why_ended(running)

    def _ready(self, function: Function) -> tuple[ReadyFiles, ...]:
        model = function.model.partition(_STAGE)[0]
        key = model, function.version
        stamp = self._catalog.variants_stamp(*key)
        known = self._known.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            manifest = self._catalog.manifest(model, str(function.version))
            found = Function.of(manifest, self._catalog, cache=self._cache).ready
        except CloudError as error:  # an instance finds out what that means for it
            log.warning("not looked at again: function=%s error=%s", function.key, error)
            return function.ready
        self._known[key] = stamp, found
        return found
