"""Cuts that devices may follow, as the service takes them in and tells of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cloud_fn.functions import Function
from cloud_fn.functions.cuts import Cut, CutsReport, cuts_of
from protos.invocation import Route


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


def deployed(cuts: Cuts, function: Function, many: Iterable[Iterable[str]]) -> Deployment:
    """Have the tails after *many* cuts, each given by its tensors, loaded where *function* runs.

    Raises:
        InvalidRequest: more than a deployment may have; see :func:`cuts_of`.
    """
    asked = cuts_of(many)
    found = cuts.deploy(function, asked)
    return Deployment(
        model=function.model,
        version=function.version,
        warm=found.warm,
        refused=tuple((cut, found.refused[cut]) for cut in asked if cut in found.refused),
    )


def cut_asked(route: Route) -> Cut | None:
    """The cut whose tail a request ran; None if it ran the whole model or a piece within it."""
    if route.cut is None or route.outputs:
        return None
    return tuple(sorted(route.input_names))
