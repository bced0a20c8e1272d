"""Cuts that devices may follow, as the service takes them in and tells of them."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cloud_fn.errors import CloudError
from cloud_fn.functions import Function
from cloud_fn.functions.cuts import Cut, CutsReport, cuts_of
from cloud_fn.registry.deployment_store import Kept
from protos.invocation import Route

log = logging.getLogger(__name__)


class Cuts(Protocol):
    """What has tails loaded ahead: :class:`cloud_fn.functions.warming.Warming`."""

    def deploy(self, function: Function, cuts: Sequence[Cut]) -> CutsReport:
        """See :meth:`cloud_fn.functions.warming.Warming.deploy`."""

    def report(self, function: Function) -> CutsReport:
        """See :meth:`cloud_fn.functions.warming.Warming.report`."""

    def used(self, function: Function, instance: str, cut: Cut) -> None:
        """See :meth:`cloud_fn.functions.warming.Warming.used`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What became of the cuts that a device deployed.

    Every instance that runs has the tails of those in ``warm``; the ``refused`` ones, each with the
    reason, are of this deployment.
    """

    model: str
    version: int
    warm: tuple[Cut, ...] = ()
    refused: tuple[tuple[Cut, str], ...] = ()


def deployed(
    cuts: Cuts,
    function: Function,
    many: Iterable[Iterable[str]],
    note: Callable[[Kept], object],
) -> Deployment:
    """Have the tails after *many* cuts, each given by its tensors, loaded where *function* runs.

    Args:
        cuts: what loads them.
        function: what runs.
        many: the cuts.
        note: is told of them once they are taken in.

    Raises:
        InvalidRequest: more than a deployment may have; see :func:`cuts_of`.
    """
    asked = cuts_of(many)
    found = cuts.deploy(function, asked)
    note(
        Kept(
            name=function.name or function.model,
            model=function.model,
            version=function.version,
            cuts=asked,
        )
    )
    return Deployment(
        model=function.model,
        version=function.version,
        warm=found.warm,
        refused=tuple((cut, found.refused[cut]) for cut in asked if cut in found.refused),
    )


def deploy_again(deploy: Callable[[Kept], object], kept: Iterable[Kept]) -> None:
    """Have what was deployed before the server was started loaded by the instances to come.

    What cannot be, because its version is gone or has a name that is another model's now, is logged
    and left out.
    """
    for each in kept:
        try:
            deploy(each)
        except CloudError as error:
            log.info(
                "cuts not deployed again: function=%s version=%d error=%s",
                each.name,
                each.version,
                error,
            )


def cut_asked(route: Route) -> Cut | None:
    """The cut whose tail a request ran; None if it ran the whole model or a piece within it."""
    if route.cut is None or route.outputs:
        return None
    return tuple(sorted(route.input_names))
