"""One invocation through a model's stages, each of which is a function of its own to the pool.

The chain stands between whoever calls functions and the pool, and holds what a later stage will
read: bytes, which it never looks into. Stages are pure, so a stage whose instance was lost is asked
again with the same bytes. Invocations that run beside each other are in different stages at the
same time; that is all it takes to pipeline a stream.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import msgspec

from cloud_fn.errors import FunctionFailed, InvalidRequest
from cloud_fn.functions import Answer, Function
from cloud_fn.functions.again import ATTEMPTS, until_answered
from planner.errors import CutError
from planner.routing import Leg, Routes
from planner.stagings import Staging
from protos import relay, wire
from protos.errors import WireError
from protos.invocation import Reply, Request, Route
from protos.relay import Parcel
from protos.tensors import Buffer


class Calls(Protocol):
    """What runs functions: :class:`cloud_fn.functions.Pool`."""

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        """See :meth:`cloud_fn.functions.Pool.call`."""


class Chain:
    """A function in stages. Safe to use from many threads."""

    def __init__(
        self,
        function: Function,
        staging: Staging,
        calls: Calls,
        *,
        attempts: int = ATTEMPTS,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Set up.

        Args:
            function: the whole model's.
            staging: its stages.
            calls: what runs them.
            attempts: how often a stage is asked at most while its instances are lost.
            clock: the one that deadlines are on.
        """
        if attempts < 1:
            raise ValueError(f"a stage takes at least one attempt, got {attempts}")
        self.function = function
        self.functions = stage_functions(function, len(staging.stages))
        self._routes = Routes(staging)
        self._calls = calls
        self._attempts = attempts
        self._clock = clock

    def call(self, body: Buffer, *, deadline_s: float | None = None) -> Answer:
        """Run one encoded request, whole or between any of the model's tensors.

        Returns:
            One answer. Its init, load and infer are the sums over the stages; what is left of the
            time after the first stage was handed its request counts as response.

        Raises:
            InvalidRequest | FunctionFailed | DeadlinePassed: of a stage, which the message names.
            InstanceLost: a stage's instances were lost as often as it may be asked.
            WireError: *body* is malformed.
            Stopping: the pool closes.
        """
        asked = wire.route(body)
        held = relay.inputs_of(body)
        try:
            way = self._routes.find(tuple(held), asked.outputs, answer=asked.cut is not None)
        except CutError as error:
            raise InvalidRequest(str(error)) from error
        if not way.legs:
            raise InvalidRequest("every tensor that is asked for was sent: ask for another")
        answers: list[Answer] = []
        for leg in way.legs:
            request = Request(
                model=self.functions[leg.stage].model,
                version=str(self.function.version),
                id=asked.id,
                outputs=leg.outputs,
            )
            sent = relay.request_of(request, [held[name] for name in leg.inputs])
            for name in leg.spent:
                del held[name]
            answer = self._ask(leg, sent, deadline_s)
            held |= self._made(leg, answer)
            answers.append(answer)
        return self._together(answers, asked, [held[name] for name in way.answers])

    def _ask(self, leg: Leg, body: bytes, deadline_s: float | None) -> Answer:
        """Have one stage run, again while its instances are lost."""
        function = self.functions[leg.stage]
        return until_answered(
            lambda: self._calls.call(function, body, deadline_s=deadline_s),
            where=self._where(leg),
            attempts=self._attempts,
            deadline_s=deadline_s,
            clock=self._clock,
        )

    def _made(self, leg: Leg, answer: Answer) -> dict[str, Parcel]:
        """What a stage was asked for."""
        try:
            made = relay.outputs_of(answer.body)
        except WireError as error:
            raise FunctionFailed(f"{self._where(leg)} answered no tensors: {error}") from error
        if lacking := [name for name in leg.outputs if name not in made]:
            raise FunctionFailed(f"{self._where(leg)} did not answer with {lacking[0]!r}")
        return {name: made[name] for name in leg.outputs}

    def _where(self, leg: Leg) -> str:
        return f"stage {leg.stage + 1} of {len(self.functions)} of {self.function.key}"

    def _together(self, answers: list[Answer], asked: Route, outputs: list[Parcel]) -> Answer:
        """All stages' answers as one; see :func:`cloud_fn.service.account` for what it makes."""
        reply = Reply(model=self.function.model, version=str(self.function.version), id=asked.id)
        # Instances that later stages waited for came after the first request was handed over.
        waited_s = sum(answer.init_s for answer in answers[1:])
        return replace(
            answers[-1],
            body=relay.reply_of(reply, outputs),
            instance=",".join(answer.instance for answer in answers),
            handed_s=answers[0].handed_s + waited_s,
            init_s=answers[0].init_s + waited_s,
            load_s=sum(answer.load_s for answer in answers),
            infer_s=sum(answer.infer_s for answer in answers),
        )


def stage_functions(function: Function, count: int) -> tuple[Function, ...]:
    """The function of each stage: the same model under a name that no published one may have.

    An instance runs whatever piece lies between the tensors that it is sent and asked for, and
    maps no weights but those of that piece.
    """
    return tuple(
        msgspec.structs.replace(function, model=f"{function.model}@{number}of{count}")
        for number in range(1, count + 1)
    )
