"""The pool, and before it the chains of those functions that run in stages."""

import threading
from collections.abc import Callable
from typing import Protocol

from cloud_fn.deployments import Cuts
from cloud_fn.functions import Answer, Function
from cloud_fn.functions.chain import Chain
from planner.stagings import Staging


class Instances(Protocol):
    """What runs functions in one piece: :class:`cloud_fn.functions.Pool`."""

    @property
    def cuts(self) -> Cuts:
        """See :attr:`cloud_fn.functions.Pool.cuts`."""

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        """See :meth:`cloud_fn.functions.Pool.call`."""

    def expect(self, function: Function) -> None:
        """See :meth:`cloud_fn.functions.Pool.expect`."""

    def deploy(self, function: Function) -> None:
        """See :meth:`cloud_fn.functions.Pool.deploy`."""


class Staged:
    """Calls functions, in stages or whole, as the registry says at each call."""

    def __init__(
        self, instances: Instances, stages_of: Callable[[str, int], Staging | None]
    ) -> None:
        """Set up.

        Args:
            instances: what runs a stage, or a function that has none.
            stages_of: the stages of a model's version, None where it is whole.
        """
        self._instances = instances
        self._stages_of = stages_of
        self._chains: dict[str, tuple[Function, Staging, Chain]] = {}
        self._lock = threading.Lock()

    @property
    def cuts(self) -> Cuts:
        """What has the tails of functions loaded ahead that run in one piece."""
        return self._instances.cuts

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        """See :meth:`cloud_fn.functions.Pool.call` and :meth:`Chain.call`.

        The instances of later stages start with that of the first: a cold chain pays for the
        slowest start and not for their sum.
        """
        staging = self._stages_of(function.model, function.version)
        if staging is None:
            return self._instances.call(function, body, deadline_s=deadline_s)
        chain = self._chain(function, staging)
        for stage in chain.functions[1:]:
            self._instances.expect(stage)
        return chain.call(body, deadline_s=deadline_s)

    def deploy(self, function: Function) -> None:
        """Have the instances that *function* keeps in any case, of each stage where it has any."""
        staging = self._stages_of(function.model, function.version)
        stages = [function] if staging is None else self._chain(function, staging).functions
        for each in stages:
            self._instances.deploy(each)

    def _chain(self, function: Function, staging: Staging) -> Chain:
        with self._lock:
            known = self._chains.get(function.key)
            if known is None or known[0] is not function or known[1] is not staging:
                made = Chain(function, staging, self._instances)
                known = self._chains[function.key] = (function, staging, made)
            return known[2]
