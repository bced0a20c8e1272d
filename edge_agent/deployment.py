"""What the agent tells the gateway at each connection: the cuts that its plans may take.

The gateway then has their tails loaded before a plan is followed. It may do without: nothing here
waits for it, or fails when it does not listen.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from planner.plans import Plan
from protos.deployments import (
    DEPLOY,
    MAX_CUTS,
    MAX_NAME_CHARS,
    MAX_TENSORS,
    Tensors,
    decode_deployed,
    encode_deployment,
)
from protos.errors import WireError
from protos.messages import ModelRef

log = logging.getLogger(__name__)

LIMIT_S = 10.0
_NO_GATEWAYS_FAULT = frozenset(
    {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
)
"""It is an older one, or the connection is gone, of which the uplink tells."""

Metadata = tuple[tuple[str, str], ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The cuts of one model's plans that the cloud finishes."""

    model: str
    version: str
    cuts: tuple[Tensors, ...]


def deployments(
    models: Mapping[str, ModelRef], plans: Mapping[tuple[str, str], Plan | None]
) -> tuple[Deployment, ...]:
    """What to deploy for these models and their *plans*, which are named by model and id. Pure.

    Those plans come first that the table may name; refused ones may still be pinned. What exceeds
    a deployment's bounds is left to its first request.
    """
    found = []
    for name, ref in models.items():
        those = [plan for (model, _), plan in plans.items() if model == name and plan is not None]
        cuts = tuple(dict.fromkeys(_cuts(sorted(those, key=lambda plan: bool(plan.refused)))))
        if cuts:
            found.append(Deployment(model=name, version=ref.version, cuts=cuts[:MAX_CUTS]))
    return tuple(found)


def _cuts(plans: Sequence[Plan]) -> Iterator[Tensors]:
    for plan in plans:
        tensors = tuple(sorted({each.tensor for each in plan.crossing}))
        if plan.remote and len(tensors) <= MAX_TENSORS and max(map(len, tensors)) <= MAX_NAME_CHARS:
            yield tensors


class Deployer:
    """Tells a gateway of all *deployments*, one after the other."""

    def __init__(self, deployments: Sequence[Deployment]) -> None:
        self._deployments = deployments
        self._said: dict[str, str] = {}

    async def deploy(self, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        """Tell it over *channel*; what goes wrong is logged, once until something else does."""
        for each in self._deployments:
            call: Any = channel.unary_unary(DEPLOY)
            request = encode_deployment(each.model, each.version, each.cuts)
            try:
                found = decode_deployed(await call(request, metadata=metadata, timeout=LIMIT_S))
            except grpc.aio.AioRpcError as error:
                if error.code() in _NO_GATEWAYS_FAULT:
                    return
                self._warn(each, f"{error.code().name} {error.details()}")
            except (WireError, grpc.aio.UsageError) as error:
                self._warn(each, str(error))
            else:
                log.info(
                    "cuts deployed: model=%s cuts=%d warm=%d",
                    each.model,
                    len(each.cuts),
                    len(set(found.warm) & set(each.cuts)),
                )
                reasons = (f"{', '.join(cut)}: {reason}" for cut, reason in found.refused)
                self._warn(each, "; ".join(reasons))

    def _warn(self, deployment: Deployment, reason: str) -> None:
        if reason and self._said.get(deployment.model) != reason:
            log.warning("cuts not deployed: model=%s reason=%s", deployment.model, reason[:400])
        self._said[deployment.model] = reason
